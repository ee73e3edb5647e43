//! `debug.sh`: a script that reproduces a run by hand, with the same arguments, variables, input and working
//! folder, and a scratch folder of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::output_params::OUTPUT_FILE;
use crate::raw_text::RawText;

/// What a run is reproduced from. It is part of the record's `task.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run<'a> {
    pub(crate) id: Cow<'a, str>,
    /// The file that was executed.
    pub(crate) script: RawText<'a>,
    pub(crate) script_sha256: Cow<'a, str>,
    pub(crate) args: Vec<RawText<'a>>,
    /// All variables that the script got.
    pub(crate) environment: BTreeMap<Cow<'a, str>, RawText<'a>>,
    pub(crate) work_dir: RawText<'a>,
    #[serde(default, skip_serializing_if = "is_empty")]
    pub(crate) stdin: RawText<'a>,
    /// Variables that named a file with a secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) secrets: Vec<Cow<'a, str>>,
}

fn is_empty(text: &RawText<'_>) -> bool {
    text.0.is_empty()
}

/// Variables whose value is the scratch folder's, which is gone by then.
const SCRATCH_VARIABLES: [&str; 2] = ["TMPDIR", "TASK_OUTPUT"];

/// The reproduction script, bytes: arguments need not be text.
pub(crate) fn render(run: &Run<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let script = quoted(&run.script.0);
    let work_dir = quoted(&run.work_dir.0);
    push(
        &mut out,
        &[b"#!/bin/sh\n# Reproduces task ", run.id.as_bytes(), b" by hand: same script, arguments, "],
    );
    push(
        &mut out,
        &[b"variables, input and working folder;\n# another scratch folder, removed at the end.\n"],
    );
    push(&mut out, &[b"set -u\nscript=", &script, b"\nwork_dir=", &work_dir, b"\n"]);
    push(&mut out, &[b"sha256=", run.script_sha256.as_bytes(), b"\n"]);
    run.secrets.iter().for_each(|variable| push(&mut out, &[secret_check(variable).as_bytes()]));
    out.extend_from_slice(CHECKS.as_bytes());
    push(&mut out, &[&stdin(&run.stdin.0), b"env -i \\\n"]);
    for (name, value) in &run.environment {
        if !SCRATCH_VARIABLES.contains(&name.as_ref()) && !run.secrets.contains(name) {
            push(&mut out, &[b"  ", name.as_bytes(), b"=", &quoted(&value.0), b" \\\n"]);
        }
    }
    push(&mut out, &[b"  TMPDIR=\"$scratch\" TASK_OUTPUT=\"$scratch/", OUTPUT_FILE.as_bytes(), b"\" \\\n"]);
    for variable in run.secrets.iter().map(|variable| variable.as_bytes()) {
        push(&mut out, &[b"  ", variable, b"=\"$", variable, b"\" \\\n"]);
    }
    push(&mut out, &[b"  \"$script\""]);
    for arg in &run.args {
        push(&mut out, &[b" \\\n  ", &quoted(&arg.0)]);
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

/// Asks for a secret, whose value no record keeps: a variable names a file that holds it. A path relative to the folder
/// that this is called in is made one that holds in the working folder too.
fn secret_check(variable: &str) -> String {
    format!(
        r#"if ! [ -r "${{{variable}:-}}" ]; then
  echo "debug.sh: the run had a secret, whose value was not kept: set {variable} to a file that holds it" >&2
  exit 126
fi
case ${variable} in /*) ;; *) {variable}=$PWD/${variable} ;; esac
"#
    )
}

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
