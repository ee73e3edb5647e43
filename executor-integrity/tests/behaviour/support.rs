//! Folders to work on, and words for what they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use executor_integrity::{
    CreateOptions, Digest, Problems, PublicKey, Snapshot, SnapshotStore, TakeError, VerifyError,
    VerifyPolicy, create_manifest, keygen,
};
use tempfile::TempDir;

/// What every test folder holds: name, content, mode.
pub(crate) const FILES: [(&str, &str, u32); 3] = [
    ("check.py", "#!/usr/bin/env python3\nprint('checked')\n", 0o755),
    ("deploy/web.sh", "#!/bin/sh\n. \"$(dirname \"$0\")/../lib/common.sh\"\n", 0o755),
    ("lib/common.sh", "say() { echo \"$1\"; }\n", 0o644),
];

/// A temporary folder with scripts, keys and a store in it.
pub(crate) struct Area {
    folder: TempDir,
    pub(crate) scripts: PathBuf,
}

impl Area {
    /// Scripts with a fresh manifest of version 1.
    pub(crate) fn with_manifest() -> Self {
        let area = Self::without_manifest();
        area.create_manifest();
        area
    }

    pub(crate) fn without_manifest() -> Self {
        let folder = TempDir::new().unwrap();
        let scripts = folder.path().join("scripts");
        make_folder(&scripts);
        for (name, content, mode) in FILES {
            write(&scripts.join(name), content, mode);
        }
        Self { folder, scripts }
    }

    pub(crate) fn create_manifest(&self) {
        create_manifest(&self.scripts, &CreateOptions::default()).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.scripts.join(name)
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.script("MANIFEST.sha256")
    }

    pub(crate) fn store(&self) -> SnapshotStore {
        SnapshotStore::at(&self.path("store")).unwrap()
    }

    /// A pair of keys without a password: the secret one's file, and the public one.
    pub(crate) fn keys(&self, name: &str) -> (PathBuf, PublicKey) {
        let secret = self.path(&format!("{name}.key"));
        let public = keygen(&secret, &self.path(&format!("{name}.pub")), None).unwrap();
        (secret, public)
    }

    /// Changes the bytes of the manifest.
    pub(crate) fn edit_manifest(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bytes = fs::read(self.manifest()).unwrap();
        fs::write(self.manifest(), change(bytes)).unwrap();
    }
}

pub(crate) fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes a file with exactly this mode, whatever the umask.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    make_folder(path.parent().unwrap());
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn policy() -> VerifyPolicy {
    VerifyPolicy::default()
}

/// The problems as `code file` or `code file:line`, sorted.
pub(crate) fn named(problems: &Problems) -> Vec<String> {
    let mut named: Vec<String> = problems
        .as_slice()
        .iter()
        .map(|problem| match problem.line() {
            Some(line) => format!("{} {}:{line}", problem.code(), problem.file()),
            None => format!("{} {}", problem.code(), problem.file()),
        })
        .collect();
    named.sort();
    named
}

pub(crate) fn refusal(error: TakeError) -> VerifyError {
    match error {
        TakeError::Refused(refused) => refused,
        TakeError::Store(error) => panic!("the store failed: {error:?}"),
    }
}

/// Asserts that the snapshot holds exactly [`FILES`], byte for byte.
pub(crate) fn assert_whole(snapshot: &Snapshot) {
    let names: Vec<&str> = snapshot.files().map(|file| file.name.as_str()).collect();
    assert_eq!(names, FILES.map(|(name, ..)| name));
    for (file, (_, content, mode)) in snapshot.files().zip(FILES) {
        let bytes = fs::read(snapshot.path_of(file)).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), content.as_bytes().escape_ascii().to_string());
        assert_eq!(file.digest, Digest::of(content.as_bytes()));
        assert_eq!(file.executable, mode & 0o100 != 0);
    }
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The names in the store's folder that begin with `prefix`.
pub(crate) fn store_entries(store: &Path, prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(store).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix))
        .collect()
}

/// Runs a program that must be installed.
pub(crate) fn run(command: &mut Command, package: &str) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| {
        panic!("{:?} cannot be run ({error}): apt-get install {package}", command.get_program())
    })
}

/// This test binary again, running only `test`; the variable tells it which part to play.
pub(crate) fn other_process(test: &str, part: (&str, &Path)) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(part.0, part.1);
    command
}
