//! Reads a manifest, and goes on behind every mistake, so that all of them are told at once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;

use super::{Header, MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest};
use crate::problem::{LineFault, ManifestFault, Problem, Problems};
use crate::{Digest, RelativeName, SIGNATURE_NAME};

/// UTF-8's byte order mark.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The length of a digest in hexadecimal digits.
const DIGEST_DIGITS: usize = 64;

/// Reads `bytes` as far as they are a manifest.
pub(crate) fn parse_all(bytes: Vec<u8>, problems: &mut Problems) -> Manifest {
    let mut parser = Parser::default();
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        problems.push(Problem::Manifest(ManifestFault::TooLarge));
    } else {
        parser.lines(&bytes, problems);
    }
    let entries = parser.entries.into_iter().map(|(name, (digest, _))| (name, digest)).collect();
    Manifest::of(parser.header, entries, bytes)
}

#[derive(Default)]
struct Parser {
    header: Header,
    /// Which of the header's lines were seen.
    keys: Vec<Key>,
    /// The digest, and the number of the line that lists it.
    entries: BTreeMap<RelativeName, (Digest, usize)>,
    /// The first line that ends in a carriage return, and how many do.
    carriage_returns: Option<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Version,
    Created,
    Expires,
}

impl Parser {
    fn lines(&mut self, bytes: &[u8], problems: &mut Problems) {
        let text = match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(rest) => {
                problems.push(Problem::Manifest(ManifestFault::ByteOrderMark));
                rest
            }
            None => bytes,
        };
        let mut number = 0;
        for line in text.split_inclusive(|&byte| byte == b'\n') {
            number += 1;
            let Some(line) = line.strip_suffix(b"\n") else {
                problems.push(Problem::line_fault(number, LineFault::Unterminated));
                break;
            };
            if let Err(fault) = self.line(number, line) {
                problems.push(Problem::line_fault(number, fault));
            }
        }
        if let Some((first, lines)) = self.carriage_returns {
            problems.push(Problem::line_fault(first, LineFault::CarriageReturn { lines }));
        }
    }

    fn line(&mut self, number: usize, line: &[u8]) -> Result<(), LineFault> {
        let line = match line.strip_suffix(b"\r") {
            Some(rest) => {
                let seen = self.carriage_returns.get_or_insert((number, 0));
                seen.1 += 1;
                rest
            }
            None => line,
        };
        let line = std::str::from_utf8(line).map_err(|_| LineFault::Malformed)?;
        match line.strip_prefix('#') {
            Some(comment) => self.comment(comment),
            None => self.entry(number, line),
        }
    }

    fn entry(&mut self, number: usize, line: &str) -> Result<(), LineFault> {
        let (digest, rest) = line.split_at_checked(DIGEST_DIGITS).ok_or(LineFault::Malformed)?;
        let digest: Digest = digest.parse().map_err(|_| LineFault::Malformed)?;
        let name = rest.strip_prefix("  ").ok_or(LineFault::Malformed)?;
        if name == MANIFEST_NAME || name == SIGNATURE_NAME {
            let rule = "the manifest and its signature cannot be listed in the manifest".to_owned();
            return Err(LineFault::BadName { rule });
        }
        let name = RelativeName::new(name).map_err(|error| LineFault::BadName { rule: error.to_string() })?;
        match self.entries.entry(name) {
            Entry::Occupied(earlier) => Err(LineFault::Duplicate { first: earlier.get().1 }),
            Entry::Vacant(free) => {
                free.insert((digest, number));
                Ok(())
            }
        }
    }

    /// Takes `comment`, the text behind `#`. What looks like a header line must be one: a version that is
    /// silently not read would let an old manifest pass, and so would an expiry.
    fn comment(&mut self, comment: &str) -> Result<(), LineFault> {
        let Some((word, value)) = comment.split_once(':') else { return Ok(()) };
        let (key, expected) = match word.trim().to_ascii_lowercase().as_str() {
            "version" => (Key::Version, "# version: 3"),
            "created" => (Key::Created, "# created: 2026-01-31T12:00:00Z"),
            "expires" => (Key::Expires, "# expires: 2026-12-31T00:00:00Z"),
            _ => return Ok(()),
        };
        let refused = LineFault::BadHeader { expected };
        let exact =
            word.strip_prefix(' ').is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
        let Some(value) = value.strip_prefix(' ').filter(|_| exact) else { return Err(refused) };
        if self.keys.contains(&key) {
            return Err(refused);
        }
        self.keys.push(key);
        match key {
            Key::Version => self.header.version = whole_number(value).ok_or(refused)?,
            Key::Created => self.header.created = Some(time(value).ok_or(refused)?),
            Key::Expires => self.header.expires = Some(time(value).ok_or(refused)?),
        }
        Ok(())
    }
}

fn whole_number(text: &str) -> Option<u64> {
    // The standard parser takes a plus sign too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn time(text: &str) -> Option<Timestamp> {
    // The parser takes more than RFC 3339, a zone's name in brackets for one.
    let plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'T' | b'Z' | b'+' | b'.');
    text.bytes().all(plain).then(|| text.parse().ok())?
}
