//! The ways of tampering with a scripts folder that every front refuses. The tests of several fronts share this file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use executor_integrity::{CreateOptions, SecretKey, create_manifest, keygen, sign_manifest};

/// What is done to a folder that verified, and what must be named for it.
pub(crate) type Case = (&'static str, fn(&Vouched), &'static [&'static str]);

pub(crate) const CASES: [Case; 14] = [
    ("a bit flips", Vouched::flip, &["[digest_differs]"]),
    ("signed by another key", Vouched::resign, &["[wrong_key]"]),
    ("an older version", Vouched::older, &["[older_version]"]),
    ("expired", Vouched::expire, &["[expired]"]),
    ("a file is missing", |folder| fs::remove_file(folder.script("lib/b.sh")).unwrap(), &["[missing]"]),
    ("a file is extra", |folder| folder.write("extra.sh", "#!/bin/sh\n"), &["[unlisted]"]),
    ("others may write", |folder| folder.mode(0o757), &["[writable_by_others]"]),
    ("a link", Vouched::link, &["[symbolic_link]"]),
    ("a hard link", Vouched::hard_link, &["[hard_link]"]),
    ("a line twice", |folder| folder.edit(|text| twice(&text)), &["[duplicate_line]"]),
    ("CRLF", |folder| folder.edit(|text| text.replace('\n', "\r\n")), &["[carriage_return]"]),
    ("a byte order mark", |folder| folder.edit(|text| format!("\u{feff}{text}")), &["[byte_order_mark]"]),
    ("huge", |folder| folder.edit(|text| text + &"#\n".repeat(9 << 20)), &["[manifest_too_large]"]),
    (
        "several at once",
        Vouched::tamper_severally,
        &["[digest_differs]", "[missing]", "[unlisted]", "[writable_by_others]"],
    ),
];

/// A folder whose `scripts` are signed; `marks.sh` among them leaves the file `mark` wherever it is executed.
pub(crate) struct Vouched {
    folder: PathBuf,
    /// The key by which they are signed.
    pub(crate) public_key: String,
}

impl Vouched {
    /// Adds scripts to those of a folder, and vouches for all of them.
    pub(crate) fn new(folder: &Path) -> Self {
        let key = keygen(&folder.join("minisign.key"), &folder.join("minisign.pub"), None).unwrap();
        let vouched = Self { folder: folder.to_owned(), public_key: key.to_string() };
        let mark = vouched.mark();
        vouched.write("marks.sh", &format!("#!/bin/sh\necho ran >'{}'\n", mark.display()));
        vouched.write("lib/b.sh", "#!/bin/sh\n");
        vouched.vouch();
        // Every file keeps its first version, to go back to.
        for name in ["MANIFEST.sha256", "MANIFEST.sha256.minisig"] {
            fs::copy(vouched.script(name), folder.join(name)).unwrap();
        }
        vouched.vouch();
        vouched
    }

    /// What a script that was executed leaves.
    pub(crate) fn mark(&self) -> PathBuf {
        self.folder.join("mark")
    }

    pub(crate) fn script(&self, name: &str) -> PathBuf {
        self.folder.join("scripts").join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.script(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn vouch(&self) {
        create_manifest(&self.script(""), &CreateOptions::default()).unwrap();
        self.sign("minisign.key");
    }

    pub(crate) fn mode(&self, mode: u32) {
        fs::set_permissions(self.script("marks.sh"), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn tamper_severally(&self) {
        self.flip();
        self.mode(0o757);
        fs::remove_file(self.script("lib/b.sh")).unwrap();
        self.write("extra.sh", "#!/bin/sh\n");
    }

    fn sign(&self, key: &str) {
        let key = SecretKey::load(&self.folder.join(key), None).unwrap();
        sign_manifest(&self.script(""), &key).unwrap();
    }

    fn flip(&self) {
        let path = self.script("marks.sh");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    }

    fn resign(&self) {
        keygen(&self.folder.join("o.key"), &self.folder.join("o.pub"), None).unwrap();
        self.sign("o.key");
    }

    fn older(&self) {
        for name in ["MANIFEST.sha256", "MANIFEST.sha256.minisig"] {
            fs::copy(self.folder.join(name), self.script(name)).unwrap();
        }
    }

    /// A manifest that has expired by now, truly signed.
    fn expire(&self) {
        self.edit(|text| {
            let (first, rest) = text.split_once('\n').unwrap();
            format!("{first}\n# expires: 2001-01-01T00:00:00Z\n{rest}")
        });
    }

    fn link(&self) {
        let moved = self.folder.join("moved.sh");
        fs::rename(self.script("marks.sh"), &moved).unwrap();
        symlink(moved, self.script("marks.sh")).unwrap();
    }

    fn hard_link(&self) {
        fs::hard_link(self.script("marks.sh"), self.folder.join("linked.sh")).unwrap();
    }

    /// Changes the manifest and signs it again: what is refused then is not the signature.
    fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.script("MANIFEST.sha256");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, change(text)).unwrap();
        let output = Command::new("minisign")
            .args(["-S", "-W", "-s", "minisign.key", "-m", "scripts/MANIFEST.sha256"])
            .current_dir(&self.folder)
            .output()
            .expect("minisign must be installed for this test: install the package minisign");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn twice(text: &str) -> String {
    let last = text.lines().last().unwrap().to_owned();
    format!("{text}{last}\n")
}
