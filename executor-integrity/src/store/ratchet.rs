//! Remembers the highest manifest versions that were accepted, so that an old manifest, however well
//! signed, cannot come back.
//!
//! A version counts for the key that signed it. Without keys anybody who can write the scripts folder can
//! set any version; when keys are configured later, such a version must not lock the operator out.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::{SnapshotStore, StoreError};
use crate::inspect::{Seal, read_manifest};
use crate::problem::{ManifestFault, Problem, Problems};
use crate::{Digest, PublicKey, VerifyPolicy, fs};

const NAME: &str = "ratchet";
const DAMAGED_NAME: &str = "ratchet.damaged";
/// How the names of its temporary files begin.
pub(super) const TEMPORARY_PREFIX: &str = ".ratchet.";
const FIRST_LINE: &str = "# highest accepted manifest version, and the public key that vouched for it\n";

/// Stands for the key where none is configured.
const UNSIGNED: &str = "unsigned";
/// Stands for every key: a version that was found in the store after the file was lost.
const ANY: &str = "any";

/// The largest file that is read, in bytes; some 10,000 keys.
const MAX_BYTES: u64 = 1 << 20;

type Versions = BTreeMap<String, u64>;

impl SnapshotStore {
    /// Whether a manifest was ever accepted into this store, or seen when
    /// [`VerificationMode::decide`](crate::VerificationMode::decide) was asked about its scripts folder.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn had_manifest(&self) -> Result<bool, StoreError> {
        let failed = self.failed("look for accepted manifests", NAME);
        Ok(self.has(NAME).map_err(&failed)? || self.has(DAMAGED_NAME).map_err(&failed)?)
    }

    fn has(&self, name: &str) -> io::Result<bool> {
        match fs::stat_at(&self.folder, Path::new(name)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Remembers that the scripts folder has a manifest, whether or not it verifies.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub(crate) fn note_manifest(&self) -> Result<(), StoreError> {
        let _guard = self.lock()?;
        if self.had_manifest()? { Ok(()) } else { self.save(&Versions::new()) }
    }

    /// The oldest version that is accepted where `keys` are configured.
    pub(super) fn floor(&self, keys: &[PublicKey]) -> Result<u64, StoreError> {
        let _guard = self.lock()?;
        Ok(floor(&self.versions()?, keys))
    }

    /// Remembers the version of a manifest that is about to be accepted. It is refused, with a problem, when
    /// a newer one has been accepted meanwhile.
    pub(super) fn raise(
        &self,
        seal: &Seal,
        policy: &VerifyPolicy,
        problems: &mut Problems,
    ) -> Result<(), StoreError> {
        let _guard = self.lock()?;
        let mut versions = self.versions()?;
        let version = seal.manifest.header().version;
        let minimum = floor(&versions, policy.keys());
        if version < minimum {
            let fault = ManifestFault::OlderVersion { version, minimum };
            problems.push(Problem::Manifest(fault));
            return Ok(());
        }
        let key = seal.signed_by.as_ref().map_or(UNSIGNED.to_owned(), ToString::to_string);
        if versions.get(&key) == Some(&version) {
            return Ok(());
        }
        versions.insert(key, version);
        self.save(&versions)
    }

    /// Reads the file. A damaged one is kept under another name, and replaced by what the snapshots in the store tell.
    /// Until that is on the disk the damaged one stays in its place: nothing there would mean that nothing was accepted.
    fn versions(&self) -> Result<Versions, StoreError> {
        let failed = self.failed("read accepted versions", NAME);
        match self.read_file().map_err(&failed)? {
            Some(text) => match parse(&text) {
                Some(versions) => return Ok(versions),
                None => self.keep_damaged(),
            },
            // Whoever set a damaged file aside did not come to write the new one.
            None if self.has(DAMAGED_NAME).map_err(&failed)? => {}
            None => return Ok(Versions::new()),
        }
        let versions = self.versions_of_snapshots().map_err(failed)?;
        tracing::warn!(
            path = %self.path.join(DAMAGED_NAME).display(),
            "the accepted versions were damaged: set aside, and made anew from the snapshots"
        );
        self.save(&versions)?;
        Ok(versions)
    }

    /// The file's text, which is empty when it is no text; none when there is no file.
    fn read_file(&self) -> io::Result<Option<String>> {
        let file = match fs::open_file_at(&self.folder, Path::new(NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        match file.take(MAX_BYTES).read_to_string(&mut text) {
            Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(error),
            _ => Ok(Some(text)),
        }
    }

    /// Gives the damaged file a second name, for a look at it. A file system that cannot do that loses it.
    fn keep_damaged(&self) {
        let linked = match unlinkat(&self.folder, DAMAGED_NAME, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {
                linkat(&self.folder, NAME, &self.folder, DAMAGED_NAME, AtFlags::empty())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = linked {
            tracing::warn!(%error, "the damaged file of accepted versions cannot be kept for a look");
        }
    }

    fn versions_of_snapshots(&self) -> io::Result<Versions> {
        let mut highest = None;
        for name in fs::names(&self.folder, usize::MAX)?.0 {
            let Some(digest) = name.to_str().and_then(|text| text.parse::<Digest>().ok()) else {
                continue;
            };
            let folder = fs::open_folder_at(&self.folder, Path::new(&name))?;
            let manifest = read_manifest(&folder, &mut Problems::default());
            let whole = manifest.filter(|manifest| manifest.digest() == digest);
            highest = highest.max(whole.map(|manifest| manifest.header().version));
        }
        Ok(highest.map(|version| (ANY.to_owned(), version)).into_iter().collect())
    }

    fn save(&self, versions: &Versions) -> Result<(), StoreError> {
        let mut text = FIRST_LINE.to_owned();
        for (key, version) in versions {
            text.push_str(&format!("{version} {key}\n"));
        }
        fs::write_atomically(&self.folder, NAME, text.as_bytes(), 0o600)
            .map_err(self.failed("write accepted versions", NAME))
    }
}

fn floor(versions: &Versions, keys: &[PublicKey]) -> u64 {
    let of = |key: &str| versions.get(key).copied().unwrap_or(0);
    let configured = if keys.is_empty() {
        of(UNSIGNED)
    } else {
        keys.iter().map(|key| of(&key.to_string())).max().unwrap_or(0)
    };
    configured.max(of(ANY))
}

/// None when the text is damaged: it must start with its first line and end with a newline.
fn parse(text: &str) -> Option<Versions> {
    let mut versions = Versions::new();
    let rest = text.strip_prefix(FIRST_LINE)?;
    if !rest.is_empty() && !rest.ends_with('\n') {
        return None;
    }
    for line in rest.lines() {
        let (version, key) = line.split_once(' ')?;
        let known = key == UNSIGNED || key == ANY || PublicKey::parse(key).is_ok();
        if !known || versions.insert(key.to_owned(), version.parse().ok()?).is_some() {
            return None;
        }
    }
    Some(versions)
}
