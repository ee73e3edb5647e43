//! Reads the settings again when their file has changed, certificates and secrets of hooks when theirs have; or when told to.
//! Mistakes in them change nothing.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_config::{Loaded, Settings, Warning};
use agent_http::{Agent, Tls};
use task_runners::error_chain;
use tokio::sync::Notify;

use crate::arguments::Arguments;
use crate::watched::Watched;

/// Pause between two looks at the files: a change is in force within a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Takes over new settings and certificates each time that their files change, and when `now` says so.
pub(crate) async fn whenever_changed(
    agent: &Agent,
    arguments: &Arguments,
    loaded: &Loaded,
    now: &Notify,
) -> Infallible {
    let mut settings = SettingsInForce::of(agent, arguments, loaded);
    let mut certificates = agent.tls().map(CertificatesInUse::of);
    let mut secrets = HookSecrets::of(agent);
    let mut is_told = false;
    loop {
        if let Some(certificates) = &mut certificates {
            certificates.look(is_told).await;
        }
        settings.look(is_told).await;
        secrets.look(is_told).await;
        is_told = tokio::time::timeout(LOOK_EVERY, now.notified()).await.is_ok();
    }
}

/// The settings that hold, and the file that they came from.
struct SettingsInForce<'a> {
    agent: &'a Agent,
    arguments: &'a Arguments,
    settings: Settings,
    file: Option<PathBuf>,
    watched: Watched,
}

impl<'a> SettingsInForce<'a> {
    fn of(agent: &'a Agent, arguments: &'a Arguments, loaded: &Loaded) -> Self {
        let (settings, file) = (loaded.settings.clone(), loaded.file.clone());
        let watched = Watched::new("the settings stay as they are", file.iter().cloned().collect());
        Self { agent, arguments, settings, file, watched }
    }

    /// Has them read again where their file has changed, or somebody wants that.
    async fn look(&mut self, is_told: bool) {
        if self.watched.is_due(is_told).await {
            let read = self.read(is_told).await;
            self.watched.was_read(read);
        }
    }

    /// Reads them, and takes them over where they differ or where somebody wants to hear of it.
    ///
    /// # Errors
    /// Why they stay as they are.
    async fn read(&mut self, is_told: bool) -> Result<(), String> {
        if self.watched.is_gone() {
            // Without it the defaults would hold, and other tokens: an editor that replaces it must not do that.
            return Err(format!("their file is gone: {}", named(self.file.as_ref())));
        }
        let arguments = self.arguments.clone();
        let loaded = tokio::task::spawn_blocking(move || arguments.settings()).await;
        let Loaded { settings: new, file, warnings, .. } = loaded
            .map_err(|error| format!("they could not be read: {error}"))?
            .map_err(|error| error_chain(&error))?;
        if file != self.file {
            return Err(self.other_file(file.as_ref(), &warnings));
        }
        if !is_told && new == self.settings {
            return Ok(());
        }
        for warning in warnings {
            tracing::warn!(file = %warning.path.display(), "{warning}");
        }
        let waiting = self.agent.reload(&new).await.map_err(|error| error_chain(&error))?;
        self.settings = new;
        if waiting.is_empty() {
            tracing::info!("settings read again");
        } else {
            let sections = waiting.join(", ");
            tracing::warn!(%sections, "settings read again; changes in these sections take a restart");
        }
        Ok(())
    }

    /// Another file than that of the start would be read now, or none: the tokens of that one are not what anybody who
    /// touched this one has asked for.
    fn other_file(&self, file: Option<&PathBuf>, warnings: &[Warning]) -> String {
        let (start, now) = (named(self.file.as_ref()), named(file));
        let mut text =
            format!("they came from {start}, and would come from {now} now, which takes a restart");
        for warning in warnings {
            text.push_str(&format!("; {warning}"));
        }
        text
    }
}

/// The secrets of hooks, and the files that they came from.
struct HookSecrets<'a> {
    agent: &'a Agent,
    files: Vec<PathBuf>,
    watched: Watched,
}

impl<'a> HookSecrets<'a> {
    fn of(agent: &'a Agent) -> Self {
        let files = agent.hook_files();
        Self { agent, watched: Watched::new("the secrets of a hook stay as they are", files.clone()), files }
    }

    /// Has them read again where they have changed, or somebody wants that. New settings may name other files.
    async fn look(&mut self, is_told: bool) {
        if self.agent.hook_files() != self.files {
            *self = Self::of(self.agent);
        }
        if !self.files.is_empty() && self.watched.is_due(is_told).await {
            let unused: Vec<String> =
                self.agent.reload_hook_secrets().await.iter().map(|error| error_chain(error)).collect();
            self.watched.was_read(if unused.is_empty() { Ok(()) } else { Err(unused.join("; ")) });
        }
    }
}

fn named(file: Option<&PathBuf>) -> String {
    file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string())
}

/// What TLS is spoken with, and the files that it came from.
struct CertificatesInUse {
    tls: Arc<Tls>,
    watched: Watched,
}

impl CertificatesInUse {
    fn of(tls: &Arc<Tls>) -> Self {
        let files = tls.files().map(ToOwned::to_owned).collect();
        Self { tls: tls.clone(), watched: Watched::new("the certificate stays as it is", files) }
    }

    /// Has them read again where they have changed, or somebody wants that.
    async fn look(&mut self, is_told: bool) {
        if self.watched.is_due(is_told).await {
            let read = self.read().await;
            self.watched.was_read(read);
        }
    }

    async fn read(&self) -> Result<(), String> {
        let tls = self.tls.clone();
        let read = tokio::task::spawn_blocking(move || tls.reload()).await;
        let is_new = read
            .map_err(|error| format!("it could not be read: {error}"))?
            .map_err(|error| error_chain(&error))?;
        if is_new {
            tracing::info!(expires = %self.tls.expires(), "new connections get the new certificate");
        }
        Ok(())
    }
}
