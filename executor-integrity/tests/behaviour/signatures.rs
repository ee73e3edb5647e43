//! Signatures, made and checked with the real `minisign` both ways.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use executor_integrity::{KeyError, PublicKey, SecretKey, SignError, keygen, sign_manifest, verify};

use crate::support::{Area, mode_of, named, policy, run};

fn minisign(args: &[&str]) -> std::process::Output {
    run(Command::new("minisign").args(args), "minisign")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn sign(area: &Area, secret: &Path) {
    sign_manifest(&area.scripts, &SecretKey::load(secret, None).unwrap()).unwrap();
}

#[test]
fn minisign_checks_what_this_crate_signed_and_refuses_it_when_changed() {
    let area = Area::with_manifest();
    let (secret, public) = area.keys("ours");
    sign(&area, &secret);
    let manifest = area.manifest();
    let check = || minisign(&["-V", "-P", &public.to_string(), "-m", text(&manifest)]);
    let output = check();
    assert!(output.status.success(), "{output:?}");
    let output = minisign(&["-V", "-p", text(&area.path("ours.pub")), "-m", text(&manifest)]);
    assert!(output.status.success(), "with the file of the public key: {output:?}");
    area.edit_manifest(|bytes| [bytes, b"# more\n".to_vec()].concat());
    assert!(!check().status.success());
}

#[test]
fn what_minisign_signed_is_accepted_and_refused_when_changed() {
    let area = Area::with_manifest();
    let (secret, public) = (area.path("theirs.key"), area.path("theirs.pub"));
    let output = minisign(&["-G", "-W", "-s", text(&secret), "-p", text(&public)]);
    assert!(output.status.success(), "{output:?}");
    let output = minisign(&["-S", "-s", text(&secret), "-m", text(&area.manifest())]);
    assert!(output.status.success(), "{output:?}");

    // The file's content, and its line of base64 alone.
    let file = fs::read_to_string(&public).unwrap();
    let line = file.lines().nth(1).unwrap();
    for form in [file.as_str(), line] {
        let key = PublicKey::parse(form).unwrap();
        let verified = verify(&area.scripts, &policy().public_keys([key.clone()])).unwrap();
        assert_eq!(verified.signed_by, Some(key.clone()));
        assert!(file.contains(&key.id()), "{} in {file}", key.id());
    }
    // A secret key of minisign's signs here too.
    sign(&area, &secret);
    let key = PublicKey::parse(line).unwrap();
    verify(&area.scripts, &policy().public_keys([key.clone()])).unwrap();

    area.edit_manifest(|bytes| [bytes, b"# more\n".to_vec()].concat());
    let error = verify(&area.scripts, &policy().public_keys([key])).unwrap_err();
    assert_eq!(named(error.problems()), ["bad_signature MANIFEST.sha256.minisig"]);
}

#[test]
fn minisigns_old_format_is_refused_with_how_to_sign() {
    let area = Area::with_manifest();
    let (secret, public) = area.keys("old");
    let output = minisign(&["-S", "-l", "-s", text(&secret), "-m", text(&area.manifest())]);
    assert!(output.status.success(), "{output:?}");
    let error = verify(&area.scripts, &policy().public_keys([public])).unwrap_err();
    assert_eq!(named(error.problems()), ["bad_signature MANIFEST.sha256.minisig"]);
    assert!(error.to_string().contains("old format"), "{error}");
}

#[test]
fn missing_foreign_and_damaged_signatures_are_refused_each_in_its_own_words() {
    let area = Area::with_manifest();
    let (first, first_public) = area.keys("first");
    let (second, second_public) = area.keys("second");
    let signature = area.script("MANIFEST.sha256.minisig");
    let with = |keys: &[&PublicKey]| {
        let policy = policy().public_keys(keys.iter().copied().cloned());
        verify(&area.scripts, &policy).map_err(|error| named(error.problems()).join(", "))
    };
    assert_eq!(with(&[&first_public]).unwrap_err(), "unsigned MANIFEST.sha256.minisig");

    sign(&area, &second);
    assert_eq!(with(&[&first_public]).unwrap_err(), "wrong_key MANIFEST.sha256.minisig");
    assert_eq!(with(&[&first_public, &second_public]).unwrap().signed_by, Some(second_public));
    with(&[]).expect("without keys a signature is not looked at");

    sign(&area, &first);
    with(&[&first_public]).unwrap();
    let good = fs::read_to_string(&signature).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let comment_changed = good.replace("timestamp:", "timestamp:1");
    let cut_second = good.replace(lines[3], "AAAA");
    let cut_first = good.replace(lines[1], &lines[1][..40]);
    let large = format!("{good}{}", "x".repeat(9000));
    for bad in ["", "rubbish", &comment_changed, &cut_second, &cut_first, &large, &good[..good.len() / 2]] {
        fs::write(&signature, bad).unwrap();
        let error = with(&[&first_public]).expect_err(bad);
        assert!(error.contains("bad_signature MANIFEST.sha256.minisig"), "{error} for {bad}");
    }
    fs::write(&signature, &good).unwrap();
    with(&[&first_public]).unwrap();
}

/// A secret key in minisign's format that the password locks with the fewest rounds that are allowed, so
/// that unlocking it takes no second. Made for this test, and good for nothing else.
const LOCKED: &str = "untrusted comment: minisign encrypted secret key
RWRTY0IyZBu1uUquc3Lv+LW+Uzok8NdKpwBkUj14vuvvpYWIThIAgAAAAAAAAAAAAAEAAAAAG/A9A1KDgtx+bP78VSTWD4OkuKgEhxMszvBgmrWSf5ejz5Ir\
qwSrD+l40cp137sblBBwVhUQ1BunXTvJR60vey7qwe48SUImcU5JjKS+HVNw0zISk6Capa4PI+fYJ6oWlo+ZZZ5SMEo=
";
const LOCKED_PUBLIC: &str = "RWSFJC6ORNBM2o6BxYsDitZeiE+tuh5QaWctLWGi9BrejVccbVkSGgYo";
const PASSWORD: &str = "correct horse";

#[test]
fn a_locked_key_signs_only_with_its_password() {
    let area = Area::with_manifest();
    let secret = area.path("locked.key");
    fs::write(&secret, LOCKED).unwrap();
    assert!(matches!(SecretKey::load(&secret, None), Err(KeyError::PasswordNeeded { .. })));
    assert!(matches!(SecretKey::load(&secret, Some("wrong")), Err(KeyError::WrongPassword { .. })));
    let key = SecretKey::load(&secret, Some(PASSWORD)).unwrap();
    assert_eq!(format!("{key:?}"), "SecretKey(...)");
    let public = PublicKey::parse(LOCKED_PUBLIC).unwrap();
    assert_eq!(key.public_key().unwrap(), public);
    sign_manifest(&area.scripts, &key).unwrap();
    verify(&area.scripts, &policy().public_keys([public])).unwrap();
}

#[test]
fn minisign_unlocks_a_key_that_was_made_here_with_its_password_only() {
    let area = Area::with_manifest();
    let secret = area.path("locked.key");
    let public = keygen(&secret, &area.path("locked.pub"), Some(PASSWORD)).unwrap();
    assert!(matches!(SecretKey::load(&secret, None), Err(KeyError::PasswordNeeded { .. })));
    let signed = |password: &str| {
        let mut command = Command::new("minisign");
        command.args(["-S", "-s", text(&secret), "-m", text(&area.manifest())]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("apt-get install minisign");
        writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
        child.wait().unwrap().success()
    };
    assert!(!signed("wrong"));
    assert!(signed(PASSWORD));
    verify(&area.scripts, &policy().public_keys([public])).unwrap();
}

#[test]
fn a_key_that_is_damaged_does_not_sign() {
    let area = Area::with_manifest();
    let (secret, public) = (area.path("theirs.key"), area.path("theirs.pub"));
    assert!(minisign(&["-G", "-W", "-s", text(&secret), "-p", text(&public)]).status.success());
    let (ours, _) = area.keys("ours");
    for file in [secret, ours] {
        let good = fs::read_to_string(&file).unwrap();
        // In the middle of the key itself, behind the lock and the key's id.
        let at = good.lines().next().unwrap().len() + 1 + 100;
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let bad = format!("{}{other}{}", &good[..at], &good[at + 1..]);
        fs::write(&file, bad).unwrap();
        if let Ok(key) = SecretKey::load(&file, None) {
            sign_manifest(&area.scripts, &key).unwrap_err();
        }
        assert!(!area.script("MANIFEST.sha256.minisig").exists());
    }
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let area = Area::without_manifest();
    let (secret, public) = (area.path("a.key"), area.path("a.pub"));
    keygen(&secret, &public, None).unwrap();
    assert_eq!((mode_of(&secret), mode_of(&public)), (0o600, 0o644));
    let before = fs::read(&secret).unwrap();
    assert!(matches!(keygen(&secret, &area.path("b.pub"), None), Err(KeyError::File { .. })));
    assert_eq!(fs::read(&secret).unwrap(), before);
    assert!(!area.path("b.pub").exists());
    // The public key's file is taken: the secret key that was just made goes again.
    assert!(matches!(keygen(&area.path("b.key"), &public, None), Err(KeyError::File { .. })));
    assert!(!area.path("b.key").exists());
}

#[test]
fn texts_that_are_no_keys_are_refused() {
    let area = Area::without_manifest();
    let (secret, public) = area.keys("good");
    let line = public.to_string();
    for bad in ["", "RW", &line[1..], &format!("{line}="), &line.replacen("RW", "AA", 1), &"?".repeat(56)] {
        assert!(matches!(PublicKey::parse(bad), Err(KeyError::NotPublic { .. })), "{bad}");
    }
    let file = area.path("bad.key");
    let good = fs::read_to_string(&secret).unwrap();
    for bad in ["", "one line", &good[..good.len() / 2], &format!("x\n{line}\n")] {
        fs::write(&file, bad).unwrap();
        for password in [None, Some("any")] {
            assert!(matches!(SecretKey::load(&file, password), Err(KeyError::NotSecret { .. })), "{bad}");
        }
    }
    assert!(matches!(SecretKey::load(&area.path("none.key"), None), Err(KeyError::File { .. })));
}

#[test]
fn a_manifest_with_mistakes_is_not_signed() {
    let area = Area::with_manifest();
    let (secret, _) = area.keys("any");
    area.edit_manifest(|bytes| [bytes, b"rubbish\n".to_vec()].concat());
    let key = SecretKey::load(&secret, None).unwrap();
    let error = sign_manifest(&area.scripts, &key).unwrap_err();
    let SignError::Refused { problems, .. } = error else { panic!("{error}") };
    assert_eq!(named(&problems), ["bad_line MANIFEST.sha256:6"]);
    assert!(!area.script("MANIFEST.sha256.minisig").exists());
}
