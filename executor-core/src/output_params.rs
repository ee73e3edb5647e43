//! Output parameters: what a script hands back in its `output.env`.
//!
//! Lines are `KEY=VALUE`, or `KEY<<MARK` with the value on the lines up to one that is `MARK`. Empty lines and
//! lines that start with `#` are passed over. A file that breaks a rule is reported and gives nothing.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::environment::is_variable_name;

/// Name of the file in scratch and in the working folder.
pub(crate) const OUTPUT_FILE: &str = "output.env";

/// Most keys in one file.
const MAX_KEYS: usize = 256;
/// Longest value, bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;
/// Largest file, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Output parameters by name.
pub type OutputParams = BTreeMap<String, String>;

/// Why a file of output parameters gave none.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A line breaks a rule.
    #[error("output.env line {line}: {message}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The file as a whole breaks a rule.
    #[error("output.env: {0}")]
    File(&'static str),
    /// The file could not be read.
    #[error("cannot read output.env: {0}")]
    Io(#[from] io::Error),
}

/// Reads the parameters from the file `output.env` in `folder`; none when there is no such file.
///
/// # Errors
/// When the file is a link, a device or a pipe, is too large, or breaks a rule.
pub(crate) fn collect(folder: impl AsFd) -> Result<Option<OutputParams>, OutputError> {
    // Without O_NONBLOCK a pipe planted there would hold the agent up.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let file = match openat(folder, OUTPUT_FILE, flags, Mode::empty()) {
        Ok(fd) => std::fs::File::from(fd),
        Err(nix::Error::ENOENT) => return Ok(None),
        Err(nix::Error::ELOOP) => {
            return Err(OutputError::File("it is a symbolic link; it must be a regular file"));
        }
        Err(nix::Error::ENXIO) => {
            return Err(OutputError::File("it is a socket or a pipe; it must be a regular file"));
        }
        Err(error) => return Err(OutputError::Io(error.into())),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(OutputError::File("it is not a regular file"));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(OutputError::File("it is larger than 1 MiB"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that grew meanwhile.
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(OutputError::File("it is larger than 1 MiB"));
    }
    parse(&bytes).map(Some)
}

/// Parses the content of an `output.env`.
///
/// # Errors
/// At the first line that breaks a rule; nothing of the file counts then.
pub fn parse(bytes: &[u8]) -> Result<OutputParams, OutputError> {
    let text = std::str::from_utf8(bytes).map_err(|_| OutputError::File("it is not UTF-8"))?;
    if text.starts_with('\u{feff}') {
        return Err(OutputError::File("it starts with a byte order mark; write it without"));
    }
    if text.contains('\0') {
        return Err(OutputError::File("it holds a null byte"));
    }
    if text.contains('\r') {
        return Err(OutputError::File("it holds a carriage return; lines end with a newline alone"));
    }
    if !text.is_empty() && !text.ends_with('\n') {
        return Err(OutputError::File("its last line has no newline, so it may not have been written whole"));
    }
    let mut params = OutputParams::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |message: String| OutputError::Line { line: index + 1, message };
        let (key, value) = match separators(line) {
            Some((key, Separator::Equals, value)) => (key, value.to_owned()),
            Some((key, Separator::Here, mark)) => (key, here_value(mark, &mut lines).map_err(at)?),
            None => return Err(at("expected KEY=VALUE or KEY<<MARK".to_owned())),
        };
        insert(&mut params, key, value).map_err(at)?;
    }
    Ok(params)
}

enum Separator {
    Equals,
    Here,
}

/// Splits a line at its first `=` or `<<`, whichever comes first.
fn separators(line: &str) -> Option<(&str, Separator, &str)> {
    let equals = line.find('=').unwrap_or(usize::MAX);
    let here = line.find("<<").unwrap_or(usize::MAX);
    match equals.min(here) {
        usize::MAX => None,
        at if at == equals => Some((&line[..at], Separator::Equals, &line[at + 1..])),
        at => Some((&line[..at], Separator::Here, &line[at + 2..])),
    }
}

fn here_value<'a>(mark: &str, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<String, String> {
    if mark.is_empty() {
        return Err("expected a mark behind <<".to_owned());
    }
    let mut value: Option<String> = None;
    for (_, line) in lines {
        if line == mark {
            return Ok(value.unwrap_or_default());
        }
        match &mut value {
            None => value = Some(line.to_owned()),
            Some(value) => {
                value.push('\n');
                value.push_str(line);
            }
        }
    }
    Err(format!("there is no line '{}' that ends the value", mark.escape_debug()))
}

fn insert(params: &mut OutputParams, key: &str, value: String) -> Result<(), String> {
    if !is_variable_name(key) {
        return Err(format!(
            "'{}' is no name; names are letters, digits and '_' and do not start with a digit",
            key.escape_debug()
        ));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("the value of {key} is larger than 64 KiB"));
    }
    if params.len() == MAX_KEYS {
        return Err("there are more than 256 names".to_owned());
    }
    match params.insert(key.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(format!("{key} is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_are_read() {
        let params = parse(b"# note\nA=1\n\nB=x=y<<z\nC<<END\none\n\ntwo\nEND\nD<<E\nE\nF=\n").unwrap();
        let pairs: Vec<_> = params.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "x=y<<z"), ("C", "one\n\ntwo"), ("D", ""), ("F", "")]);
    }

    #[test]
    fn a_bad_line_spoils_the_whole_file_and_is_named() {
        for (bytes, message) in [
            (&b"A=1\nA=2\n"[..], "line 2: A is there twice"),
            (b"A=1\nnonsense\n", "line 2: expected KEY=VALUE"),
            (b"1A=1\n", "line 1: '1A' is no name"),
            (b"A<<X\nb\n", "line 1: there is no line 'X'"),
            (b"A<<\n\n", "line 1: expected a mark"),
            (b"A=1\r\n", "carriage return"),
            (b"\xef\xbb\xbfA=1\n", "byte order mark"),
            (b"A=\0\n", "null byte"),
            (b"A=\xff\n", "not UTF-8"),
            (b"A=1", "no newline"),
        ] {
            let error = parse(bytes).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
