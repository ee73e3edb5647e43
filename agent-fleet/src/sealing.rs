//! Secrets on their way to a node: sealed boxes (X25519, XSalsa20 and Poly1305, as libsodium's `crypto_box_seal`). Who
//! sealed one is not told by the box but by the signature of the assignment that it is a part of.

use std::fmt;

use crypto_box::PublicKey;
use crypto_box::aead::OsRng;
use serde::{Deserialize, Serialize};
use task_runners::SecretString;

use crate::keys::{NodeKeys, SealingKey};

/// A sealed value, hexadecimal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed(String);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealed(..)")
    }
}

/// Seals a value to a node's key.
///
/// # Errors
/// Text, when it cannot be encrypted.
pub(crate) fn seal(to: &SealingKey, value: &str) -> Result<Sealed, String> {
    let sealed = PublicKey::from(to.0).seal(&mut OsRng, value.as_bytes());
    sealed.map(|bytes| Sealed(hex::encode(bytes))).map_err(|_| "a secret cannot be sealed".to_owned())
}

/// Opens what was sealed to this node's key.
pub(crate) fn open(keys: &NodeKeys, sealed: &Sealed) -> Option<SecretString> {
    let bytes = keys.sealing.unseal(&hex::decode(&sealed.0).ok()?).ok()?;
    // What is no text was never one of this agent's values.
    String::from_utf8(bytes).ok().map(SecretString::from)
}
