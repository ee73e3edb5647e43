//! `debug.sh`: a script that reproduces a run by hand, with the same arguments, variables, input and working
//! folder, and a scratch folder of its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::output_params::OUTPUT_FILE;

/// What a run is reproduced from.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) id: &'a str,
    pub(crate) script: &'a Path,
    pub(crate) sha256: &'a str,
    pub(crate) args: &'a [OsString],
    pub(crate) env: Vec<(&'a str, &'a OsStr)>,
    pub(crate) work_dir: &'a Path,
    pub(crate) stdin: &'a [u8],
}

/// Variables whose value is the scratch folder's, which is gone by then.
const SCRATCH_VARIABLES: [&str; 2] = ["TMPDIR", "TASK_OUTPUT"];

/// The reproduction script, bytes: arguments need not be text.
pub(crate) fn render(run: &Run<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let script = quoted(run.script.as_os_str().as_bytes());
    let work_dir = quoted(run.work_dir.as_os_str().as_bytes());
    push(
        &mut out,
        &[b"#!/bin/sh\n# Reproduces task ", run.id.as_bytes(), b" by hand: same script, arguments, "],
    );
    push(
        &mut out,
        &[b"variables, input and working folder;\n# another scratch folder, removed at the end.\n"],
    );
    push(&mut out, &[b"set -u\nscript=", &script, b"\nwork_dir=", &work_dir, b"\n"]);
    push(&mut out, &[b"sha256=", run.sha256.as_bytes(), b"\n"]);
    out.extend_from_slice(CHECKS.as_bytes());
    push(&mut out, &[&stdin(run.stdin), b"env -i \\\n"]);
    for (name, value) in &run.env {
        if !SCRATCH_VARIABLES.contains(name) {
            push(&mut out, &[b"  ", name.as_bytes(), b"=", &quoted(value.as_bytes()), b" \\\n"]);
        }
    }
    push(&mut out, &[b"  TMPDIR=\"$scratch\" TASK_OUTPUT=\"$scratch/", OUTPUT_FILE.as_bytes(), b"\" \\\n"]);
    push(&mut out, &[b"  \"$script\""]);
    for arg in run.args {
        push(&mut out, &[b" \\\n  ", &quoted(arg.as_bytes())]);
    }
    out.push(b'\n');
    out
}

const CHECKS: &str = r#"if ! [ -x "$script" ]; then
  echo "debug.sh: $script is not there any more, or is not executable" >&2
  exit 126
fi
if ! echo "$sha256  $script" | sha256sum --check --status; then
  echo "debug.sh: note: $script has changed since the run" >&2
fi
scratch=$(mktemp -d) || exit 125
trap 'rm -rf -- "$scratch"' EXIT
mkdir -p -- "$work_dir" && cd -- "$work_dir" || exit 125
umask 022
"#;

/// What feeds the script's standard input, in front of the command.
fn stdin(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return b"</dev/null ".to_vec();
    }
    let mut out = b"printf '%b' '".to_vec();
    for byte in bytes {
        out.extend_from_slice(format!("\\0{byte:03o}").as_bytes());
    }
    out.extend_from_slice(b"' | ");
    out
}

/// A word for a POSIX shell: in single quotes, which keep every byte but the single quote.
fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![b'\''];
    for &byte in bytes {
        match byte {
            b'\'' => out.extend_from_slice(br"'\''"),
            byte => out.push(byte),
        }
    }
    out.push(b'\'');
    out
}

fn push(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}
