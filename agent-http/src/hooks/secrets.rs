//! The secrets of a hook: two, so that one can be replaced while requests go on. They are read from a file that nobody else
//! may read, and shown nowhere.

use std::fmt;
use std::path::PathBuf;

use agent_config::{HookScheme, NewToken, TokenDigest};
use ct_codecs::{Base64, Decoder};
use ring::hmac::{Context, HMAC_SHA256, Key, Tag};

use crate::tls;

/// What secrets of `standard` begin with.
const STANDARD_PREFIX: &str = "whsec_";
/// Shortest secrets, bytes. Who signs may be anywhere, and may try all of shorter ones; Standard Webhooks asks for 24.
const LEAST_BYTES: usize = 16;
const LEAST_STANDARD_BYTES: usize = 24;
/// Longest line of a secret, bytes: what a header of a request may have.
const MOST_BYTES: usize = 512;

/// Why the secrets of a hook cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("hook.{hook}: secret_file: {}: {problem}", .path.display())]
pub struct HookError {
    hook: String,
    path: PathBuf,
    problem: String,
}

/// The secrets of a hook: always two. Where it has one, a random one that nobody knows stands beside it, so that a request
/// takes the same time whatever a hook has.
pub(super) struct Secrets([Secret; 2]);

/// A secret, in both forms in which requests prove that they know it.
pub(super) struct Secret {
    key: Key,
    digest: TokenDigest,
}

impl Secrets {
    /// Reads those of a hook.
    ///
    /// # Errors
    /// When the file cannot be read, others may read it, or what it holds are no secrets of the hook's scheme.
    pub(super) fn open(hook: &agent_config::Hook) -> Result<Self, HookError> {
        let failed = |problem| HookError { hook: hook.name.clone(), path: hook.secret_file.clone(), problem };
        let bytes = tls::secret(&hook.secret_file).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|_| failed("it is not text".to_owned()))?;
        Self::read(&text, hook.scheme).map_err(failed)
    }

    /// What requests to hooks that are not there are compared with.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) fn of_nobody() -> Result<Self, HookError> {
        let made = Secret::random().and_then(|one| Ok(Self([one, Secret::random()?])));
        made.map_err(|problem| HookError { hook: String::new(), path: PathBuf::new(), problem })
    }

    /// One secret a line, two at most.
    fn read(text: &str, scheme: HookScheme) -> Result<Self, String> {
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        match lines.as_slice() {
            [] => Err("there is no secret in it; `openssl rand -hex 32` makes one".to_owned()),
            [one] => Ok(Self([Secret::parse(one, scheme)?, Secret::random()?])),
            [one, other] => Ok(Self([Secret::parse(one, scheme)?, Secret::parse(other, scheme)?])),
            more => Err(format!(
                "it has {} lines; expected one secret, or two while it is changed, each in a line",
                more.len()
            )),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

impl Secret {
    fn parse(line: &str, scheme: HookScheme) -> Result<Self, String> {
        if line.contains(char::is_control) {
            return Err("a secret has control characters; expected one line of text".to_owned());
        }
        if line.len() > MOST_BYTES {
            return Err(format!("a secret has {} bytes; expected {MOST_BYTES} at most", line.len()));
        }
        let (bytes, least) = match scheme {
            HookScheme::GitHub | HookScheme::GitLab => (line.as_bytes().to_vec(), LEAST_BYTES),
            HookScheme::Standard => (standard(line)?, LEAST_STANDARD_BYTES),
        };
        match bytes.len() {
            length if length < least => Err(format!(
                "a secret has {length} bytes, which others may guess; expected {least} at least, such as `openssl rand -hex 32` \
                 makes"
            )),
            _ => Ok(Self::of(&bytes, line)),
        }
    }

    fn random() -> Result<Self, String> {
        let made = NewToken::generate().map_err(|error| format!("no random numbers: {error}"))?;
        Ok(Self::of(made.secret().as_bytes(), made.secret()))
    }

    fn of(key: &[u8], text: &str) -> Self {
        Self { key: Key::new(HMAC_SHA256, key), digest: TokenDigest::of_token(text) }
    }

    /// The HMAC of what is signed.
    pub(super) fn tag(&self, prefix: &[u8], body: &[u8]) -> Tag {
        let mut context = Context::with_key(&self.key);
        context.update(prefix);
        context.update(body);
        context.sign()
    }

    /// The digest of its text, for senders that send that.
    pub(super) fn digest(&self) -> &[u8; 32] {
        self.digest.as_bytes()
    }
}

/// The bytes of a secret as Standard Webhooks writes them down.
fn standard(line: &str) -> Result<Vec<u8>, String> {
    let encoded = line.strip_prefix(STANDARD_PREFIX);
    let decoded = encoded.and_then(|encoded| Base64::decode_to_vec(encoded, None).ok());
    decoded.ok_or_else(|| {
        format!("a secret is not of the scheme `standard`; expected {STANDARD_PREFIX} and base64 of 24 bytes at least")
    })
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_secret_or_two_and_none_that_others_guess() {
        let good = "0123456789abcdef";
        let whsec = format!("{STANDARD_PREFIX}MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3");
        let read = |text: &str, scheme| Secrets::read(text, scheme).map(|_| ());
        for text in [good.to_owned(), format!("\n{good}\r\n{good}x\n")] {
            assert_eq!(read(&text, HookScheme::GitHub), Ok(()));
        }
        assert_eq!(read(&whsec, HookScheme::Standard), Ok(()));
        for (text, scheme, why) in [
            ("", HookScheme::GitHub, "no secret"),
            (" \n\n", HookScheme::GitLab, "no secret"),
            ("c4n4ry", HookScheme::GitHub, "6 bytes"),
            (&format!("{good}\nc4n4ry"), HookScheme::GitLab, "6 bytes"),
            (&format!("{good}\n{good}1\n{good}2"), HookScheme::GitHub, "3 lines"),
            (&"c4n4ry".repeat(100), HookScheme::GitLab, "600 bytes"),
            ("c4n4ry-0123\u{0}456789abcdef", HookScheme::GitHub, "control characters"),
            ("c4n4ry0123456789abcdef0123456789", HookScheme::Standard, "expected whsec_"),
            ("whsec_c4n4ry!", HookScheme::Standard, "expected whsec_"),
            ("whsec_YzRuNHJ5", HookScheme::Standard, "6 bytes"),
        ] {
            let said = read(text, scheme).unwrap_err();
            assert!(said.contains(why) && !said.contains("c4n4ry"), "{why}: {said}");
        }
        let shown = format!("{:?}", Secrets::read(good, HookScheme::GitHub).unwrap());
        assert_eq!(shown, "Secrets(..)");
    }
}
