//! Secrets of a command line: `--secret NAME=@FILE`, or `NAME=@-` for standard input. The value is the file's content to the
//! byte, a last newline too. No message repeats what does not follow the form, since it may be the secret.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use task_runners::validate::secret::MAX_SECRET_BYTES;
use task_runners::{Problem, SecretString, Secrets};

/// The form, for messages.
const FORM: &str =
    "NAME=@FILE, or NAME=@- for standard input: a value on the command line is seen by every user";

/// Reads the secrets of these options.
pub(crate) fn read(options: &[String], problems: &mut Vec<Problem>) -> Secrets {
    let mut secrets = Secrets::default();
    let mut is_stdin_read = false;
    for option in options {
        let parts = option.split_once('=').and_then(|(name, source)| Some((name, source.strip_prefix('@')?)));
        let Some((name, source)) = parts.filter(|(name, _)| !name.is_empty()) else {
            problems.push(Problem::new("secrets", "secret_source", FORM));
            continue;
        };
        let field = format!("secrets.{}", name.escape_debug());
        if secrets.contains(name) {
            problems.push(Problem::new(field, "duplicate", "--secret once for each name"));
            continue;
        }
        if source == "-" && std::mem::replace(&mut is_stdin_read, true) {
            let expected = "a file: standard input holds one secret only";
            problems.push(Problem::new(field, "secret_source", expected));
            continue;
        }
        match value(source) {
            Ok(value) => secrets.set(name, value),
            Err(expected) => problems.push(Problem::new(field, "secret_source", expected)),
        }
    }
    secrets
}

/// The value that a source holds, or what would be right.
fn value(source: &str) -> Result<SecretString, String> {
    let bytes = match source {
        "-" => bounded(io::stdin()),
        path => open(Path::new(path)).and_then(bounded),
    };
    let bytes = bytes.map_err(|error| format!("a file that can be read: {error}"))?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err("1 MiB at most".to_owned());
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err("UTF-8 text; other bytes go as text too, in base64 for one".to_owned()),
    }
}

/// Opens a file or a pipe. Others, a device for one, may never end, or do something when they are opened.
fn open(path: &Path) -> io::Result<File> {
    let kind = path.metadata()?.file_type();
    if kind.is_file() || kind.is_fifo() {
        return File::open(path);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a regular file nor a pipe"))
}

fn bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed tells what is too large.
    source.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
