//! The service on a folder, with the runner of scripts and one script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use task_runners::{ScriptExecutor, ScriptRunner, Scripts, ScriptsSettings, VerificationMode};
use task_service::{RunnerRegistry, ServiceSettings, TaskService};

use crate::filled::{Result, SCRIPT};

/// What is run beside the history.
const TEXT: &str = "#!/bin/sh\n#USAGE flag \"--version <version>\" help=\"What is deployed\"\necho \"$@\"\n";

/// An open service.
pub(crate) struct Site {
    pub(crate) service: TaskService,
    executor: ScriptExecutor,
}

/// Where its state is.
pub(crate) fn state(place: &Path) -> PathBuf {
    place.join("state")
}

/// Where its tasks work.
pub(crate) fn work_dir(place: &Path) -> PathBuf {
    place.join("workspace")
}

/// Makes the folder of scripts.
pub(crate) fn write_script(place: &Path) -> Result<()> {
    let path = place.join("scripts").join(SCRIPT);
    fs::create_dir(place.join("scripts"))?;
    fs::write(&path, TEXT)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

impl Site {
    pub(crate) async fn open(place: &Path) -> Result<Self> {
        let (folder, state_dir) = (place.join("scripts"), state(place));
        let builder = ScriptExecutor::builder().script_dir(&folder).work_dir(work_dir(place));
        let executor = builder.state_dir(&state_dir).build()?;
        let scripts = Scripts::open(ScriptsSettings {
            folder,
            state_dir: state_dir.clone(),
            verification: VerificationMode::Never,
            public_keys: Vec::new(),
        })?;
        let mut registry = RunnerRegistry::new();
        registry.register(Arc::new(ScriptRunner::new(executor.clone(), Arc::new(scripts))))?;
        let settings = ServiceSettings { state_dir, concurrent: 0, queue: 10_000 };
        Ok(Self { service: TaskService::open(settings, registry).await?, executor })
    }

    pub(crate) async fn close(self) {
        self.service.drain(Duration::ZERO).await;
        self.executor.close().await;
    }
}
