//! Without root: the agent takes and removes its own read-only folders, and cannot write into them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

use nix::unistd::Uid;

use crate::support::{Area, assert_whole, other_process, policy};

const PART: &str = "UNPRIVILEGED_PART_OF_TEST";
/// Debian's user nobody.
const NOBODY: u32 = 65534;

#[test]
fn an_agent_without_root_takes_prunes_and_mends_its_snapshots() {
    if !Uid::effective().is_root() {
        return take_and_prune();
    }
    println!("tier: root, the same is done in a process of user {NOBODY}");
    // The build's folder may be closed to others.
    let area = tempfile::TempDir::new().unwrap();
    let program = area.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    nix::unistd::chown(area.path(), Some(Uid::from_raw(NOBODY)), None).unwrap();
    let test = "unprivileged::an_agent_without_root_takes_prunes_and_mends_its_snapshots";
    let mut command = std::process::Command::new(&program);
    command.args(other_process(test, (PART, Path::new(""))).get_args());
    command.env("TMPDIR", area.path()).current_dir("/").uid(NOBODY).gid(NOBODY);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

fn take_and_prune() {
    let area = Area::with_manifest();
    let store = area.store();
    let snapshot = store.take(&area.scripts, &policy()).unwrap();
    assert_whole(&snapshot);
    fs::write(snapshot.path().join("deploy/web.sh"), "x").unwrap_err();
    fs::write(snapshot.path().join("new"), "x").unwrap_err();
    fs::remove_file(snapshot.path().join("deploy/web.sh")).unwrap_err();
    let digest = snapshot.digest();
    drop(snapshot);
    assert_eq!(store.prune(0).unwrap(), [digest]);

    // A refused folder: what was copied until then is removed, nested folders too.
    fs::write(area.script("lib/common.sh"), "tampered").unwrap();
    store.take(&area.scripts, &policy()).unwrap_err();
    assert_eq!(fs::read_dir(store.path()).unwrap().count(), 2, "the lock and the ratchet");
    area.create_manifest();
    let digest = store.take(&area.scripts, &policy()).unwrap().digest();

    // One that is damaged is set aside though its folders are read-only.
    let manifest = store.path().join(digest.to_string()).join("MANIFEST.sha256");
    fs::set_permissions(&manifest, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&manifest, "").unwrap();
    area.store().open(&digest).unwrap_err();
    store.take(&area.scripts, &policy()).unwrap();
    assert!(store.path().join(format!("damaged-{digest}")).exists());
}
