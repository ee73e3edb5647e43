//! A CA of a test's own, and certificates that it signs, made with the openssl of the command line.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A CA: `ca.pem` and `ca.key` in a folder, and what it signed beside them.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        authority.openssl("req -x509 -subj /CN=CA -days 3650 -keyout ca.key -out ca.pem", &[]);
        authority
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The CA's certificate.
    pub(crate) fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// Makes `<name>.pem` and `<name>.key`, for this host and `agent.example.com`, valid from now on.
    pub(crate) fn issue(&self, name: &str, days: u32) {
        self.issue_at(name, days, None);
    }

    /// The same from a moment on that faketime(1) understands.
    pub(crate) fn issue_at(&self, name: &str, days: u32, moment: Option<&str>) {
        let names = "subjectAltName=DNS:localhost,DNS:agent.example.com,DNS:*.wild.example.com,IP:127.0.0.1";
        self.openssl(
            &format!("req -subj /CN={name} -keyout {name}.key -out {name}.csr"),
            &["-addext", names],
        );
        let sign =
            format!("-req -CA ca.pem -CAkey ca.key -copy_extensions copy -in {name}.csr -out {name}.pem");
        let mut command = match moment {
            None => Command::new("openssl"),
            Some(moment) => {
                let mut command = Command::new("faketime");
                command.args([moment, "openssl"]);
                command
            }
        };
        command.arg("x509").args(sign.split(' ')).args(["-days", &days.to_string()]);
        run(command.current_dir(self.folder.path()));
    }

    /// The digest by which a token names a certificate.
    pub(crate) fn fingerprint(&self, name: &str) -> String {
        let mut command = Command::new("openssl");
        command
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
            .arg(self.path(&format!("{name}.pem")));
        let printed = run(&mut command);
        printed.trim().split_once('=').unwrap().1.to_owned()
    }

    /// A command that makes a key.
    fn openssl(&self, args: &str, more: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(args.split(' ')).args(more);
        command.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]);
        run(command.current_dir(self.folder.path()));
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("this test needs openssl and faketime");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
