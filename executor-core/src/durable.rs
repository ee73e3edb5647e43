//! Writes small files so that a reader, or a power loss, finds either the old content or the new one, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `content` to `folder/name`: a temporary file, flushed, renamed over the name, and the folder flushed
/// (rename(2), fsync(2)).
///
/// # Errors
/// When any of these steps fails; the old content, if there was any, is still there then.
pub(crate) fn write(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.new"));
    // What a writer that died left behind is no longer anybody's.
    let _ = fs::remove_file(&temporary);
    let written = write_flushed(&temporary, content)
        .and_then(|()| fs::rename(&temporary, folder.join(name)))
        .and_then(|()| flush_folder(folder));
    if written.is_err() {
        // Left behind it would only take space; the error above is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Makes the names in a folder survive a power loss.
pub(crate) fn flush_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a file that was not there before, and writes `content`; what is flushed later, or never, is the caller's
/// to decide.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    open_new(path, mode)?.write_all(content)
}

fn write_flushed(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = open_new(path, 0o600)?;
    file.write_all(content)?;
    file.sync_all()
}

fn open_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(libc::O_NOFOLLOW).open(path)
}
