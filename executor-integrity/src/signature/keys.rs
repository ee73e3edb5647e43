//! The keys that manifests are signed and checked with, in minisign's own formats.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use minisign::{KeyPair, SecretKeyBox};

/// The first two bytes of a public key: Ed25519.
const ALGORITHM: &[u8] = b"Ed";

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
        if let Ok(key) = SecretKeyBox::from(text.clone()).into_unencrypted_secret_key() {
            return Ok(Self(key));
        }
        let Some(password) = password else {
            return Err(if is_locked_key(&text) {
                KeyError::PasswordNeeded { path: path.to_owned() }
            } else {
                KeyError::NotSecret { path: path.to_owned() }
            });
        };
        match SecretKeyBox::from(text).into_secret_key(Some(password.to_owned())) {
            Ok(key) => Ok(Self(key)),
            Err(error) if matches!(error.kind(), minisign::ErrorKind::Verify) => {
                Err(KeyError::WrongPassword { path: path.to_owned() })
            }
            Err(_) => Err(KeyError::NotSecret { path: path.to_owned() }),
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

/// The id of a key as `minisign` prints it: its 8 bytes as a little-endian number.
pub(super) fn key_id(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

fn generate(error: &minisign::PError) -> KeyError {
    KeyError::Generate { reason: error.to_string() }
}

/// Whether the file's second line starts as that of a key that a password locks: `Ed`, then `Sc` for scrypt.
fn is_locked_key(text: &str) -> bool {
    text.lines().nth(1).is_some_and(|line| line.starts_with("RWRTY"))
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
