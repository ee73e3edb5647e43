//! What the service adds to a task, in figures: tasks that do nothing and scripts that do nothing, one after another and
//! 64 at once, and reading a long history.
//!
//! `cargo run --release --example measure -- [FOLDER] [TASKS] [ROWS]`: the state folder's parent (default: the folder for
//! temporary files), how many tasks are run (2000), and how many rows the history is filled up to (none).

#![allow(clippy::print_stdout)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use task_runners::{ScriptExecutor, ScriptRunner, Scripts, ScriptsSettings, VerificationMode};
use task_service::{
    Execution, ExecutionResult, Outcome, Plan, Refusal, RunnerRegistry, ServiceSettings, StartFuture,
    TaskFilter, TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus,
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
    let rows = args.next().map_or(Ok(0), |text| text.parse())?;
    let folder = tempfile::tempdir_in(parent)?;
    let service = open(folder.path()).await?;

    for name in ["nothing", "nothing.sh"] {
        one_after_another(&service, name, tasks).await?;
        sixty_four_at_once(&service, name, tasks).await?;
    }
    if rows > 0 {
        service.drain(Duration::ZERO).await;
        fill(&folder.path().join("state"), rows)?;
        let begun = Instant::now();
        let service = open(folder.path()).await?;
        println!("opening {rows} rows: {:.0?}", begun.elapsed());
        lists(&service).await?;
        one_after_another(&service, "nothing", tasks).await?;
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

/// Copies the rows that are there until there are so many.
fn fill(state: &Path, rows: usize) -> Result<(), Anything> {
    let db = rusqlite::Connection::open(state.join("agent.db"))?;
    db.execute_batch("BEGIN")?;
    let columns = "name, runner, status, node, attempt, workspace, pinned, created_by, created_at, started_at, \
        ended_at, unreachable_since, log_bytes, request_sha256, spec, result";
    loop {
        let there: i64 = db.query_row("SELECT count(*) FROM task", [], |row| row.get(0))?;
        let missing = rows as i64 - there;
        if missing <= 0 {
            break;
        }
        let copy = format!(
            "INSERT INTO task (id, {columns}) SELECT 'copy-' || (seq + {there}), {columns} FROM task LIMIT {missing}"
        );
        db.execute_batch(&copy)?;
    }
    db.execute_batch("COMMIT")?;
    Ok(())
}

async fn lists(service: &TaskService) -> Result<(), Anything> {
    let named = |name: &str| TaskFilter { name: Some(name.to_owned()), ..TaskFilter::default() };
    let in_state = |status| TaskFilter { statuses: vec![status], ..TaskFilter::default() };
    let recent = TaskFilter { since: Some(jiff::Timestamp::now()), ..TaskFilter::default() };
    let whole = TaskFilter { since: Some(jiff::Timestamp::UNIX_EPOCH), ..TaskFilter::default() };
    let filters = [
        ("all", TaskFilter::default()),
        ("by name", named("nothing")),
        ("by a name that nobody has", named("nobody")),
        ("succeeded", in_state(TaskStatus::Succeeded)),
        ("running", in_state(TaskStatus::Running)),
        ("since now", recent),
        ("since the beginning", whole),
    ];
    for (what, filter) in filters {
        let begun = Instant::now();
        let page = service.list(filter, 100, None).await?;
        println!("a page, {what}: {} tasks in {:.1?}", page.tasks.len(), begun.elapsed());
    }
    Ok(())
}
