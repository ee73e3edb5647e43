//! Makes tokens: the text that their owner keeps, and the digest that the configuration keeps.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::token::TokenDigest;

/// What every token begins with, so that a token that leaked is recognised by whoever looks for such things.
const PREFIX: &str = "dag_";
/// Random bytes in a token.
const SECRET_BYTES: usize = 32;

/// A token that was made just now. Its `Debug` form does not show it.
pub struct NewToken(String);

impl NewToken {
    /// Makes a token of 256 random bits (random(4)).
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut secret = [0; SECRET_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self(format!("{PREFIX}{}", hex::encode(secret))))
    }

    /// The token itself; shown once, to its owner.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Its digest.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of_token(&self.0)
    }
}

impl TokenDigest {
    /// The digest of a token that somebody presents.
    pub fn of_token(token: &str) -> Self {
        Self::of(token.as_bytes())
    }

    /// The digest of a certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self::of(der)
    }

    fn of(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Self::from(digest)
    }
}

impl fmt::Debug for NewToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewToken(..)")
    }
}
