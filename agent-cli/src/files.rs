//! The scripts folder as it lies there, for what neither verifies nor runs it: completion and `lint`.

use std::fs::{self, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use task_runners::header::HEAD_BYTES;
use task_runners::{NameError, ScriptName};

/// Something that lies in the folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    /// Its path below the folder, for people.
    pub(crate) shown: String,
    /// The same as a script's name, or why it can be none.
    pub(crate) name: Result<ScriptName, NameError>,
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    /// Why what is in it cannot be read, if it is such a folder.
    pub(crate) unreadable: Option<io::Error>,
}

impl Entry {
    pub(crate) fn is_executable_file(&self) -> bool {
        self.kind.is_file() && self.mode & 0o111 != 0
    }
}

/// Looks at everything below a folder, sorted. Links are not followed, hidden files and what no script's name can lead into
/// are not looked into; the grammar of names bounds the depth.
///
/// # Errors
/// When the folder itself cannot be read.
pub(crate) fn below(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    walk(folder, "", &mut entries)?;
    entries.sort_by(|one, other| one.shown.cmp(&other.shown));
    Ok(entries)
}

fn walk(folder: &Path, prefix: &str, entries: &mut Vec<Entry>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let shown = format!("{prefix}{}", entry.file_name().to_string_lossy());
        // Hidden ones are somebody else's, such as .git; what went away since the listing is nothing.
        let (Ok(kind), Ok(metadata)) = (entry.file_type(), entry.metadata()) else { continue };
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let name = shown.parse::<ScriptName>();
        let is_looked_into = kind.is_dir() && name.is_ok();
        let inner = if is_looked_into { walk(&entry.path(), &format!("{shown}/"), entries) } else { Ok(()) };
        let (path, mode, unreadable) = (entry.path(), metadata.mode(), inner.err());
        entries.push(Entry { path, shown, name, kind, mode, unreadable });
    }
    Ok(())
}

/// The first bytes of a script. Whatever was put in its place meanwhile is not waited for, and no link is followed.
///
/// # Errors
/// When it cannot be opened or read.
pub(crate) fn head(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}
