//! The manifest: which files a scripts folder holds, with their digests, and how old the list is.
//!
//! The file is what `sha256sum -c` reads as it is. Comment lines, which it skips, carry the version.

pub(crate) mod create;
pub(crate) mod parse;

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::problem::Problems;
use crate::{Digest, RelativeName};

/// The manifest's file name in its scripts folder.
pub const MANIFEST_NAME: &str = "MANIFEST.sha256";

/// The largest manifest that is read, in bytes (16 MiB, some 150,000 files).
pub const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// What the comment lines of a manifest say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// `# version: 3`; only grows. 0 where there is no such line, as in what `sha256sum` itself writes.
    pub version: u64,
    /// `# created: 2026-01-31T12:00:00Z` (RFC 3339). For people; nothing is decided by it.
    pub created: Option<Timestamp>,
    /// `# expires: 2026-12-31T00:00:00Z` (RFC 3339): from then on the manifest is refused.
    pub expires: Option<Timestamp>,
}

/// A manifest, named by the digest of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    header: Header,
    entries: BTreeMap<RelativeName, Digest>,
    bytes: Vec<u8>,
    digest: Digest,
}

/// Bytes that are no manifest, with everything that is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("read manifest: it has mistakes:{0}")]
pub struct ManifestError(Problems);

impl Manifest {
    /// A manifest that lists `entries`.
    #[must_use]
    pub fn new(header: Header, entries: BTreeMap<RelativeName, Digest>) -> Self {
        let mut text = format!("# version: {}\n", header.version);
        for (key, time) in [("created", header.created), ("expires", header.expires)] {
            if let Some(time) = time {
                text.push_str(&format!("# {key}: {time}\n"));
            }
        }
        for (name, digest) in &entries {
            text.push_str(&format!("{digest}  {name}\n"));
        }
        Self::of(header, entries, text.into_bytes())
    }

    /// Reads a manifest from the bytes of its file.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] with every mistake and its line: anything but comments and
    /// `<64 lowercase hexadecimal digits>  <name>`, a name outside the grammar or twice, a malformed or
    /// repeated header line, carriage returns, a byte order mark, no newline at the end, or over
    /// [`MAX_MANIFEST_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut problems = Problems::default();
        let manifest = parse::parse_all(bytes.to_vec(), &mut problems);
        if problems.is_empty() {
            return Ok(manifest);
        }
        Err(ManifestError(problems))
    }

    fn of(header: Header, entries: BTreeMap<RelativeName, Digest>, bytes: Vec<u8>) -> Self {
        let digest = Digest::of(&bytes);
        Self { header, entries, bytes, digest }
    }

    /// What its comment lines say.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The files that it lists, in the order of their names.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<RelativeName, Digest> {
        &self.entries
    }

    /// The bytes of its file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of its bytes, comments included: the name of the snapshot that is made by it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl ManifestError {
    /// Everything that is wrong.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.0
    }
}
