//! What the service adds to a task, in figures: tasks that do nothing and scripts that do nothing, one after another and
//! 64 at once. What a long history costs is said by the bench `history`.
//!
//! `cargo run --release --example measure -- [FOLDER] [TASKS]`: the state folder's parent (default: the folder for
//! temporary files), and how many tasks are run (2000).

#![allow(clippy::print_stdout)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use task_runners::{ScriptExecutor, ScriptRunner, Scripts, ScriptsSettings, VerificationMode};
use task_service::{
    Execution, ExecutionResult, Outcome, Plan, Refusal, RunnerRegistry, ServiceSettings, StartFuture,
    TaskOrder, TaskRunner, TaskService, TaskSpec,
};

type Anything = Box<dyn std::error::Error + Send + Sync>;

/// Ends every task at once.
struct Nothing;

impl TaskRunner for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn description(&self) -> &'static str {
        "does nothing"
    }

    fn check(&self, _: &TaskSpec) -> Result<Plan, Refusal> {
        Ok(Plan::default())
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let (execution, driver) = Execution::new(order.id, PathBuf::from("/nonexistent"));
            let mut result = ExecutionResult::without_run(Outcome::Exited { code: 0 }, "", "");
            result.success = true;
            driver.finish(result);
            Ok(execution)
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Anything> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let tasks = args.next().map_or(Ok(2000), |text| text.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    let service = open(folder.path()).await?;

    for name in ["nothing", "nothing.sh"] {
        one_after_another(&service, name, tasks).await?;
        sixty_four_at_once(&service, name, tasks).await?;
    }
    Ok(())
}

async fn open(folder: &Path) -> Result<TaskService, Anything> {
    let (scripts, state_dir) = (folder.join("scripts"), folder.join("state"));
    std::fs::create_dir_all(&scripts)?;
    std::fs::write(scripts.join("nothing.sh"), "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(scripts.join("nothing.sh"), std::fs::Permissions::from_mode(0o755))?;
    let executor = ScriptExecutor::builder()
        .script_dir(&scripts)
        .work_dir(folder.join("workspace"))
        .state_dir(&state_dir)
        .build()?;
    let scripts = Scripts::open(ScriptsSettings {
        folder: scripts,
        state_dir: state_dir.clone(),
        verification: VerificationMode::Never,
        public_keys: Vec::new(),
    })?;
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(Nothing))?;
    registry.register(Arc::new(ScriptRunner::new(executor, Arc::new(scripts))))?;
    let settings = ServiceSettings { state_dir, concurrent: 0, queue: 10_000 };
    Ok(TaskService::open(settings, registry).await?)
}

async fn run(service: &TaskService, name: &'static str) -> Result<(), Anything> {
    let id = service.submit(TaskSpec::new(name), "measure").await?.task.id;
    service.wait(&id).await?;
    Ok(())
}

async fn one_after_another(service: &TaskService, name: &'static str, tasks: usize) -> Result<(), Anything> {
    let mut times = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let begun = Instant::now();
        run(service, name).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100];
    println!("{name}, one after another: p50 {:.0?}, p90 {:.0?}, p99 {:.0?}", at(50), at(90), at(99));
    Ok(())
}

async fn sixty_four_at_once(service: &TaskService, name: &'static str, tasks: usize) -> Result<(), Anything> {
    let (begun, commits) = (Instant::now(), service.stats().commits);
    let clients = (0..64).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            for _ in 0..tasks / 64 {
                run(&service, name).await?;
            }
            Ok::<(), Anything>(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await??;
    }
    let rate = tasks as f64 / begun.elapsed().as_secs_f64();
    let share = tasks as f64 / (service.stats().commits - commits) as f64;
    println!("{name}, 64 at once: {rate:.0} tasks a second, {share:.1} tasks a commit");
    Ok(())
}
