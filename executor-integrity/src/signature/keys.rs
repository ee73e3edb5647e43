//! The keys that manifests are signed and checked with, in minisign's own formats.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ct_codecs::{Base64, Decoder};
use minisign::{KeyPair, SecretKeyBox};

/// The first two bytes of a key: Ed25519.
const ALGORITHM: &[u8] = b"Ed";

/// The length of a secret key's file, its line of base64 decoded.
const SECRET_BYTES: usize = 158;
/// Where it says how the key is locked.
const LOCK: Range<usize> = 2..4;
/// What it says there of a key without a password.
const NO_LOCK: &[u8] = &[0, 0];
/// Where it has a checksum of the key. `minisign` leaves it out when there is no password, which the library
/// takes for damage; that such a key is whole shows when it signs, since the signature is checked then.
const CHECKSUM: Range<usize> = 126..158;

/// A minisign public key: one line of base64.
#[derive(Clone)]
pub struct PublicKey(minisign::PublicKey);

/// A minisign secret key, unlocked. It is never shown.
pub struct SecretKey(minisign::SecretKey);

/// Why a key could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A text is no public key.
    #[error("read public key: {text:?} is neither minisign's 56 base64 characters nor a .pub file's content")]
    NotPublic {
        /// The text, shortened.
        text: String,
    },
    /// A file is no secret key.
    #[error("read secret key: {} is not what minisign -G writes", path.display())]
    NotSecret {
        /// The file.
        path: PathBuf,
    },
    /// A secret key is locked by a password, and none was given.
    #[error("read secret key: {} is locked, its password is needed", path.display())]
    PasswordNeeded {
        /// The file.
        path: PathBuf,
    },
    /// The password is not the one that the secret key was locked with.
    #[error("read secret key: the password of {} is another one, or the file is damaged", path.display())]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// A key file cannot be read or written; one that exists is never overwritten.
    #[error("{action} key: {}", path.display())]
    File {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No key could be made: the system has no random numbers, or too little memory for the password.
    #[error("make key: {reason}")]
    Generate {
        /// What the library said.
        reason: String,
    },
}

impl PublicKey {
    /// Reads a public key, from its line of base64 or from the content of a `.pub` file.
    ///
    /// # Errors
    ///
    /// [`KeyError::NotPublic`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        // A .pub file has a comment line before the key.
        let line = text.trim().lines().last().unwrap_or_default().trim();
        minisign::PublicKey::from_base64(line)
            .ok()
            .filter(|key| key.to_bytes().starts_with(ALGORITHM))
            .map(Self)
            .ok_or_else(|| KeyError::NotPublic { text: text.chars().take(80).collect() })
    }

    /// The key's id, as `minisign` prints it.
    #[must_use]
    pub fn id(&self) -> String {
        key_id(self.0.keynum())
    }

    pub(crate) fn as_minisign(&self) -> &minisign::PublicKey {
        &self.0
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::parse(text)
    }
}

/// Writes the line of base64.
impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.to_base64())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "PublicKey({self})")
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bytes() == other.0.to_bytes()
    }
}

impl Eq for PublicKey {}

impl SecretKey {
    /// Reads the secret key in the file `path`, and unlocks it with `password` when it is locked.
    ///
    /// Unlocking takes as much time and memory as the file says: up to 1 GiB and some seconds for keys that
    /// the `minisign` program made.
    ///
    /// # Errors
    ///
    /// [`KeyError`]: the file cannot be read or is no secret key, or the password is missing or wrong.
    pub fn load(path: &Path, password: Option<&str>) -> Result<Self, KeyError> {
        let text = std::fs::read_to_string(path).map_err(|source| KeyError::File {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let not_secret = || KeyError::NotSecret { path: path.to_owned() };
        let bytes = decoded(&text).ok_or_else(not_secret)?;
        match (&bytes[LOCK], password) {
            (NO_LOCK, _) if bytes[CHECKSUM].iter().all(|byte| *byte == 0) => {
                minisign::SecretKey::from_bytes(&bytes).map(Self).map_err(|_| not_secret())
            }
            (NO_LOCK, _) => {
                let key = SecretKeyBox::from(text).into_unencrypted_secret_key();
                key.map(Self).map_err(|_| not_secret())
            }
            (_, None) => Err(KeyError::PasswordNeeded { path: path.to_owned() }),
            (_, Some(password)) => {
                let key = SecretKeyBox::from(text).into_secret_key(Some(password.to_owned()));
                key.map(Self).map_err(|error| match error.kind() {
                    minisign::ErrorKind::Verify => KeyError::WrongPassword { path: path.to_owned() },
                    _ => not_secret(),
                })
            }
        }
    }

    /// The public key that belongs to it.
    ///
    /// # Errors
    ///
    /// [`KeyError::Generate`] when the secret key holds none.
    pub fn public_key(&self) -> Result<PublicKey, KeyError> {
        minisign::PublicKey::from_secret_key(&self.0).map(PublicKey).map_err(|error| generate(&error))
    }

    pub(super) fn as_minisign(&self) -> &minisign::SecretKey {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretKey(...)")
    }
}

/// Makes a pair of keys: the secret one in the file `secret`, mode 0600, locked by `password` when there is
/// one, and the public one in the file `public`, mode 0644. Both survive a power cut.
///
/// # Errors
///
/// [`KeyError`]. Neither file may exist: a key is never overwritten, and of a pair that could not be
/// written whole nothing is left.
pub fn keygen(secret: &Path, public: &Path, password: Option<&str>) -> Result<PublicKey, KeyError> {
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        None => KeyPair::generate_unencrypted_keypair(),
    }
    .map_err(|error| generate(&error))?;
    let secret_text = pair.sk.to_box(Some("minisign secret key")).map_err(|error| generate(&error))?;
    let public_text = pair.pk.to_box().map_err(|error| generate(&error))?;

    write_new(secret, 0o600, &secret_text.into_string())?;
    write_new(public, 0o644, &public_text.into_string()).inspect_err(|_| {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(secret);
    })?;
    Ok(PublicKey(pair.pk))
}

/// The id of a key as `minisign` prints it: its 8 bytes as a little-endian number, without leading zeros.
pub(super) fn key_id(bytes: &[u8]) -> String {
    let number = bytes.iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{number:X}")
}

fn generate(error: &minisign::PError) -> KeyError {
    KeyError::Generate { reason: error.to_string() }
}

/// The bytes of a secret key's file, when they are as long and begin as such bytes do.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let bytes = Base64::decode_to_vec(text.lines().nth(1)?, None).ok()?;
    (bytes.len() == SECRET_BYTES && bytes.starts_with(ALGORITHM)).then_some(bytes)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), KeyError> {
    let write = |mut file: File| {
        // The umask may have taken bits away, which others need to read the public key.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    };
    let failed = |source| KeyError::File { action: "write", path: path.to_owned(), source };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    write(file).map_err(failed).inspect_err(|_| {
        // The file is ours, it was new; the first error is the one to tell.
        let _ = std::fs::remove_file(path);
    })
}

#[cfg(test)]
mod tests {
    use super::key_id;

    #[test]
    fn a_key_id_is_shown_without_leading_zeros_as_minisign_does() {
        assert_eq!(key_id(&[0x85, 0x24, 0x2e, 0x8e, 0x44, 0xd0, 0x4c, 0xda]), "DA4CD0448E2E2485");
        assert_eq!(key_id(&[0x85, 0x24, 0x2e, 0x8e, 0x44, 0xd0, 0x4c, 0x0a]), "A4CD0448E2E2485");
        assert_eq!(key_id(&[0; 8]), "0");
    }
}
