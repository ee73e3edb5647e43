//! The two halves of judging a folder that verifying, copying and checking a snapshot share: what its
//! manifest says and who vouches for it, and whether its files are what the manifest lists.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::digest::{CHUNK_BYTES, Digest, Hasher};
use crate::folder::{self, FoundFile, MAX_FILE_BYTES, Visitor};
use crate::manifest::parse::parse_all;
use crate::manifest::{MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest};
use crate::problem::{FileFault, ManifestFault, Problem, Problems};
use crate::signature::{MAX_SIGNATURE_BYTES, PublicKey, SIGNATURE_NAME, check_signature};
use crate::store::snapshot::{SnapshotFile, file_mode};
use crate::verify::VerifyPolicy;
use crate::{RelativeName, fs};

/// A manifest as it was read once from a folder, with its signature; nothing is read a second time.
pub(crate) struct Seal {
    pub(crate) manifest: Manifest,
    pub(crate) signature: Option<Vec<u8>>,
    pub(crate) signed_by: Option<PublicKey>,
}

/// Reads the manifest of the folder `root` and judges it by `policy`. None when there is nothing that
/// could be read as one, which is among the problems then.
pub(crate) fn read_seal(root: &File, policy: &VerifyPolicy, problems: &mut Problems) -> Option<Seal> {
    let signature = folder::read_checked(root, SIGNATURE_NAME, MAX_SIGNATURE_BYTES, problems);
    let manifest = read_manifest(root, problems)?;
    let signed_by = if policy.keys().is_empty() {
        None
    } else {
        match check_signature(manifest.as_bytes(), signature.as_deref(), policy.keys()) {
            Ok(key) => Some(key),
            Err(fault) => {
                problems.push(Problem::Manifest(fault));
                None
            }
        }
    };
    // A header that could not be read says nothing about its age.
    if !problems.as_slice().iter().any(Problem::is_bad_header) {
        policy.judge(manifest.header(), problems);
    }
    Some(Seal { manifest, signature, signed_by })
}

/// Reads the manifest of the folder `root`; one with mistakes is given as far as it could be read.
pub(crate) fn read_manifest(root: &File, problems: &mut Problems) -> Option<Manifest> {
    match folder::read_checked(root, MANIFEST_NAME, MAX_MANIFEST_BYTES, problems) {
        Some(bytes) => Some(parse_all(bytes, problems)),
        None => {
            let gone = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
            if fs::stat_at(root, Path::new(MANIFEST_NAME)).is_err_and(gone) {
                problems.push(Problem::Manifest(ManifestFault::Absent));
            }
            None
        }
    }
}

/// Compares every file of the folder `root` with what `manifest` lists, and copies it, when `copy_to` names a folder,
/// while it is being hashed. Copying stops at the first problem, the comparing goes on.
///
/// Gives the files that are as listed. Without a manifest the files are looked at for what is wrong in any
/// case. An error is one of writing the copy.
pub(crate) fn check_files(
    root: &File,
    manifest: Option<&Manifest>,
    copy_to: Option<&File>,
    problems: &mut Problems,
) -> io::Result<BTreeMap<RelativeName, SnapshotFile>> {
    let entries = manifest.map(Manifest::entries);
    let mut checker =
        Checker { entries, copy_to, chunk: vec![0; CHUNK_BYTES], seen: BTreeMap::new(), failed: None };
    folder::walk(root, &mut checker, problems);
    if let Some(error) = checker.failed {
        return Err(error);
    }
    let listed = entries.into_iter().flat_map(BTreeMap::keys);
    tell_missing(listed.filter(|name| !checker.seen.contains_key(*name)), problems);
    Ok(checker.seen.into_iter().filter_map(|(name, file)| Some((name, file?))).collect())
}

/// Tells every one of `names` as missing that has not been told already as a link, a device and so on.
/// Afterwards there is at least one problem for each file that was not found as listed.
fn tell_missing<'a>(names: impl Iterator<Item = &'a RelativeName>, problems: &mut Problems) {
    let told: HashSet<String> = problems.as_slice().iter().map(|problem| problem.file().to_owned()).collect();
    for name in names.filter(|name| !told.contains(name.as_str())) {
        problems.push(Problem::file_fault(name.as_str(), FileFault::Missing));
    }
}

struct Checker<'a> {
    entries: Option<&'a BTreeMap<RelativeName, Digest>>,
    copy_to: Option<&'a File>,
    chunk: Vec<u8>,
    /// Every listed file that was found; None when it is not as listed.
    seen: BTreeMap<RelativeName, Option<SnapshotFile>>,
    /// Why the copy could not be written.
    failed: Option<io::Error>,
}

impl Visitor for Checker<'_> {
    fn visit(&mut self, found: FoundFile, problems: &mut Problems) {
        let FoundFile { name, file, executable } = found;
        if self.failed.is_some() {
            return;
        }
        let Some(entries) = self.entries else { return };
        let Some(&listed) = entries.get(&name) else {
            return problems.push(Problem::file_fault(name.as_str(), FileFault::Unlisted));
        };
        let copy = match self.copy_to.filter(|_| problems.is_empty()) {
            Some(folder) => match create_copy(folder, &name, executable) {
                Ok(copy) => Some(copy),
                Err(error) => return self.failed = Some(error),
            },
            None => None,
        };
        let good = match digest_while_copying(file, copy, &mut self.chunk) {
            Ok(found) if found == listed => {
                Some(SnapshotFile { name: name.clone(), digest: listed, executable })
            }
            Ok(found) => {
                let fault = FileFault::DigestDiffers { listed, found };
                problems.push(Problem::file_fault(name.as_str(), fault));
                None
            }
            Err(Failure::TooLarge) => {
                problems.push(Problem::file_fault(name.as_str(), FileFault::TooLarge));
                None
            }
            Err(Failure::Read(error)) => {
                problems.push(folder::unreadable(name.as_str(), &error));
                None
            }
            Err(Failure::Write(error)) => return self.failed = Some(error),
        };
        self.seen.insert(name, good);
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
    TooLarge,
}

/// The digest of `source`. With a `copy`, the bytes that are hashed are the bytes that are written: whoever
/// rewrites the source meanwhile changes both or neither.
fn digest_while_copying(
    mut source: File,
    mut copy: Option<File>,
    chunk: &mut [u8],
) -> Result<Digest, Failure> {
    let mut hasher = Hasher::default();
    let mut total = 0;
    loop {
        let count = fs::uninterrupted(|| source.read(chunk)).map_err(Failure::Read)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        total += count as u64;
        if total > MAX_FILE_BYTES {
            return Err(Failure::TooLarge);
        }
        hasher.update(&chunk[..count]);
        if let Some(copy) = &mut copy {
            copy.write_all(&chunk[..count]).map_err(Failure::Write)?;
        }
    }
}

/// Makes the file of a copy, and the folders on the way to it. The folder is the agent's own, so that its
/// paths may be walked by name.
fn create_copy(folder: &File, name: &RelativeName, executable: bool) -> io::Result<File> {
    let mode = file_mode(executable);
    let path: &Path = name.as_ref();
    match fs::create_file_at(folder, path, mode) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_folders_at(folder, parent)?;
            }
            fs::create_file_at(folder, path, mode)
        }
        other => other,
    }
}
