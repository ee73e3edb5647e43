//! What stands behind the scripts of an agent, for those who ask how it is.

/// What stands behind the scripts that would run now.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ScriptsStatus {
    /// Whether scripts are verified at all.
    pub verification: bool,
    /// Digest of the manifest in use.
    pub manifest: Option<String>,
    /// What is wrong with the folder now; a snapshot in use stays in use all the same.
    pub problems: Vec<String>,
    /// The command that mends it.
    pub mend: Option<String>,
    /// Why changes of the folder are seen only when somebody asks, where somebody was to watch it.
    pub unwatched: Option<String>,
}

impl ScriptsStatus {
    /// The same without its problems, of which there may be many.
    pub fn without_problems(&self) -> Self {
        Self {
            verification: self.verification,
            manifest: self.manifest.clone(),
            problems: Vec::new(),
            mend: self.mend.clone(),
            unwatched: self.unwatched.clone(),
        }
    }
}
