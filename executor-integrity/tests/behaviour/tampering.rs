//! A tampered scripts folder is refused, everything that is wrong is named at once, and a snapshot that was
//! taken before stays as it is.
//!
//! Each case starts from a folder that verifies: that is the twin which shows that the case alone is what
//! is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use executor_integrity::{
    CreateError, CreateOptions, MAX_PROBLEMS, VerifyPolicy, create_manifest, sign_manifest, verify,
};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Uid, chown, mkfifo};

use crate::support::{Area, assert_whole, make_folder, named, policy, refusal, write};

type Case = (&'static str, fn(&Area), &'static [&'static str]);

/// What is done to the folder, and all that must be named for it.
const CASES: [Case; 27] = [
    ("a bit flips", flip_a_bit, &["digest_differs deploy/web.sh"]),
    ("a file is longer", |area| append(area, "check.py", b"\n"), &["digest_differs check.py"]),
    ("a file is missing", |area| remove(area, "lib/common.sh"), &["missing lib/common.sh"]),
    ("a file is extra", |area| write(&area.script("extra.sh"), "x", 0o755), &["unlisted extra.sh"]),
    ("a hidden file", |area| write(&area.script(".hidden"), "x", 0o644), &["bad_name .hidden"]),
    ("a hidden folder", |area| write(&area.script(".git/config"), "x", 0o644), &["bad_name .git"]),
    ("a blank in a name", |area| write(&area.script("lib/a b"), "x", 0o644), &["bad_name lib/a b"]),
    (
        "a control character in a name",
        |area| write(&area.script("a\u{1b}[2J.sh"), "x", 0o644),
        &["bad_name a\\u{1b}[2J.sh"],
    ),
    ("a group may write a file", |area| mode(area, "check.py", 0o775), &["writable_by_others check.py"]),
    ("others may write a folder", |area| mode(area, "deploy", 0o757), &["writable_by_others deploy"]),
    ("others may write the whole", |area| mode(area, ".", 0o757), &["writable_by_others ."]),
    (
        "others may write the manifest",
        |area| mode(area, "MANIFEST.sha256", 0o646),
        &["writable_by_others MANIFEST.sha256"],
    ),
    ("a link stands for a file", link_a_file, &["symbolic_link check.py"]),
    ("a link stands for a folder", link_a_folder, &["missing lib/common.sh", "symbolic_link lib"]),
    (
        "a link stands for the manifest",
        |area| move_and_link(area, "MANIFEST.sha256"),
        &["symbolic_link MANIFEST.sha256"],
    ),
    ("a hard link from outside", link_hard, &["hard_link check.py"]),
    ("a named pipe", |area| pipe(area, "check.py"), &["special_file check.py"]),
    ("a socket", socket, &["special_file lib/s"]),
    ("a folder stands for a file", folder_for_file, &["missing check.py"]),
    ("a line twice", |area| edit(area, twice), &["duplicate_line MANIFEST.sha256:4"]),
    ("CRLF", |area| edit(area, |text| text.replace('\n', "\r\n")), &["carriage_return MANIFEST.sha256:1"]),
    (
        "a byte order mark",
        |area| edit(area, |text| format!("\u{feff}{text}")),
        &["byte_order_mark MANIFEST.sha256"],
    ),
    (
        "an uppercase digest",
        |area| edit(area, |text| text.to_uppercase()),
        &[
            "bad_header MANIFEST.sha256:1",
            "bad_header MANIFEST.sha256:2",
            "bad_line MANIFEST.sha256:3",
            "bad_line MANIFEST.sha256:4",
            "bad_line MANIFEST.sha256:5",
            "unlisted check.py",
            "unlisted deploy/web.sh",
            "unlisted lib/common.sh",
        ],
    ),
    (
        "a name that leaves the folder",
        |area| edit(area, |text| text.replace("check.py", "../check.py")),
        &["bad_line_name MANIFEST.sha256:3", "unlisted check.py"],
    ),
    (
        "a cut manifest",
        |area| edit(area, |text| text[..text.len() - 5].to_owned()),
        &["unlisted lib/common.sh", "unterminated_line MANIFEST.sha256:5"],
    ),
    ("a huge manifest", huge, &["manifest_too_large MANIFEST.sha256"]),
    ("no manifest", |area| remove(area, "MANIFEST.sha256"), &["no_manifest MANIFEST.sha256"]),
];

#[test]
fn every_tampered_folder_is_refused_and_a_snapshot_in_use_stays() {
    for (what, tamper, expected) in CASES {
        let area = Area::with_manifest();
        verify(&area.scripts, &policy()).unwrap_or_else(|error| panic!("before {what}: {error}"));
        let store = area.store();
        let snapshot = store.take(&area.scripts, &policy()).unwrap();

        tamper(&area);

        let error = verify(&area.scripts, &policy()).expect_err(what);
        assert_eq!(named(error.problems()), expected, "{what}");
        let error = refusal(store.take(&area.scripts, &policy()).expect_err(what));
        assert_eq!(named(error.problems()), expected, "{what}, when a snapshot is taken");
        assert_whole(&snapshot);
        assert_whole(&store.open(&snapshot.digest()).unwrap());
    }
}

#[test]
fn a_sparse_file_of_a_tebibyte_is_refused_at_once() {
    let area = Area::with_manifest();
    fs::File::options().write(true).open(area.script("check.py")).unwrap().set_len(1 << 40).unwrap();
    let error = verify(&area.scripts, &policy()).unwrap_err();
    assert_eq!(named(error.problems()), ["file_too_large check.py"]);
}

#[test]
fn all_kinds_of_tampering_are_named_in_one_answer_with_the_command_that_mends_them() {
    let area = Area::with_manifest();
    let (_, trusted) = area.keys("trusted");
    let (other, _) = area.keys("other");
    edit(&area, |text| twice(text).replace("version: 1", "version: 1\n# expires: 2020-01-01T00:00:00Z"));
    // The duplicate keeps the manifest from being signed by this crate, not by others.
    let broken = fs::read(area.manifest()).unwrap();
    edit(&area, |text| text.lines().map(|line| format!("{line}\n")).take(3).collect());
    sign_manifest(&area.scripts, &executor_integrity::SecretKey::load(&other, None).unwrap()).unwrap();
    fs::write(area.manifest(), broken).unwrap();
    flip_a_bit(&area);
    remove(&area, "lib/common.sh");
    write(&area.script("extra.sh"), "x", 0o666);
    symlink("/etc/passwd", area.script("link.sh")).unwrap();
    link_hard(&area);
    pipe(&area, "pipe");

    let policy = policy().public_keys([trusted]).minimum_version(7);
    let error = verify(&area.scripts, &policy).unwrap_err();
    let expected = [
        "digest_differs deploy/web.sh",
        "duplicate_line MANIFEST.sha256:5",
        "expired MANIFEST.sha256",
        "hard_link check.py",
        "missing lib/common.sh",
        "older_version MANIFEST.sha256",
        "special_file pipe",
        "symbolic_link link.sh",
        "unlisted extra.sh",
        "writable_by_others extra.sh",
        "wrong_key MANIFEST.sha256.minisig",
    ];
    assert_eq!(named(error.problems()), expected);
    let text = error.to_string();
    for problem in error.problems().as_slice() {
        assert!(text.contains(&problem.wrong()) && text.contains(&problem.right()), "{problem} in {text}");
    }
    let folder = area.scripts.display();
    let command = format!(
        "agent-cli manifest create --at-least 8 {folder} && agent-cli manifest sign --key minisign.key {folder}"
    );
    assert!(text.ends_with(&command), "{text}");
}

#[test]
fn an_expired_manifest_is_refused_and_accepted_before_that() {
    let area = Area::without_manifest();
    let expires = "2026-05-01T00:00:00Z".parse().unwrap();
    create_manifest(&area.scripts, &CreateOptions { expires: Some(expires), ..Default::default() }).unwrap();
    let at = |now: &str| verify(&area.scripts, &policy().now(now.parse().unwrap()));
    at("2026-04-30T23:59:59Z").unwrap();
    let error = at("2026-05-01T00:00:00Z").unwrap_err();
    assert_eq!(named(error.problems()), ["expired MANIFEST.sha256"]);
}

#[test]
fn a_file_of_another_user_is_refused_and_one_of_the_folders_owner_is_not() {
    let area = Area::with_manifest();
    if !Uid::effective().is_root() {
        println!("tier: not root. Giving files away is not allowed, which is asserted instead");
        chown(&area.script("check.py"), Some(Uid::from_raw(65534)), None).unwrap_err();
        return;
    }
    chown(&area.script("check.py"), Some(Uid::from_raw(65534)), None).unwrap();
    let error = verify(&area.scripts, &policy()).unwrap_err();
    assert_eq!(named(error.problems()), ["foreign_owner check.py"]);
    chown(&area.scripts, Some(Uid::from_raw(65534)), None).unwrap();
    verify(&area.scripts, &policy()).unwrap();
}

#[test]
fn a_device_is_refused_without_being_opened() {
    let area = Area::with_manifest();
    let device = area.script("zero");
    // Linux: memory devices are 1, and 5 is /dev/zero, which could be read for ever.
    let made = mknod(&device, SFlag::S_IFCHR, Mode::from_bits_truncate(0o644), makedev(1, 5));
    if made == Err(Errno::EPERM) {
        println!("tier: devices cannot be made here, which is what was asserted");
        return;
    }
    made.unwrap();
    let error = verify(&area.scripts, &policy()).unwrap_err();
    assert_eq!(named(error.problems()), ["special_file zero"]);
}

#[test]
fn what_no_manifest_can_vouch_for_is_refused_when_one_is_created() {
    let area = Area::with_manifest();
    let before = fs::read(area.manifest()).unwrap();
    link_a_file(&area);
    mode(&area, "deploy/web.sh", 0o777);
    write(&area.script("übung.sh"), "x", 0o755);
    let error = create_manifest(&area.scripts, &CreateOptions::default()).unwrap_err();
    let CreateError::Refused { problems, .. } = &error else { panic!("{error}") };
    let expected = ["bad_name übung.sh", "symbolic_link check.py", "writable_by_others deploy/web.sh"];
    assert_eq!(named(problems), expected);
    assert_eq!(fs::read(area.manifest()).unwrap(), before);
}

#[test]
fn a_folder_that_cannot_be_read_is_a_problem_of_the_folder() {
    let error = verify(Path::new("/nowhere/scripts"), &VerifyPolicy::default()).unwrap_err();
    assert_eq!(named(error.problems()), ["unreadable ."]);
}

#[test]
fn a_manifest_full_of_rubbish_costs_no_more_than_the_kept_problems() {
    let area = Area::with_manifest();
    fs::write(area.manifest(), "rubbish\n".repeat(1 << 20)).unwrap();
    let error = verify(&area.scripts, &policy()).unwrap_err();
    assert_eq!(error.problems().as_slice().len(), MAX_PROBLEMS);
    assert_eq!(error.problems().more(), (1 << 20) + 3 - MAX_PROBLEMS);
}

fn flip_a_bit(area: &Area) {
    let path = area.script("deploy/web.sh");
    let mut bytes = fs::read(&path).unwrap();
    bytes[3] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn append(area: &Area, name: &str, more: &[u8]) {
    let bytes = [&fs::read(area.script(name)).unwrap(), more].concat();
    fs::write(area.script(name), bytes).unwrap();
}

fn remove(area: &Area, name: &str) {
    fs::remove_file(area.script(name)).unwrap();
}

fn mode(area: &Area, name: &str, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(area.script(name), fs::Permissions::from_mode(mode)).unwrap();
}

/// Moves a file out of the folder and leaves a link to it, so that its content is right.
fn move_and_link(area: &Area, name: &str) {
    let outside = area.path("outside");
    fs::rename(area.script(name), &outside).unwrap();
    symlink(outside, area.script(name)).unwrap();
}

fn link_a_file(area: &Area) {
    move_and_link(area, "check.py");
}

fn link_a_folder(area: &Area) {
    move_and_link(area, "lib");
}

fn link_hard(area: &Area) {
    fs::hard_link(area.script("check.py"), area.path("other-name")).unwrap();
}

fn pipe(area: &Area, name: &str) {
    // A file of that name, if there is one, is replaced.
    let _ = fs::remove_file(area.script(name));
    mkfifo(&area.script(name), Mode::from_bits_truncate(0o644)).unwrap();
    mode(area, name, 0o644);
}

fn socket(area: &Area) {
    // The entry stays when the socket is closed.
    drop(UnixListener::bind(area.script("lib/s")).unwrap());
    mode(area, "lib/s", 0o644);
}

fn folder_for_file(area: &Area) {
    remove(area, "check.py");
    make_folder(&area.script("check.py"));
}

fn huge(area: &Area) {
    append(area, "MANIFEST.sha256", "# filled up\n".repeat((16 << 20) / 12 + 1).as_bytes());
}

fn edit(area: &Area, change: impl FnOnce(&str) -> String) {
    area.edit_manifest(|bytes| change(std::str::from_utf8(&bytes).unwrap()).into_bytes());
}

/// The first listed file is listed twice.
fn twice(text: &str) -> String {
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    text.replacen(line, &format!("{line}\n{line}"), 1)
}
