//! The service with the engine: real scripts, real processes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use task_runners::{
    ExecuteScriptRequest, ScriptExecutor, ScriptRunner, Scripts, ScriptsSettings, VerificationMode,
};
use task_service::{LogSource, OnBusy, RunnerRegistry, Task, TaskService, TaskSpec, TaskStatus};

use crate::support::{settings, soon};

const SCRIPTS: [(&str, &str); 3] = [
    ("hello.sh", "#!/bin/sh\necho hello $1\n"),
    // Runs until it is cancelled, or finds the file that lets it go.
    ("waits.sh", "#!/bin/sh\necho begun\nwhile [ ! -e go ]; do sleep 0.01; done\n"),
    ("notes.sh", "#!/bin/sh\necho \"begin $1\" >> notes\nsleep 0.005\necho \"end $1\" >> notes\n"),
];

struct Site {
    folder: tempfile::TempDir,
    service: TaskService,
}

fn executor(site: &Path) -> ScriptExecutor {
    let builder = ScriptExecutor::builder()
        .script_dir(site.join("scripts"))
        .work_dir(site.join("workspace"))
        .state_dir(site.join("state"));
    builder.build().unwrap()
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scripts = folder.path().join("scripts");
        std::fs::create_dir(&scripts).unwrap();
        for (name, text) in SCRIPTS {
            std::fs::write(scripts.join(name), text).unwrap();
            std::fs::set_permissions(scripts.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let state_dir = folder.path().join("state");
        let executor = executor(folder.path());
        let scripts = Scripts::open(ScriptsSettings {
            folder: scripts,
            state_dir: state_dir.clone(),
            verification: VerificationMode::Never,
            public_keys: Vec::new(),
        });
        let mut registry = RunnerRegistry::new();
        let runner = ScriptRunner::new(executor, Arc::new(scripts.unwrap()));
        registry.register(Arc::new(runner)).unwrap();
        let service = TaskService::open(settings(&state_dir, 4, 1000), registry).await.unwrap();
        Self { folder, service }
    }

    async fn submit(&self, spec: TaskSpec) -> Task {
        soon(self.service.submit(spec, "tester")).await.unwrap().task
    }

    async fn ended(&self, task: &Task) -> Task {
        soon(self.service.wait(&task.id)).await.unwrap().unwrap()
    }
}

fn in_shared(name: &str, args: &[&str]) -> TaskSpec {
    TaskSpec {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        work_dir: Some("shared".parse().unwrap()),
        ..TaskSpec::new(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_run_and_leaves_its_log_and_result() {
    let site = Site::new().await;
    let task = site.submit(TaskSpec { args: vec!["world".to_owned()], ..TaskSpec::new("hello.sh") }).await;
    let ended = site.ended(&task).await;
    let result = ended.result.as_ref().unwrap();
    assert_eq!((ended.status, result.exit_code), (TaskStatus::Succeeded, Some(0)));
    assert_eq!(ended.log_bytes, result.log.bytes);
    let LogSource::Log(reader) = site.service.log(&task.id).await.unwrap() else { panic!("there is a log") };
    let mut bytes = vec![0; usize::try_from(ended.log_bytes).unwrap()];
    assert_eq!(reader.read_at(0, &mut bytes).unwrap(), bytes.len());
    assert!(String::from_utf8(bytes).unwrap().contains("hello world\n"));
    assert_eq!(site.service.task(&task.id).await.unwrap().unwrap(), ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_script_is_followed_and_cancelled() {
    let site = Site::new().await;
    let task = site.submit(TaskSpec::new("waits.sh")).await;
    let mut source = site.service.log(&task.id).await.unwrap();
    let mut reader = loop {
        source = match source {
            LogSource::Log(reader) => break reader,
            LogSource::NotYet(wait) => soon(wait.opened()).await.unwrap(),
            LogSource::None => panic!("it runs"),
        };
    };
    let header = soon(reader.wait_beyond(0)).await.header_bytes;
    assert!(soon(reader.wait_beyond(header)).await.bytes > header);
    assert!(site.service.task(&task.id).await.unwrap().unwrap().log_bytes > header, "it is counted live");
    soon(site.service.cancel(&task.id)).await.unwrap();
    assert_eq!(site.ended(&task).await.status, TaskStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_scripts_in_one_workspace_do_not_interleave() {
    let site = Site::new().await;
    let mut tasks = Vec::new();
    for number in 0..64 {
        tasks.push(site.submit(in_shared("notes.sh", &[&number.to_string()])).await);
    }
    for task in &tasks {
        assert_eq!(site.ended(task).await.status, TaskStatus::Succeeded);
    }
    let notes = std::fs::read_to_string(site.folder.path().join("workspace/shared/shared/notes")).unwrap();
    let expected: Vec<String> = (0..64).flat_map(|n| [format!("begin {n}"), format!("end {n}")]).collect();
    assert_eq!(notes.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_without_a_common_workspace_do_interleave() {
    // The twin of the test above: it shows that four run at once when nothing keeps them apart.
    let site = Site::new().await;
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(site.submit(TaskSpec::new("waits.sh")).await);
    }
    assert_eq!(site.service.stats().running, 4);
    assert_eq!(soon(site.service.drain(Duration::ZERO)).await.cancelled.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_another_process_works_in_is_waited_for() {
    let site = Site::new().await;
    // What a run on the command line is to the service: another executor on the same folders.
    let other = executor(site.folder.path());
    let request = ExecuteScriptRequest::new("waits.sh").work_dir("shared");
    let holder = soon(other.start(request)).await.unwrap();
    let mut changes = site.service.changes();
    let patient = site.submit(in_shared("hello.sh", &["patient"])).await;
    while soon(changes.recv()).await.unwrap().status != TaskStatus::Queued {}
    let hasty = site.submit(TaskSpec { on_busy: OnBusy::Refuse, ..TaskSpec::new("hello.sh") }).await;
    assert_eq!(site.ended(&hasty).await.status, TaskStatus::Succeeded);
    std::fs::write(site.folder.path().join("workspace/shared/shared/go"), "").unwrap();
    soon(holder.wait()).await;
    assert_eq!(site.ended(&patient).await.status, TaskStatus::Succeeded);
}
