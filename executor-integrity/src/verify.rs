//! Verifies a scripts folder as a whole: what its manifest lists, no more, no less, byte for byte, and
//! vouched for by whom the policy trusts.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::folder::unreadable;
use crate::inspect::{Seal, check_files, read_seal};
use crate::manifest::{Header, Manifest};
use crate::problem::{ManifestFault, Problem, Problems};
use crate::{PublicKey, fs};

/// What a manifest must fulfil. The default asks for no signature and accepts every version.
#[derive(Debug, Clone, Default)]
pub struct VerifyPolicy {
    public_keys: Vec<PublicKey>,
    minimum_version: u64,
    now: Option<Timestamp>,
}

impl VerifyPolicy {
    /// Accepts only what one of `keys` has signed. Without keys no signature is asked for or looked at.
    #[must_use]
    pub fn public_keys(self, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        Self { public_keys: keys.into_iter().collect(), ..self }
    }

    /// Refuses a manifest of an older version than `version`.
    #[must_use]
    pub fn minimum_version(self, version: u64) -> Self {
        Self { minimum_version: version, ..self }
    }

    /// Judges expiry as if it were `now`; otherwise it is the system's time at each verification.
    #[must_use]
    pub fn now(self, now: Timestamp) -> Self {
        Self { now: Some(now), ..self }
    }

    pub(crate) fn keys(&self) -> &[PublicKey] {
        &self.public_keys
    }

    /// The same policy where versions below `floor` are refused as well.
    pub(crate) fn with_floor(&self, floor: u64) -> Self {
        self.clone().minimum_version(self.minimum_version.max(floor))
    }

    pub(crate) fn judge(&self, header: &Header, problems: &mut Problems) {
        let (version, minimum) = (header.version, self.minimum_version);
        if version < minimum {
            let fault = ManifestFault::OlderVersion { version, minimum };
            problems.push(Problem::Manifest(fault));
        }
        let now = self.now.unwrap_or_else(Timestamp::now);
        if let Some(at) = header.expires.filter(|expires| *expires <= now) {
            problems.push(Problem::Manifest(ManifestFault::Expired { at }));
        }
    }
}

/// A manifest that its folder agreed with when it was verified. The folder may have changed since: only a
/// [`Snapshot`](crate::Snapshot) holds what was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedManifest {
    /// The manifest.
    pub manifest: Manifest,
    /// Who signed it, of the policy's keys; none when the policy has no keys.
    pub signed_by: Option<PublicKey>,
}

/// A scripts folder that does not verify, with everything that is wrong with it.
///
/// Shown, it lists one problem to a line, and the command that mends them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct VerifyError {
    folder: PathBuf,
    problems: Problems,
    signed: bool,
    at_least: Option<u64>,
}

impl VerifyError {
    /// `seal` is what could be read of the folder's manifest.
    pub(crate) fn new(folder: &Path, policy: &VerifyPolicy, seal: Option<&Seal>, problems: Problems) -> Self {
        // A new manifest counts from the one that is there: below what is accepted it must be told where to go on.
        let version = seal.map_or(0, |seal| seal.manifest.header().version);
        let at_least = (version < policy.minimum_version).then(|| policy.minimum_version.saturating_add(1));
        Self { folder: folder.to_owned(), problems, signed: !policy.keys().is_empty(), at_least }
    }

    /// The folder that was verified.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Everything that is wrong.
    #[must_use]
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The version that a new manifest must have, where counting from the one that is there leads to an older one than
    /// was accepted: what [`CreateOptions`](crate::CreateOptions) takes as `at_least_version`.
    #[must_use]
    pub fn at_least_version(&self) -> Option<u64> {
        self.at_least
    }

    /// The shell command that vouches for the folder as it is now; for who has looked at the problems.
    #[must_use]
    pub fn mend_command(&self) -> String {
        let folder = quoted(&self.folder);
        let create = match self.at_least {
            Some(version) => format!("agent-cli manifest create --at-least {version} {folder}"),
            None => format!("agent-cli manifest create {folder}"),
        };
        // The name that `manifest keygen` gives the secret key; where it lies is not for this machine to know.
        let sign = format!("agent-cli manifest sign --key minisign.key {folder}");
        if self.signed { format!("{create} && {sign}") } else { create }
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let folder = self.folder.display();
        write!(formatter, "verify scripts: the folder {folder} is refused:{}", self.problems)?;
        write!(formatter, "\nwhen all of it is as you want it: {}", self.mend_command())
    }
}

/// Verifies the scripts folder `folder` against its manifest.
///
/// # Errors
///
/// [`VerifyError`] with every problem, not only the first one. A folder that cannot be read is one too.
pub fn verify(folder: &Path, policy: &VerifyPolicy) -> Result<VerifiedManifest, VerifyError> {
    let mut problems = Problems::default();
    let seal = match fs::open_folder(folder) {
        Ok(root) => {
            let seal = read_seal(&root, policy, &mut problems);
            let manifest = seal.as_ref().map(|seal| &seal.manifest);
            // Nothing is copied, so that there is no error of copying.
            let _ = check_files(&root, manifest, None, &mut problems);
            seal
        }
        Err(error) => {
            problems.push(unreadable(".", &error));
            None
        }
    };
    match seal {
        Some(seal) if problems.is_empty() => {
            Ok(VerifiedManifest { manifest: seal.manifest, signed_by: seal.signed_by })
        }
        seal => Err(VerifyError::new(folder, policy, seal.as_ref(), problems)),
    }
}

/// `path` as one word of a shell command.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
