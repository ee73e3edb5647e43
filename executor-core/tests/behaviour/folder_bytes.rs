//! What a folder takes on the disk is told as du(1) tells it, however deep or odd it is.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use executor_core::{folder_bytes, remove_folder};
use nix::sys::resource::{Resource, setrlimit};

use crate::bench::{Bench, Mounted};
use crate::helper::{self, NOBODY};
use crate::removal::{LEVELS, nest};

/// What du(1) says of the same folder.
fn told_by_du(folder: &Path) -> u64 {
    let output = Command::new("du").args(["-x", "-s", "--block-size=1"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn depth_and_width_take_neither_stack_nor_descriptors() {
    // In memory, since disks take their time for so many.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    nest(place.path(), LEVELS);
    for number in 0..200 {
        // Deep enough that the folder above has to be opened again.
        let inner = place.path().join("d/wide").join(number.to_string());
        fs::create_dir_all(inner.join("1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17/18/19/20")).unwrap();
        fs::write(inner.join("1/file"), vec![1; 10_000]).unwrap();
    }
    fs::write(place.path().join("d/d/d/behind"), vec![1; 100_000]).unwrap();
    let told = helper::run("tell the bytes with few descriptors and little stack", place.path());
    let expected = told_by_du(place.path());
    // What removes temporary folders recurses.
    remove_folder(&place.path().join("d")).unwrap();
    assert!(told.contains(&format!("it takes {expected} bytes")), "{told}");
    assert!(expected > 2_000_000, "otherwise nothing is shown");
}

pub(crate) fn help(folder: &Path) {
    setrlimit(Resource::RLIMIT_NOFILE, 64, 64).unwrap();
    let path = folder.to_owned();
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || folder_bytes(&path));
    println!("it takes {} bytes", thread.unwrap().join().unwrap().unwrap());
}

#[test]
fn links_holes_and_other_files_count_as_what_they_take() {
    let bench = Bench::new();
    let (folder, decoy) = (bench.path("folder"), bench.path("decoy"));
    for folder in [&folder, &decoy] {
        fs::create_dir_all(folder.join("inner")).unwrap();
        fs::write(folder.join("inner/file"), vec![1; 1 << 20]).unwrap();
    }
    symlink(&decoy, folder.join("to-a-folder")).unwrap();
    symlink(decoy.join("inner/file"), folder.join("inner/to-a-file")).unwrap();
    symlink(".", folder.join("inner/round-and-round")).unwrap();
    for number in 0..3 {
        fs::hard_link(folder.join("inner/file"), folder.join(format!("again-{number}"))).unwrap();
    }
    File::create(folder.join("hole")).unwrap().set_len(1 << 40).unwrap();
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let takes = folder_bytes(&folder).unwrap();
    assert_eq!(takes, told_by_du(&folder));
    assert!((1 << 20..2 << 20).contains(&takes), "{takes}: each file once, and nothing outside");
    // Half of a file whose other name stands elsewhere.
    fs::hard_link(decoy.join("inner/file"), bench.path("other-name")).unwrap();
    assert!(folder_bytes(&decoy).unwrap() < 1 << 20);
    assert_eq!(folder_bytes(&bench.path("none")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert!(folder_bytes(&folder.join("to-a-folder")).is_err(), "a link is no folder");
}

#[test]
fn what_is_mounted_in_it_does_not_count() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    let Some(_mounted) = Mounted::tmpfs(&folder.join("mounted"), "size=1m") else { return };
    fs::write(folder.join("mounted/file"), vec![1; 500_000]).unwrap();
    fs::write(folder.join("file"), vec![1; 10_000]).unwrap();
    assert!((10_000..100_000).contains(&folder_bytes(&folder).unwrap()));
}

#[test]
fn what_is_closed_to_its_owner_hides_nothing() {
    let bench = Bench::new();
    let folder = bench.path("folder");
    fs::create_dir_all(folder.join("a/b/c")).unwrap();
    fs::write(folder.join("a/b/c/file"), vec![1; 1 << 20]).unwrap();
    let expected = told_by_du(&folder);
    let mut tell = helper::command("tell the bytes of what is closed", &bench.path(""));
    if nix::unistd::geteuid().is_root() {
        // Root may do without, so that it is done as somebody else.
        let all = Command::new("chown").arg("-R").arg(NOBODY.to_string()).arg(bench.path("")).status();
        assert!(all.unwrap().success());
        tell = helper::as_nobody(&tell);
    }
    for (inner, mode) in [("a/b/c", 0), ("a/b", 0o400), ("a", 0o100), ("", 0)] {
        fs::set_permissions(folder.join(inner), fs::Permissions::from_mode(mode)).unwrap();
    }
    let told = helper::finish(tell);
    assert!(told.contains(&format!("it takes {expected} bytes")), "{told}");
}

pub(crate) fn help_with_closed_folders(folder: &Path) {
    println!("it takes {} bytes", folder_bytes(&folder.join("folder")).unwrap());
}
