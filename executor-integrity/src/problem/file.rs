//! What can be wrong with one file or folder beneath the scripts folder.

use crate::Digest;
use crate::folder::{MAX_FILE_BYTES, MAX_FOLDER_ENTRIES};

/// What is wrong with a file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileFault {
    /// It is there, and the manifest does not list it.
    Unlisted,
    /// The manifest lists it, and there is no such file.
    Missing,
    /// Its bytes are not those that the manifest lists.
    DigestDiffers {
        /// What the manifest lists.
        listed: Digest,
        /// What was read.
        found: Digest,
    },
    /// It is a symbolic link: what it leads to may lie anywhere, and change.
    SymbolicLink,
    /// It has further names: whoever may write one of them elsewhere writes this file.
    HardLink {
        /// How many names it has in all.
        links: u64,
    },
    /// It is neither a file nor a folder.
    Special {
        /// What it is.
        kind: &'static str,
    },
    /// Its group or everybody may write it. An access control list that lets others write shows here too.
    WritableByOthers {
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to somebody else than root, the agent, or the owner of the scripts folder.
    ForeignOwner {
        /// The user's number.
        uid: u32,
    },
    /// Its name is outside the grammar of names; of a folder, what is in it was not looked at.
    BadName {
        /// Which rule it breaks.
        rule: String,
    },
    /// It was to become the manifest or its signature, and whoever wrote it was interrupted.
    HalfWritten,
    /// It is over 1 GiB large, and was not read.
    TooLarge,
    /// The scripts folder holds too much; what follows this file was not looked at.
    TooMany,
    /// It could not be opened or read.
    Unreadable {
        /// What the system said.
        error: String,
    },
}

impl FileFault {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Unlisted => "unlisted",
            Self::Missing => "missing",
            Self::DigestDiffers { .. } => "digest_differs",
            Self::SymbolicLink => "symbolic_link",
            Self::HardLink { .. } => "hard_link",
            Self::Special { .. } => "special_file",
            Self::WritableByOthers { .. } => "writable_by_others",
            Self::ForeignOwner { .. } => "foreign_owner",
            Self::BadName { .. } => "bad_name",
            Self::HalfWritten => "half_written",
            Self::TooLarge => "file_too_large",
            Self::TooMany => "too_many_files",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    pub(super) fn wrong(&self) -> String {
        match self {
            Self::Unlisted => "it is not listed in the manifest".to_owned(),
            Self::Missing => "the manifest lists it and it is not there".to_owned(),
            Self::DigestDiffers { listed, found } => {
                format!("its content has sha256 {found}, the manifest lists {listed}")
            }
            Self::SymbolicLink => "it is a symbolic link".to_owned(),
            Self::HardLink { links } => format!("it is a hard link, the file has {links} names"),
            Self::Special { kind } => format!("it is a {kind}"),
            Self::WritableByOthers { mode } => {
                format!("its mode {mode:04o} lets its group or everybody write it")
            }
            Self::ForeignOwner { uid } => format!("it belongs to the user with number {uid}"),
            Self::BadName { rule } => rule.clone(),
            Self::HalfWritten => {
                "it was to become the manifest or its signature, and its writing was interrupted".to_owned()
            }
            Self::TooLarge => format!("it is larger than {MAX_FILE_BYTES} bytes"),
            Self::TooMany => {
                format!("the folder holds more than {MAX_FOLDER_ENTRIES} files and folders")
            }
            Self::Unreadable { error } => format!("it cannot be read: {error}"),
        }
    }

    pub(super) fn right(&self) -> &'static str {
        match self {
            Self::Unlisted => "remove it, or create the manifest anew",
            Self::Missing => "restore it, or create the manifest anew",
            Self::DigestDiffers { .. } => {
                "restore its content, or look at the change and create the manifest anew"
            }
            Self::SymbolicLink | Self::HardLink { .. } => "put a copy of the file in its place",
            Self::Special { .. } => "only files and folders may lie here, remove it",
            Self::WritableByOthers { .. } => "only its owner may write it: chmod go-w",
            Self::ForeignOwner { .. } => {
                "it must belong to root, the agent's user, or the owner of the scripts folder: chown"
            }
            Self::BadName { .. } => "rename it, or move it out of the scripts folder",
            Self::HalfWritten => "remove it, or create the manifest anew, which removes it",
            Self::TooLarge => "keep large files elsewhere, and list scripts only",
            Self::TooMany => "keep only scripts and what they need here",
            Self::Unreadable { .. } => "the agent's user must be able to read it",
        }
    }
}
