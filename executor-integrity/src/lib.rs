//! Decides which scripts may run, and keeps the very bytes that it decided on.
//!
//! A scripts folder is vouched for by its manifest, [`MANIFEST_NAME`], which `sha256sum -c` checks as it is
//! and which `minisign` may have signed. This crate creates and signs such a manifest, verifies a folder
//! against it and names everything that is wrong at once, and copies a verified folder, while it is being
//! hashed, into a store of read-only snapshots. What runs is taken from a snapshot, so that nobody who
//! rewrites the scripts folder afterwards, or in the middle of it, can change what runs.
//!
//! It knows nothing of tasks, configuration or processes, reads no environment, and every call blocks on
//! the disk: asynchronous callers run it on a thread of its own.
//!
//! ```
//! use executor_integrity::{CreateOptions, RelativeName, SnapshotStore, VerifyPolicy, create_manifest};
//! # let area = tempfile::tempdir()?;
//! # let (scripts, state) = (area.path().join("scripts"), area.path().join("state"));
//! # std::fs::create_dir(&scripts)?;
//! # std::fs::write(scripts.join("hello.sh"), "#!/bin/sh\necho hello\n")?;
//! create_manifest(&scripts, &CreateOptions::default())?;
//!
//! let store = SnapshotStore::at(&state.join("store"))?;
//! let snapshot = store.take(&scripts, &VerifyPolicy::default())?;
//! let script = snapshot.resolve(&RelativeName::new("hello.sh")?).expect("it is listed");
//! println!("{} has {}", snapshot.path_of(script).display(), script.digest);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod digest;
mod folder;
mod fs;
mod inspect;
mod manifest;
mod mode;
mod name;
mod problem;
mod settings;
mod signature;
mod store;
mod verify;

pub use digest::{Digest, DigestError};
pub use folder::{MAX_FILE_BYTES, MAX_FOLDER_ENTRIES};
pub use manifest::create::{CreateError, CreateOptions, create_manifest};
pub use manifest::{Header, MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, ManifestError};
pub use mode::VerificationMode;
pub use name::{NameError, RelativeName};
pub use problem::{FileFault, LineFault, MAX_PROBLEMS, ManifestFault, Problem, Problems};
pub use settings::ScriptsSettings;
pub use signature::sign::{SignError, sign_manifest};
pub use signature::{KeyError, PublicKey, SIGNATURE_NAME, SecretKey, keygen};
pub use store::prune::KEEP_SNAPSHOTS;
pub use store::snapshot::{Snapshot, SnapshotFile};
pub use store::take::TakeError;
pub use store::{SnapshotStore, StoreError};
pub use verify::{VerifiedManifest, VerifyError, VerifyPolicy, verify};
