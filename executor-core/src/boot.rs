//! Whether a copy of another agent's log was begun since this host was started. After a loss of power a file may have bytes
//! that nobody ever wrote, which its length does not tell; what was begun since then is as it was written.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::durable;
use crate::proc::boot_id;
use crate::record::read_regular;

/// The file that names the boot, in a record. It is not flushed: one that is gone with the power says the same.
const FILE: &str = "boot";
/// More than the name of a boot has.
const MOST_BYTES: u64 = 64;

/// Notes this boot.
pub(crate) fn note(folder: &OwnedFd) -> io::Result<()> {
    match unlinkat(folder, FILE, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => durable::create(folder, FILE, boot_id()?.as_bytes(), 0o600),
        Err(error) => Err(error.into()),
    }
}

/// Whether this boot is the one that was noted.
pub(crate) fn is_of_this(folder: &OwnedFd) -> bool {
    let noted = read_regular(folder, FILE, MOST_BYTES).unwrap_or_default();
    boot_id().is_ok_and(|now| noted == now.as_bytes())
}
