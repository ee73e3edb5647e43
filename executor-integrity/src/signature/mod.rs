//! Signatures of manifests, as the `minisign` program makes and checks them
//! (<https://jedisct1.github.io/minisign/#signature-format>): Ed25519 over the BLAKE2b digest of the file.
//! The older format, which signs the file itself, is refused.

pub(crate) mod keys;
pub(crate) mod sign;

use std::io::Cursor;

use minisign::SignatureBox;

use crate::problem::ManifestFault;
pub use keys::{KeyError, PublicKey, SecretKey, keygen};

/// The file name of the manifest's signature, in the same folder.
pub const SIGNATURE_NAME: &str = "MANIFEST.sha256.minisig";

/// The largest signature file that is read, in bytes. Real ones have some 300.
pub(crate) const MAX_SIGNATURE_BYTES: u64 = 8 << 10;

/// The length of the second line's 74 bytes (algorithm, key id, signature) in base64.
const SIGNATURE_DIGITS: usize = 100;
/// The length of the fourth line's 64 bytes (signature over the comment) in base64.
const COMMENT_SIGNATURE_DIGITS: usize = 88;

/// Which of `keys` has made `signature` over `manifest`.
pub(crate) fn check_signature(
    manifest: &[u8],
    signature: Option<&[u8]>,
    keys: &[PublicKey],
) -> Result<PublicKey, ManifestFault> {
    let bad = |why: &str| ManifestFault::BadSignature { why: why.to_owned() };
    let signature = signature.ok_or(ManifestFault::Unsigned)?;
    let signature = read(signature).ok_or_else(|| bad("the file is not what minisign writes"))?;
    if !signature.is_prehashed() {
        return Err(bad("it has minisign's old format, sign with minisign 0.11 or -H"));
    }
    let mut known = keys.iter().filter(|key| key.as_minisign().keynum() == signature.keynum()).peekable();
    if known.peek().is_none() {
        return Err(ManifestFault::WrongKey { key_id: keys::key_id(signature.keynum()) });
    }
    let holds = |key: &&PublicKey| {
        minisign::verify(key.as_minisign(), &signature, Cursor::new(manifest), true, false, false).is_ok()
    };
    match known.find(holds) {
        Some(key) => Ok(key.clone()),
        None => Err(bad("it was made for other bytes, or is damaged")),
    }
}

/// The length of both signatures is looked at here, since the library reads beyond the end of short ones.
fn read(bytes: &[u8]) -> Option<SignatureBox> {
    let text = std::str::from_utf8(bytes).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let [_, signature, _, comment_signature] = lines[..] else { return None };
    if signature.len() != SIGNATURE_DIGITS || comment_signature.len() != COMMENT_SIGNATURE_DIGITS {
        return None;
    }
    SignatureBox::from_string(text).ok()
}
