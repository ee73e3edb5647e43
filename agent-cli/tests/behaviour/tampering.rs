//! A tampered scripts folder is refused by `run`: everything that is wrong is named, and nothing is executed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::Site;

/// What is done to a folder that verified, and what must be named for it.
type Case = (&'static str, fn(&Site), &'static [&'static str]);

const CASES: [Case; 14] = [
    ("a bit flips", flip, &["[digest_differs]"]),
    ("signed by another key", resign, &["[wrong_key]"]),
    ("an older version", older, &["[older_version]"]),
    ("expired", expired, &["[expired]"]),
    ("a file is missing", |site| fs::remove_file(site.path("scripts/lib/b.sh")).unwrap(), &["[missing]"]),
    ("a file is extra", |site| drop(site.script("extra.sh", "#!/bin/sh\n")), &["[unlisted]"]),
    ("others may write", |site| mode(site, 0o757), &["[writable_by_others]"]),
    ("a link", link, &["[symbolic_link]"]),
    ("a hard link", hard_link, &["[hard_link]"]),
    ("a line twice", |site| edit(site, |text| twice(&text)), &["[duplicate_line]"]),
    ("CRLF", |site| edit(site, |text| text.replace('\n', "\r\n")), &["[carriage_return]"]),
    ("a byte order mark", |site| edit(site, |text| format!("\u{feff}{text}")), &["[byte_order_mark]"]),
    ("huge", |site| edit(site, |text| text + &"#\n".repeat(9 << 20)), &["[manifest_too_large]"]),
    ("several at once", several, &["[digest_differs]", "[missing]", "[unlisted]", "[writable_by_others]"]),
];

/// A site whose folder is signed by the key that it trusts; `marks.sh` leaves a mark wherever it is executed.
fn site() -> Site {
    let site = Site::new();
    site.script("marks.sh", format!("#!/bin/sh\necho ran >'{}'\n", site.path("mark").display()));
    site.script("lib/b.sh", "#!/bin/sh\n");
    let key = site.ended(["manifest", "keygen", "--no-password"]).text();
    let settings = format!("[script_executor]\nmanifest_public_keys = [\"{}\"]\n", key.trim());
    fs::write(site.path("application.toml"), settings).unwrap();
    vouch(&site);
    // Every file keeps its first version, to go back to.
    for name in ["MANIFEST.sha256", "MANIFEST.sha256.minisig"] {
        fs::copy(site.path("scripts").join(name), site.path(name)).unwrap();
    }
    vouch(&site);
    site
}

fn vouch(site: &Site) {
    assert_eq!(site.ended(["manifest", "create"]).code, Some(0));
    sign(site, "minisign.key");
}

fn sign(site: &Site, key: &str) {
    let signed = site.ended(["manifest", "sign", "--key", key]);
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
}

fn flip(site: &Site) {
    let path = site.path("scripts/marks.sh");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

fn resign(site: &Site) {
    let made = site.ended(["manifest", "keygen", "--no-password", "--secret", "o.key", "--public", "o.pub"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    sign(site, "o.key");
}

fn older(site: &Site) {
    for name in ["MANIFEST.sha256", "MANIFEST.sha256.minisig"] {
        fs::copy(site.path(name), site.path("scripts").join(name)).unwrap();
    }
}

/// A manifest that has expired by now, truly signed.
fn expired(site: &Site) {
    edit(site, |text| {
        let (first, rest) = text.split_once('\n').unwrap();
        format!("{first}\n# expires: 2001-01-01T00:00:00Z\n{rest}")
    });
}

fn mode(site: &Site, mode: u32) {
    fs::set_permissions(site.path("scripts/marks.sh"), fs::Permissions::from_mode(mode)).unwrap();
}

fn link(site: &Site) {
    let path = site.path("scripts/marks.sh");
    fs::rename(&path, site.path("moved.sh")).unwrap();
    symlink(site.path("moved.sh"), path).unwrap();
}

fn hard_link(site: &Site) {
    fs::hard_link(site.path("scripts/marks.sh"), site.path("linked.sh")).unwrap();
}

/// Changes the manifest and signs it again: what is refused then is not the signature.
fn edit(site: &Site, change: impl FnOnce(String) -> String) {
    let path = site.path("scripts/MANIFEST.sha256");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, change(text)).unwrap();
    let output = std::process::Command::new("minisign")
        .args(["-S", "-W", "-s", "minisign.key", "-m", "scripts/MANIFEST.sha256"])
        .current_dir(site.path(""))
        .output()
        .expect("minisign must be installed for this test: install the package minisign");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn twice(text: &str) -> String {
    let last = text.lines().last().unwrap().to_owned();
    format!("{text}{last}\n")
}

fn several(site: &Site) {
    flip(site);
    mode(site, 0o757);
    fs::remove_file(site.path("scripts/lib/b.sh")).unwrap();
    site.script("extra.sh", "#!/bin/sh\n");
}

#[test]
fn each_way_of_tampering_is_refused_with_126_and_nothing_is_executed() {
    for (what, tamper, codes) in CASES {
        let site = site();
        let mark = site.path("mark");
        // The folder verifies before: what is refused afterwards is the tampering alone.
        let ended = site.ended(["run", "marks.sh"]);
        assert!(ended.code == Some(0) && mark.exists(), "before {what}: {}", ended.stderr);
        fs::remove_file(&mark).unwrap();

        tamper(&site);

        let ended = site.ended(["run", "marks.sh"]);
        assert_eq!(ended.code, Some(126), "{what}: {}", ended.stderr);
        for code in codes {
            assert!(ended.stderr.contains(code), "{what}, {code}: {}", ended.stderr);
        }
        assert!(
            ended.stderr.contains("hint: when all of it is as you want it: "),
            "{what}: {}",
            ended.stderr
        );
        assert!(!mark.exists(), "{what}: it was executed");
        assert_eq!(site.records().len(), 1, "{what}: a refused run leaves no record");
    }
}

#[test]
fn without_verification_the_tampered_script_would_run() {
    let site = site();
    site.script("marks.sh", format!("#!/bin/sh\necho tampered >'{}'\n", site.path("mark").display()));
    assert_eq!(site.ended(["run", "marks.sh"]).code, Some(126));
    assert!(!site.path("mark").exists());
    fs::write(site.path("application.toml"), "[script_executor]\nis_verify_script_integrity = false\n")
        .unwrap();
    assert_eq!(site.ended(["run", "marks.sh"]).code, Some(0));
    assert_eq!(fs::read_to_string(site.path("mark")).unwrap(), "tampered\n");
}

#[test]
fn the_commands_that_the_hint_names_mend_the_folder() {
    let site = site();
    several(&site);
    mode(&site, 0o755);
    let ended = site.ended(["run", "marks.sh"]);
    assert_eq!(ended.code, Some(126));
    let hint =
        ended.stderr.lines().find_map(|line| line.split_once("as you want it: ")).unwrap().1.to_owned();
    assert!(hint.contains("manifest create") && hint.contains("manifest sign"), "{hint}");
    vouch(&site);
    let ended = site.ended(["run", "marks.sh"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
