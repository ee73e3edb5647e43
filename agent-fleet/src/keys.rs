//! Keys of both ends: what signs, what is sealed to, and the files that hold them.
//!
//! A key file is JSON with the secret bytes in hexadecimal, mode 0600, made at its first use: written beside, flushed,
//! renamed. One that others may read is refused, since it may be known already.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What stands in front of a signed challenge of an API server.
pub(crate) const CHALLENGE_CONTEXT: &[u8] = b"devops-agent challenge v1\0";
/// What stands in front of a signed hello of a node.
pub(crate) const HELLO_CONTEXT: &[u8] = b"devops-agent hello v1\0";
/// Longest key file that is read.
const MAX_FILE_BYTES: u64 = 4096;

/// Bytes of fixed length that stand in JSON as hexadecimal digits.
macro_rules! hex_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(crate) [u8; $length]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = NotHex;
            fn from_str(text: &str) -> Result<Self, NotHex> {
                let mut bytes = [0; $length];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| NotHex { digits: $length * 2 })?;
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex_bytes!(
    /// A public Ed25519 key.
    PublicKey, 32
);
hex_bytes!(
    /// A public X25519 key that secrets are sealed to.
    SealingKey, 32
);
hex_bytes!(
    /// An Ed25519 signature.
    Signature, 64
);
hex_bytes!(
    /// Random bytes that are used once.
    Nonce, 16
);

/// A text that should have been hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {digits} hexadecimal digits")]
pub struct NotHex {
    /// How many.
    digits: usize,
}

/// Why a key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot {operation} the key file {}: {source}", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others may read it, or it is no file of this user's.
    #[error("the key file {} must be a regular file of root's or of this user's that its owner alone may read (chmod 600)", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// Others may write it, or it is no file of this user's.
    #[error("the file {} with the key of the API server must be a regular file of root's or of this user's that its owner alone may write (chmod 600)", .path.display())]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// It holds no key.
    #[error("the key file {} holds no key of this agent; remove it to have a new one made, which the other end has to accept anew", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl Nonce {
    /// New random bytes.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn random() -> Result<Self, KeyError> {
        random().map(Self)
    }
}

impl PublicKey {
    /// Whether this key's owner signed `message` in `context`.
    pub(crate) fn has_signed(&self, context: &[u8], message: &[u8], signature: &Signature) -> bool {
        let signed = [context, message].concat();
        UnparsedPublicKey::new(&ED25519, self.0).verify(&signed, &signature.0).is_ok()
    }
}

/// A pair of keys that signs.
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

/// The keys of a node: its identity, and what secrets are sealed to.
#[derive(Debug)]
pub struct NodeKeys {
    pub(crate) identity: SigningKey,
    pub(crate) sealing: crypto_box::SecretKey,
}

/// A key file's content. Its own `Debug` would show secrets, so that it has none.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    ed25519: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x25519: Option<String>,
}

impl SigningKey {
    /// Reads the key in a file, or makes both.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let file = open(path, || Ok(KeyFile { ed25519: hex::encode(random::<32>()?), x25519: None }))?;
        Self::of(path, &file)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs a message in a context, so that it can be taken for nothing else.
    pub(crate) fn sign(&self, context: &[u8], message: &[u8]) -> Signature {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(&[context, message].concat()).as_ref());
        Signature(bytes)
    }

    fn of(path: &Path, file: &KeyFile) -> Result<Self, KeyError> {
        let damaged = || KeyError::Damaged { path: path.to_owned() };
        let seed = hex::decode(&file.ed25519).map_err(|_| damaged())?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| damaged())?;
        Ok(Self { pair })
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl NodeKeys {
    /// Reads the keys in a file, or makes both.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let new = || {
            let (ed25519, x25519) = (random::<32>()?, random::<32>()?);
            Ok(KeyFile { ed25519: hex::encode(ed25519), x25519: Some(hex::encode(x25519)) })
        };
        let file = open(path, new)?;
        let damaged = || KeyError::Damaged { path: path.to_owned() };
        let mut bytes = [0; 32];
        hex::decode_to_slice(file.x25519.as_deref().unwrap_or_default(), &mut bytes)
            .map_err(|_| damaged())?;
        Ok(Self { identity: SigningKey::of(path, &file)?, sealing: bytes.into() })
    }

    /// Who the node is.
    pub fn public(&self) -> PublicKey {
        self.identity.public()
    }

    /// What secrets are sealed to.
    pub fn sealing_key(&self) -> SealingKey {
        SealingKey(*self.sealing.public_key().as_bytes())
    }
}

/// The key that was pinned in a file; none where there is no such file.
///
/// # Errors
/// When it cannot be read, or holds no key: then nothing is trusted in its place.
pub fn pinned(path: &Path) -> Result<Option<PublicKey>, KeyError> {
    let file = match OpenOptions::new().read(true).custom_flags(libc_flags()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeyError::Io { operation: "open", path: path.to_owned(), source }),
    };
    // Whoever could write it could name an API server of his own.
    let text = read_of(path, &file, 0o022)?.ok_or_else(|| KeyError::Writable { path: path.to_owned() })?;
    match text.trim().parse() {
        Ok(key) => Ok(Some(key)),
        Err(_) => Err(KeyError::Damaged { path: path.to_owned() }),
    }
}

/// Pins a key in a file that was not there.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn pin(path: &Path, key: &PublicKey) -> Result<(), KeyError> {
    let failed = |source| KeyError::Io { operation: "write", path: path.to_owned(), source };
    write_new(path, format!("{key}\n").as_bytes()).map_err(failed)
}

/// Random bytes of the system's.
fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// Reads a key file, or makes it.
fn open(path: &Path, new: impl FnOnce() -> Result<KeyFile, KeyError>) -> Result<KeyFile, KeyError> {
    let failed = |operation| {
        let path = path.to_owned();
        move |source| KeyError::Io { operation, path, source }
    };
    let flags = libc_flags();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => read(path, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = new()?;
            let text = serde_json::to_string(&key).unwrap_or_default();
            write_new(path, text.as_bytes()).map_err(failed("make"))?;
            Ok(key)
        }
        Err(error) => Err(failed("open")(error)),
    }
}

fn read(path: &Path, file: &File) -> Result<KeyFile, KeyError> {
    let text = read_of(path, file, 0o077)?.ok_or_else(|| KeyError::Open { path: path.to_owned() })?;
    serde_json::from_str(&text).map_err(|_| KeyError::Damaged { path: path.to_owned() })
}

/// What is in a regular file of root's or of this user's; none in another, or where others have one of these rights to it.
fn read_of(path: &Path, mut file: &File, of_others: u32) -> Result<Option<String>, KeyError> {
    let failed = |source| KeyError::Io { operation: "read", path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    let is_own = [0, geteuid().as_raw()].contains(&metadata.uid());
    if !metadata.is_file() || !is_own || metadata.mode() & of_others != 0 {
        return Ok(None);
    }
    let mut text = String::new();
    (&mut file).take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(failed)?;
    Ok(Some(text))
}

/// Writes a file that is there whole or not at all, readable by its owner only.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

/// A link of the key's name is not followed, and a pipe not waited for.
fn libc_flags() -> i32 {
    nix::fcntl::OFlag::O_NOFOLLOW.union(nix::fcntl::OFlag::O_NONBLOCK).bits()
}
