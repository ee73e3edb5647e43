//! Hands the settings to the parts that they are for, so that both programs do it alike.

use std::path::Path;

use executor_core::{ScriptExecutor, ScriptExecutorBuilder};
use executor_integrity::{PublicKey, VerificationMode};

use crate::settings::Settings;

/// What the scripts folder is opened with.
#[derive(Debug, Clone)]
pub struct ScriptFolderSettings<'a> {
    /// The scripts folder.
    pub folder: &'a Path,
    /// The folder of the agent's own records.
    pub state_dir: &'a Path,
    /// When the folder must verify.
    pub verification: VerificationMode,
    /// Keys that the manifest must be signed by one of, if there are any.
    pub public_keys: Vec<PublicKey>,
}

impl Settings {
    /// An executor's builder with everything that `[script_executor]` and `[app]` say about running scripts.
    pub fn executor(&self) -> ScriptExecutorBuilder {
        let settings = &self.script_executor;
        let builder = ScriptExecutor::builder()
            .script_dir(&settings.script_dir_prefix)
            .work_dir(&settings.work_dir_prefix)
            .state_dir(&settings.state_dir)
            .node(&self.app.name)
            .path(&settings.path)
            .default_timeout(settings.default_timeout)
            .max_timeout(settings.max_timeout)
            .kill_grace(settings.kill_grace)
            .leftovers(settings.leftovers)
            .max_log_bytes(settings.max_log_bytes)
            // As the first process of a container there is nobody else who would wait for what lost its parent.
            .reap_orphans(std::process::id() == 1);
        settings.env.iter().fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    /// What the scripts folder is opened with.
    pub fn scripts(&self) -> ScriptFolderSettings<'_> {
        let settings = &self.script_executor;
        // Every key was parsed when the settings were loaded; one that cannot be parsed again must not be passed over.
        let keys = settings.manifest_public_keys.iter().map(|key| PublicKey::parse(key));
        ScriptFolderSettings {
            folder: &settings.script_dir_prefix,
            state_dir: &settings.state_dir,
            verification: settings.is_verify_script_integrity.into(),
            public_keys: keys
                .collect::<Result<_, _>>()
                .expect("keys were checked when the settings were loaded"),
        }
    }
}
