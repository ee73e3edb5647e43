//! What somebody sets about a scripts folder, from whoever reads settings to whoever opens the folder.

use std::path::PathBuf;

use crate::{PublicKey, VerificationMode};

/// How scripts are found and vouched for.
#[derive(Debug, Clone)]
pub struct ScriptsSettings {
    /// The scripts folder.
    pub folder: PathBuf,
    /// The folder of the agent's own records; snapshots are kept below it.
    pub state_dir: PathBuf,
    /// When the folder must verify.
    pub verification: VerificationMode,
    /// Minisign keys; when there are any, the manifest must be signed by one of them.
    pub public_keys: Vec<PublicKey>,
}
