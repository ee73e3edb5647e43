//! Walks a scripts folder by folder descriptors. Whatever must not lie there becomes a problem; what
//! remains is handed to a visitor as open, checked files, in the order of their names.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::sys::stat::FileStat;
use nix::unistd::geteuid;

use crate::fs::{self, Kind};
use crate::problem::{FileFault, ManifestFault, Problem, Problems};
use crate::{MANIFEST_NAME, RelativeName, SIGNATURE_NAME};

/// The largest file of a scripts folder, in bytes (1 GiB). It bounds the time that a sparse file can cost.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The most files and folders that a scripts folder holds.
pub const MAX_FOLDER_ENTRIES: usize = 100_000;

/// Permission bits of group and others that allow to write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// The permission bit that lets the owner execute a file.
const EXECUTABLE: u32 = 0o100;

/// A regular file of the scripts folder, open for reading.
pub(crate) struct FoundFile {
    pub(crate) name: RelativeName,
    pub(crate) file: File,
    pub(crate) executable: bool,
}

/// Is shown every regular file with an allowed name, except the manifest and its signature.
pub(crate) trait Visitor {
    fn visit(&mut self, found: FoundFile, problems: &mut Problems);
}

/// Walks all of the folder `root`.
pub(crate) fn walk(root: &File, visitor: &mut dyn Visitor, problems: &mut Problems) {
    let stat = match fs::stat(root) {
        Ok(stat) => stat,
        Err(error) => return problems.push(unreadable(".", &error)),
    };
    let mut walker = Walker { owners: Owners::of(&stat), left: MAX_FOLDER_ENTRIES, visitor, problems };
    walker.owners.check(".", &stat, walker.problems);
    walker.folder(root, "");
}

/// Reads the file `name` directly in the folder `root`, of at most `limit` bytes, with the checks that
/// every file of the folder gets. None when it is absent or unreadable; the latter, and a larger file, is
/// a problem.
pub(crate) fn read_checked(root: &File, name: &str, limit: u64, problems: &mut Problems) -> Option<Vec<u8>> {
    let owners = match fs::stat(root) {
        Ok(stat) => Owners::of(&stat),
        // The walk over the same folder tells it.
        Err(_) => return None,
    };
    let file = match open_regular(root, Path::new(name)) {
        Ok(Opened::File(file, stat)) => {
            owners.check(name, &stat, problems);
            file
        }
        Ok(Opened::Gone) => return None,
        Ok(Opened::Other(fault)) => {
            problems.push(Problem::file_fault(name, fault));
            return None;
        }
        Err(error) => {
            problems.push(unreadable(name, &error));
            return None;
        }
    };
    let mut bytes = Vec::new();
    match file.take(limit + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 <= limit => return Some(bytes),
        Ok(_) if name == MANIFEST_NAME => problems.push(Problem::Manifest(ManifestFault::TooLarge)),
        Ok(_) => {
            let why = format!("the signature is larger than {limit} bytes");
            problems.push(Problem::Manifest(ManifestFault::BadSignature { why }));
        }
        Err(error) => problems.push(unreadable(name, &error)),
    }
    None
}

pub(crate) fn unreadable(name: &str, error: &io::Error) -> Problem {
    Problem::file_fault(name, FileFault::Unreadable { error: error.to_string() })
}

/// The users that may own what lies in a scripts folder.
struct Owners([u32; 3]);

impl Owners {
    fn of(root: &FileStat) -> Self {
        Self([0, geteuid().as_raw(), root.st_uid])
    }

    /// The checks that files and folders have in common.
    fn check(&self, name: &str, stat: &FileStat, problems: &mut Problems) {
        let mut fault = |fault| problems.push(Problem::file_fault(name, fault));
        if fs::kind(stat) == Kind::File && stat.st_nlink > 1 {
            fault(FileFault::HardLink { links: stat.st_nlink });
        }
        if stat.st_mode & WRITABLE_BY_OTHERS != 0 {
            fault(FileFault::WritableByOthers { mode: stat.st_mode & 0o7777 });
        }
        if !self.0.contains(&stat.st_uid) {
            fault(FileFault::ForeignOwner { uid: stat.st_uid });
        }
    }
}

/// What opening an entry as a regular file came to.
enum Opened {
    File(File, FileStat),
    /// It was removed since it was listed.
    Gone,
    Other(FileFault),
}

/// Opens `name` when it is a regular file. It is looked at before it is opened, since opening a device may
/// do something, and again afterwards, since it may have been replaced in between.
fn open_regular(folder: &File, name: &Path) -> io::Result<Opened> {
    let before = match fs::stat_at(folder, name) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
        Err(error) => return Err(error),
    };
    if let Some(fault) = no_file(&before) {
        return Ok(Opened::Other(fault));
    }
    let file = match fs::open_file_at(folder, name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
        Err(error) => return Err(error),
    };
    let stat = fs::stat(&file)?;
    Ok(match no_file(&stat) {
        Some(fault) => Opened::Other(fault),
        None => Opened::File(file, stat),
    })
}

fn no_file(stat: &FileStat) -> Option<FileFault> {
    match fs::kind(stat) {
        Kind::File => None,
        Kind::SymbolicLink => Some(FileFault::SymbolicLink),
        Kind::Folder => Some(FileFault::Special { kind: "folder, a file is expected" }),
        Kind::Special(kind) => Some(FileFault::Special { kind }),
    }
}

struct Walker<'a> {
    owners: Owners,
    /// How many entries may still follow.
    left: usize,
    visitor: &'a mut dyn Visitor,
    problems: &'a mut Problems,
}

impl Walker<'_> {
    /// Walks one folder, whose name with a slash behind it is `prefix`; the names' grammar bounds the depth.
    fn folder(&mut self, folder: &File, prefix: &str) {
        let (names, more) = match fs::names(folder, self.left) {
            Ok(listed) => listed,
            Err(error) => {
                let name = if prefix.is_empty() { "." } else { prefix };
                return self.problems.push(unreadable(name, &error));
            }
        };
        self.left -= names.len();
        for entry in &names {
            if prefix.is_empty() && (entry == MANIFEST_NAME || entry == SIGNATURE_NAME) {
                continue;
            }
            self.entry(folder, prefix, entry);
        }
        if more {
            self.problems.push(Problem::file_fault(format!("{prefix}..."), FileFault::TooMany));
        }
    }

    fn entry(&mut self, folder: &File, prefix: &str, entry: &OsStr) {
        let shown = format!("{prefix}{}", shown(entry));
        let name = match entry.to_str().map(|text| RelativeName::new(&format!("{prefix}{text}"))) {
            Some(Ok(name)) => name,
            Some(Err(error)) => return self.bad_name(shown, error.to_string()),
            None => return self.bad_name(shown, "the name is not UTF-8".to_owned()),
        };
        let outcome = match fs::stat_at(folder, Path::new(entry)) {
            Ok(stat) if fs::kind(&stat) == Kind::Folder => self.subfolder(folder, &name, entry),
            Ok(_) => self.file(folder, name, entry),
            Err(error) => Err(error),
        };
        match outcome {
            // What is gone by now is told as missing if it is listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.problems.push(unreadable(&shown, &error)),
            Ok(()) => {}
        }
    }

    fn subfolder(&mut self, folder: &File, name: &RelativeName, entry: &OsStr) -> io::Result<()> {
        let inner = fs::open_folder_at(folder, Path::new(entry))?;
        self.owners.check(name.as_str(), &fs::stat(&inner)?, self.problems);
        self.folder(&inner, &format!("{name}/"));
        Ok(())
    }

    fn file(&mut self, folder: &File, name: RelativeName, entry: &OsStr) -> io::Result<()> {
        match open_regular(folder, Path::new(entry))? {
            Opened::Gone => {}
            Opened::Other(fault) => self.problems.push(Problem::file_fault(name.as_str(), fault)),
            Opened::File(file, stat) => {
                self.owners.check(name.as_str(), &stat, self.problems);
                if u64::try_from(stat.st_size).is_ok_and(|size| size > MAX_FILE_BYTES) {
                    self.problems.push(Problem::file_fault(name.as_str(), FileFault::TooLarge));
                } else {
                    let executable = stat.st_mode & EXECUTABLE != 0;
                    self.visitor.visit(FoundFile { name, file, executable }, self.problems);
                }
            }
        }
        Ok(())
    }

    fn bad_name(&mut self, shown: String, rule: String) {
        let of = |name| fs::writer_of(&shown, name).is_some();
        if of(MANIFEST_NAME) || of(SIGNATURE_NAME) {
            return self.problems.push(Problem::file_fault(shown, FileFault::HalfWritten));
        }
        self.problems.push(Problem::file_fault(shown, FileFault::BadName { rule }));
    }
}

/// A name as it can be shown on a terminal.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().escape_debug().to_string()
}
