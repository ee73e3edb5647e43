//! Hooks: what other programs start by requests that they sign. This knows which hooks there are, whether a request is one of
//! theirs, and which task it asks for; `routes/hooks.rs` does with it what a request needs.
//!
//! | module | what it holds |
//! |---|---|
//! | `secrets` | the secrets of a hook, read from its file |
//! | `schemes` | how a request proves that it is signed, and what it says of itself |
//! | `asked` | whether the rules hold, and the task spec that the request becomes |
//! | `advice` | what the log says of hooks whose scripts do not fit |

mod advice;
mod asked;
mod schemes;
mod secrets;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_config::HookScheme;
use axum::http::HeaderMap;

use crate::rate::Rate;
pub(crate) use advice::tell_what_does_not_fit;
pub(crate) use asked::Payload;
pub(crate) use schemes::Delivery;
pub use secrets::HookError;
use secrets::Secrets;

/// The hooks that there are.
pub(crate) struct Hooks {
    all: HashMap<String, Arc<Hook>>,
    /// What requests to hooks that are not there are compared with.
    nobody: Arc<Secrets>,
}

/// A hook, with its secrets and the calls that it has had.
#[derive(Debug)]
pub(crate) struct Hook {
    settings: agent_config::Hook,
    /// What its tasks carry as `created_by`: no token can be named so.
    caller: String,
    secrets: Arc<Secrets>,
    rate: Option<Arc<Rate>>,
}

impl Hooks {
    /// Those of the settings, with the secrets that their files hold now.
    ///
    /// # Errors
    /// When a file cannot be read, others may read it, or it holds no secrets.
    pub(crate) fn open(hooks: &[agent_config::Hook]) -> Result<Self, HookError> {
        let none = Self { all: HashMap::new(), nobody: Arc::new(Secrets::of_nobody()?) };
        Self::after(&none, hooks).map(|(hooks, _)| hooks)
    }

    /// Those of newer settings. Each that may be called as often as before goes on from the calls that it has had. One whose
    /// file cannot be used just now keeps the secrets that it has, so that it keeps no change of another from being in force;
    /// why is given beside.
    ///
    /// # Errors
    /// When the file of one that had no secrets before cannot be used.
    pub(crate) fn after(
        before: &Self,
        hooks: &[agent_config::Hook],
    ) -> Result<(Self, Vec<HookError>), HookError> {
        let (mut all, mut unused) = (HashMap::new(), Vec::new());
        for settings in hooks {
            let old = before.all.get(&settings.name);
            let secrets = match (Secrets::open(settings), old.filter(|old| old.has_the_file_of(settings))) {
                (Ok(secrets), _) => Arc::new(secrets),
                (Err(error), Some(old)) => {
                    unused.push(error);
                    old.secrets.clone()
                }
                (Err(error), None) => return Err(error),
            };
            let mut hook = Hook::with(settings, secrets);
            if let Some(old) = old.filter(|old| old.most_calls() == hook.most_calls()) {
                hook.rate.clone_from(&old.rate);
            }
            all.insert(settings.name.clone(), Arc::new(hook));
        }
        Ok((Self { all, nobody: before.nobody.clone() }, unused))
    }

    /// The hook that a request is signed for. A name that no hook has costs as much time as a wrong signature.
    pub(crate) fn signed_for(
        &self,
        name: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Option<Arc<Hook>> {
        let named = name.and_then(|name| self.all.get(name));
        let (secrets, scheme) = match named {
            Some(hook) => (&hook.secrets, hook.scheme()),
            None => (&self.nobody, HookScheme::GitHub),
        };
        let is_signed = schemes::is_signed(scheme, secrets, headers, body);
        named.filter(|_| is_signed).cloned()
    }

    /// Whether there is a hook of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Their settings.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &agent_config::Hook> {
        self.all.values().map(|hook| &hook.settings)
    }
}

impl Hook {
    fn with(settings: &agent_config::Hook, secrets: Arc<Secrets>) -> Self {
        let rate =
            settings.requests_per_minute.map(|calls| Arc::new(Rate::per_minute(calls, Instant::now())));
        Self { caller: format!("hook:{}", settings.name), settings: settings.clone(), secrets, rate }
    }

    /// Whether its secrets are those that other settings mean.
    fn has_the_file_of(&self, settings: &agent_config::Hook) -> bool {
        self.settings.secret_file == settings.secret_file && self.settings.scheme == settings.scheme
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// Who calls by it, for tasks and the audit log.
    pub(crate) fn caller(&self) -> &str {
        &self.caller
    }

    pub(crate) fn scheme(&self) -> HookScheme {
        self.settings.scheme
    }

    /// Counts a call.
    ///
    /// # Errors
    /// It was called too often; the time until it may be again.
    pub(crate) fn take_call(&self) -> Result<(), Duration> {
        self.rate.as_ref().map_or(Ok(()), |rate| rate.take(Instant::now()))
    }

    fn most_calls(&self) -> Option<u32> {
        self.settings.requests_per_minute
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.all.keys()).finish()
    }
}

/// Looks whether the files of the hooks' secrets can be used.
///
/// # Errors
/// See [`HookError`].
pub fn check_hooks(settings: &agent_config::Settings) -> Result<(), HookError> {
    Hooks::open(&settings.hooks).map(drop)
}

/// The files of their secrets, each once.
pub(crate) fn files(hooks: &Hooks) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = hooks.settings().map(|hook| hook.secret_file.clone()).collect();
    files.sort();
    files.dedup();
    files
}
