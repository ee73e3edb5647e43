//! What can be wrong with the manifest as a whole, and with its signature.

use jiff::Timestamp;

use crate::manifest::{MANIFEST_NAME, MAX_MANIFEST_BYTES};
use crate::signature::SIGNATURE_NAME;

/// What is wrong with the manifest or its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestFault {
    /// There is no manifest.
    Absent,
    /// It is over 16 MiB large, and was not read.
    TooLarge,
    /// It starts with a byte order mark.
    ByteOrderMark,
    /// Public keys are configured, and there is no signature.
    Unsigned,
    /// The signature was made with a key that is not among the configured ones.
    WrongKey {
        /// The id of the key that made it, as `minisign` prints it.
        key_id: String,
    },
    /// The signature is damaged, or not this manifest's.
    BadSignature {
        /// In which way.
        why: String,
    },
    /// It is older than one that was accepted before.
    OlderVersion {
        /// Its version.
        version: u64,
        /// The oldest that is accepted.
        minimum: u64,
    },
    /// Its time is over.
    Expired {
        /// Until when it was valid.
        at: Timestamp,
    },
}

impl ManifestFault {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Absent => "no_manifest",
            Self::TooLarge => "manifest_too_large",
            Self::ByteOrderMark => "byte_order_mark",
            Self::Unsigned => "unsigned",
            Self::WrongKey { .. } => "wrong_key",
            Self::BadSignature { .. } => "bad_signature",
            Self::OlderVersion { .. } => "older_version",
            Self::Expired { .. } => "expired",
        }
    }

    pub(super) fn file(&self) -> &'static str {
        match self {
            Self::Unsigned | Self::WrongKey { .. } | Self::BadSignature { .. } => SIGNATURE_NAME,
            _ => MANIFEST_NAME,
        }
    }

    pub(super) fn wrong(&self) -> String {
        match self {
            Self::Absent => "there is no manifest".to_owned(),
            Self::TooLarge => format!("the manifest is larger than {MAX_MANIFEST_BYTES} bytes"),
            Self::ByteOrderMark => "the manifest starts with a byte order mark".to_owned(),
            Self::Unsigned => "the manifest is not signed, and public keys are configured".to_owned(),
            Self::WrongKey { key_id } => {
                format!("the manifest is signed with key {key_id}, which is not configured")
            }
            Self::BadSignature { why } => format!("the signature does not hold: {why}"),
            Self::OlderVersion { version, minimum } => {
                format!("the manifest has version {version}, and version {minimum} was accepted before")
            }
            Self::Expired { at } => format!("the manifest expired at {at}"),
        }
    }

    pub(super) fn right(&self) -> String {
        match self {
            Self::Absent | Self::TooLarge => "create the manifest".to_owned(),
            Self::ByteOrderMark => "plain UTF-8 without it, create the manifest anew".to_owned(),
            Self::Unsigned | Self::BadSignature { .. } => {
                "sign the manifest with the key of a configured public key".to_owned()
            }
            Self::WrongKey { .. } => {
                "sign it with a configured key, or add that key to manifest_public_keys".to_owned()
            }
            Self::OlderVersion { minimum, .. } => {
                format!("a manifest of version {minimum} or newer")
            }
            Self::Expired { .. } => "create the manifest anew with a later expires line".to_owned(),
        }
    }
}
