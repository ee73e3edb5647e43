//! A temporary folder whose configuration is trusted; other crates' tests need one too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::unistd::geteuid;

/// Makes a folder of which this user and root alone can write every folder above, as `/tmp` is not.
pub(crate) fn make() -> tempfile::TempDir {
    let candidates = ["HOME", "XDG_RUNTIME_DIR"]
        .into_iter()
        .filter_map(std::env::var_os)
        .map(PathBuf::from)
        .chain([PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from(env!("CARGO_MANIFEST_DIR"))]);
    let is_safe = |folder: &PathBuf| {
        folder.ancestors().all(|above| {
            fs::metadata(above).is_ok_and(|metadata| {
                let owner = metadata.uid();
                metadata.mode() & 0o022 == 0 && (owner == 0 || owner == geteuid().as_raw())
            })
        })
    };
    let base = candidates.filter_map(|folder| folder.canonicalize().ok()).find(is_safe);
    let base = base.expect(
        "one of $HOME, $XDG_RUNTIME_DIR and the checkout must be writable for this user and root alone",
    );
    tempfile::tempdir_in(base).unwrap()
}
