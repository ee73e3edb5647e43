//! What scripts leave in their folders is removed, however deep or odd it is, and nothing else.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use executor_core::{ExecuteScriptRequest, KillScope, remove_folder};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, mkdirat};

use crate::bench::{Bench, Mounted, eventually};
use crate::helper::{self, NOBODY};
use crate::recovery;

/// Far more than any stack or table of descriptors holds.
pub(crate) const LEVELS: usize = 20_000;

/// Lets the process have all descriptors that it may, as the agent does: without that, who recurses is saved by running
/// out of them.
fn raise_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Root may have more.
    let raised = setrlimit(Resource::RLIMIT_NOFILE, 65_536.max(most), 65_536.max(most));
    raised.or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most)).unwrap();
}

/// Makes folders within each other.
pub(crate) fn nest(folder: &Path, levels: usize) {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut inner: OwnedFd = open(folder, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&inner, "d", Mode::S_IRWXU).unwrap();
        inner = openat(&inner, "d", flags, Mode::empty()).unwrap();
    }
}

#[test]
fn a_script_that_nests_folders_in_its_scratch_ends_no_agent() {
    raise_descriptors();
    let bench = Bench::new();
    let executor = bench.executor();
    let nesting = format!(
        "echo \"$TMPDIR\"; cd \"$TMPDIR\"\n\
        python3 -c 'import os\nfor _ in range({LEVELS}): os.mkdir(\"d\"); os.chdir(\"d\")'"
    );
    let nesting = bench.script("nest.sh", &nesting);
    let (result, output) = bench.run_on(&executor, ExecuteScriptRequest::new(nesting));
    assert!(result.success, "{output}");
    let scratch = Path::new(output.trim());
    eventually("its scratch is still there", || !scratch.exists());
    let next = ExecuteScriptRequest::new(bench.script("next.sh", "exit 0"));
    assert!(bench.run_on(&executor, next).0.success);
}

#[test]
fn what_an_agent_that_died_left_nested_in_scratch_keeps_none_from_starting() {
    raise_descriptors();
    let bench = Bench::new();
    recovery::dead_agent(&bench, KillScope::Marker, 1);
    let scratch = recovery::scratch_of_instance(&bench);
    nest(&scratch, LEVELS);
    bench.executor();
    assert!(!scratch.exists());
}

#[test]
fn depth_and_width_take_neither_stack_nor_descriptors() {
    // In memory, since disks take their time for so many.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    nest(place.path(), LEVELS);
    for number in 0..500 {
        let inner = place.path().join("d/wide").join(number.to_string());
        fs::create_dir_all(inner.join("er/still")).unwrap();
        fs::write(inner.join("file"), "x").unwrap();
    }
    helper::run("remove with few descriptors and little stack", place.path());
    assert!(!place.path().join("d").exists());
}

pub(crate) fn help(folder: &Path) {
    setrlimit(Resource::RLIMIT_NOFILE, 16, 16).unwrap();
    let path = folder.join("d");
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || remove_folder(&path));
    thread.unwrap().join().unwrap().unwrap();
}

#[test]
fn links_lead_the_removal_nowhere_and_names_do_not_collide() {
    let bench = Bench::new();
    let (folder, decoy) = (bench.path("folder"), bench.path("decoy"));
    fs::create_dir(&decoy).unwrap();
    fs::write(decoy.join("precious"), "x").unwrap();
    // Numbers, since what is moved up gets one.
    for inner in ["1/2/3", "2/1/1/1", "3", "4/4/4/4", "deep/5/6"] {
        fs::create_dir_all(folder.join(inner)).unwrap();
        fs::write(folder.join(inner).join("7"), "x").unwrap();
        symlink(&decoy, folder.join(inner).join("link")).unwrap();
    }
    fs::write(folder.join("5"), "x").unwrap();
    remove_folder(&folder).unwrap();
    assert!(!folder.exists());
    symlink(&decoy, &folder).unwrap();
    remove_folder(&folder).unwrap();
    assert!(folder.symlink_metadata().is_err());
    assert!(decoy.join("precious").exists());
    assert_eq!(remove_folder(&folder).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn what_is_mounted_in_it_is_not_looked_into_and_the_rest_goes() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    let Some(_mounted) = Mounted::tmpfs(&folder.join("mounted"), "size=64k") else { return };
    fs::write(folder.join("mounted/precious"), "x").unwrap();
    fs::create_dir_all(folder.join("other/inner")).unwrap();
    let error = remove_folder(&folder).unwrap_err();
    assert!(error.to_string().starts_with("'mounted': "), "{error}");
    assert!(folder.join("mounted/precious").exists() && !folder.join("other").exists());
}

#[test]
fn folders_that_their_owner_may_not_read_or_write_go_too() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    for inner in ["a/b/c/d", "a/b/e/f", "g/h"] {
        fs::create_dir_all(folder.join(inner)).unwrap();
        fs::write(folder.join(inner).join("file"), "x").unwrap();
    }
    let mut remove = helper::command("remove what is closed", &bench.path(""));
    if nix::unistd::geteuid().is_root() {
        // Root may do without, so that it is done as somebody else.
        let all = std::process::Command::new("chown")
            .arg("-R")
            .arg(NOBODY.to_string())
            .arg(bench.path(""))
            .status();
        assert!(all.unwrap().success());
        remove = helper::as_nobody(&remove);
    }
    let modes =
        [("a/b/c", 0), ("a/b/e", 0o500), ("a/b", 0o500), ("a", 0o300), ("g/h", 0o100), ("g", 0o400), ("", 0)];
    for (inner, mode) in modes {
        fs::set_permissions(folder.join(inner), fs::Permissions::from_mode(mode)).unwrap();
    }
    helper::finish(remove);
    assert!(!folder.exists());
}

pub(crate) fn help_with_closed_folders(folder: &Path) {
    remove_folder(&folder.join("folder")).unwrap();
}
