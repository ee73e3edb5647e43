//! Hands the settings to the parts that they are for, so that both programs do it alike.

use executor_core::{ScriptExecutor, ScriptExecutorBuilder};
use executor_integrity::{PublicKey, ScriptsSettings};

use crate::settings::Settings;

impl Settings {
    /// An executor's builder with everything that `[script_executor]` and `[app]` say about running scripts.
    pub fn executor(&self) -> ScriptExecutorBuilder {
        let settings = &self.script_executor;
        let builder = ScriptExecutor::builder()
            .script_dir(&settings.script_dir_prefix)
            .work_dir(&settings.work_dir_prefix)
            .state_dir(&settings.state_dir)
            .node(self.node.name.as_ref().unwrap_or(&self.app.name))
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
    pub fn scripts(&self) -> ScriptsSettings {
        let settings = &self.script_executor;
        // Every key was parsed when the settings were loaded; one that cannot be parsed again must not be passed over.
        let keys = settings.manifest_public_keys.iter().map(|key| PublicKey::parse(key));
        ScriptsSettings {
            folder: settings.script_dir_prefix.clone(),
            state_dir: settings.state_dir.clone(),
            verification: settings.is_verify_script_integrity.into(),
            public_keys: keys
                .collect::<Result<_, _>>()
                .expect("keys were checked when the settings were loaded"),
        }
    }
}
