//! A place of its own for each test: scripts, state and workspace in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use executor_integrity::{CreateOptions, VerificationMode, create_manifest};
use jiff::Timestamp;
use task_runners::{
    ScriptExecutor, ScriptRunner, Scripts, ScriptsSettings, TaskId, TaskOrder, TaskRunner, TaskSpec,
};

/// Folders of one test, removed at its end.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.scripts_dir()).unwrap();
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn scripts_dir(&self) -> PathBuf {
        self.path().join("scripts")
    }

    pub(crate) fn script(&self, name: &str, content: &str) {
        let path = self.scripts_dir().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        write_executable(&path, content);
    }

    pub(crate) fn manifest(&self) {
        create_manifest(&self.scripts_dir(), &CreateOptions::default()).unwrap();
    }

    pub(crate) fn executor(&self) -> ScriptExecutor {
        ScriptExecutor::builder()
            .script_dir(self.scripts_dir())
            .work_dir(self.path().join("workspace"))
            .state_dir(self.path().join("state"))
            .build()
            .unwrap()
    }

    pub(crate) fn scripts(&self, verification: VerificationMode) -> Arc<Scripts> {
        let settings = ScriptsSettings {
            folder: self.scripts_dir(),
            state_dir: self.path().join("state"),
            verification,
            public_keys: Vec::new(),
        };
        Arc::new(Scripts::open(settings).unwrap())
    }

    pub(crate) fn runner(&self, verification: VerificationMode) -> ScriptRunner {
        ScriptRunner::new(self.executor(), self.scripts(verification))
    }
}

/// Writes a script of mode 0755, over whatever is there.
pub(crate) fn write_executable(path: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An order for a spec, as the task service would give it.
pub(crate) fn order(runner: &dyn TaskRunner, spec: TaskSpec) -> TaskOrder {
    let plan = runner.check(&spec).unwrap();
    TaskOrder {
        id: TaskId::generate(),
        spec: Arc::new(spec),
        pinned: plan.pinned,
        attempt: 1,
        created_by: "test".to_owned(),
        unreachable_since: None,
        created_at: Timestamp::now(),
        is_taken_up: false,
        node: None,
    }
}

/// The script's own output in a log.
pub(crate) fn body(log_path: &Path, log: &task_runners::LogSummary) -> String {
    let bytes = std::fs::read(log_path).unwrap();
    let end = bytes.len() - usize::try_from(log.footer_bytes).unwrap();
    let start = usize::try_from(log.header_bytes).unwrap();
    String::from_utf8(bytes[start..end].to_vec()).unwrap()
}
