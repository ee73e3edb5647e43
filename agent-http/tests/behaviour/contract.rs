//! The service against its own description: schemathesis makes requests of /openapi.json and looks whether what comes is
//! what is described there.

mod heavy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::Site;

/// Runs schemathesis against whatever describes itself at this address.
fn schemathesis(at: SocketAddr, arguments: &[&str]) -> Output {
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behaviour/contract/schemathesis.toml");
    let folder = tempfile::tempdir().unwrap();
    Command::new(program())
        .arg("--config-file")
        .arg(settings)
        .args(["run", &format!("http://{at}/openapi.json"), "--no-color"])
        .args(arguments)
        .env("TOKEN", Site::token("admin"))
        // It leaves notes where it is started.
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Where `cargo xtask test` puts it: beside what is built.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_agent-http")).parent().and_then(Path::parent).unwrap();
    let path = built.join("tools/bin/schemathesis");
    assert!(
        path.exists(),
        "{} is not there; `cargo xtask test` gets it, or says why it cannot",
        path.display()
    );
    path
}
