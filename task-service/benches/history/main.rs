//! What a history of a million tasks costs: room, the start, lists, searches, a submission, and the removal of half of it
//! while 50 tasks a second are submitted.
//!
//! ```text
//! cargo bench --package task-service --bench history [-- FOLDER [TASKS [PROGRAM]]]
//! ```
//!
//! PROGRAM is that of the service, whose start is measured where it is named. FOLDER is where the state goes; a memory file system unless it is named. The rows are written by plain SQL as version 2
//! of the database, since a million submissions take minutes; the service brings them to the newest version when it is
//! opened, which makes hours, labels and words.
#![allow(clippy::print_stdout)]

mod filled;
mod ready;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use filled::Result;
use task_service::{
    Execution, ExecutionResult, Outcome, Plan, Refusal, Retention, RunnerRegistry, ServiceSettings,
    StartFuture, TaskFilter, TaskOrder, TaskRunner, TaskService, TaskSpec, TaskStatus,
};

const TASKS: usize = 1_000_000;
/// Times that each list is asked for: every second time from a place within the history.
const RUNS: usize = 100;
/// Submissions one after the other.
const SUBMISSIONS: usize = 2000;
/// Time between two submissions during the removal.
const PACE: Duration = Duration::from_millis(20);

/// Ends every task at once.
struct Nothing;

impl TaskRunner for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    fn description(&self) -> &'static str {
        "does nothing"
    }

    fn check(&self, _: &TaskSpec) -> std::result::Result<Plan, Refusal> {
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
async fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(words.next().unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let tasks = words.next().map_or(Ok(TASKS), |word| word.parse())?;
    println!("place  {}, {tasks} tasks", place.path().display());
    let state = place.path().join("state");

    let begun = Instant::now();
    filled::write(&state, tasks)?;
    println!("written             {:>9.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let service = open(&state).await?;
    println!("to the new version  {:>9.1} s", begun.elapsed().as_secs_f64());
    service.drain(Duration::ZERO).await;
    filled::room(&state, tasks)?;
    if let Some(program) = words.next() {
        let times = ready::times(program.as_ref(), place.path(), &state)?;
        let [half, most] = [50, 100].map(|percent| milliseconds(at(&times, percent)));
        println!("ready after         {half:>9.1} ms, {most:.1} at most");
    }
    let begun = Instant::now();
    let service = open(&state).await?;
    println!("opened after        {:>9.1} ms", milliseconds(begun.elapsed()));

    let mut misses = lists(&service, tasks).await?;
    submissions(&service).await?;
    misses += removal(&service, place.path().join("workspace"), tasks).await?;
    service.drain(Duration::ZERO).await;
    println!("{misses} bounds missed");
    Ok(())
}

async fn open(state: &std::path::Path) -> Result<TaskService> {
    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(Nothing))?;
    let settings = ServiceSettings { state_dir: state.to_owned(), concurrent: 0, queue: 10_000 };
    Ok(TaskService::open(settings, registry).await?)
}

/// A list to ask for, and how long it may take at the 99th percentile.
struct Asked {
    what: String,
    filter: TaskFilter,
    bound: Duration,
}

const LIST: Duration = Duration::from_millis(10);
const PAIR: Duration = Duration::from_millis(50);
const SEARCH: Duration = Duration::from_millis(200);

/// The filter that a query of the API stands for, in the same words.
fn asked(query: &str, bound: Duration) -> Result<Asked> {
    let mut filter = TaskFilter::default();
    for (name, value) in query.split('&').filter_map(|part| part.split_once('=')) {
        match name {
            "status" => filter.statuses.push(value.parse::<TaskStatus>()?),
            "name" => filter.name = Some(value.to_owned()),
            "node" => filter.node = Some(value.to_owned()),
            "since" => filter.since = Some(filled::ago(value.parse()?)),
            "q" => filter.search = Some(value.parse()?),
            _ => drop(filter.labels.insert(name.to_owned(), value.to_owned())),
        }
    }
    let what = if query.is_empty() { "all" } else { query };
    Ok(Asked { what: what.to_owned(), filter, bound })
}

fn everything_asked() -> Result<Vec<Asked>> {
    let lists = filled::LISTS.iter().map(|query| asked(query, LIST));
    let pairs = filled::PAIRS.iter().map(|query| asked(query, PAIR));
    let searches = filled::SEARCHES.iter().map(|query| asked(query, SEARCH));
    lists.chain(pairs).chain(searches).collect()
}

/// Asks for each list, and says how many took longer than they may.
async fn lists(service: &TaskService, tasks: usize) -> Result<usize> {
    let mut misses = 0;
    println!("{:<44} {:>5} {:>9} {:>9}", "a page of 100, ms", "found", "p50", "p99");
    for Asked { what, filter, bound } in everything_asked()? {
        let (mut times, mut found) = (Vec::with_capacity(RUNS), 0);
        for run in 0..RUNS {
            let from =
                (run % 2 == 1).then(|| (1 + run * 7919 * 131 % tasks).to_string().parse()).transpose()?;
            let begun = Instant::now();
            let page = service.list(filter.clone(), 100, from).await?;
            times.push(begun.elapsed());
            found = found.max(page.tasks.len());
        }
        times.sort_unstable();
        let is_missed = at(&times, 99) > bound;
        misses += usize::from(is_missed);
        let verdict = if is_missed { format!("  above {} ms", bound.as_millis()) } else { String::new() };
        let [half, most] = [50, 99].map(|percent| milliseconds(at(&times, percent)));
        println!("{what:<44} {found:>5} {half:>9.2} {most:>9.2}{verdict}");
    }
    Ok(misses)
}

async fn submissions(service: &TaskService) -> Result<()> {
    let mut times = Vec::with_capacity(SUBMISSIONS);
    for number in 0..SUBMISSIONS {
        let begun = Instant::now();
        let task = service.submit(filled::spec(number), "bench").await?.task;
        times.push(begun.elapsed());
        service.wait(&task.id).await?;
    }
    times.sort_unstable();
    let [half, most] = [50, 99].map(|percent| milliseconds(at(&times, percent)));
    println!("{:<44} {:>5} {half:>9.2} {most:>9.2}", "a submission, ms", "");
    Ok(())
}

/// Removes half of the history while tasks are submitted; says whether those took longer than they may.
async fn removal(service: &TaskService, work_dir: PathBuf, tasks: usize) -> Result<usize> {
    let forever = Duration::from_secs(3650 * 24 * 60 * 60);
    let retention = Retention {
        tasks: forever,
        max_tasks: tasks as u64 / 2,
        max_bytes: 0,
        workspaces: forever,
        max_workspaces: 0,
        max_workspace_bytes: 0,
        work_dir,
    };
    let cleaning = {
        let service = service.clone();
        let begun = Instant::now();
        tokio::spawn(async move {
            service.clean_up(&retention).await.map(|removed| (removed.tasks, begun.elapsed()))
        })
    };
    let (mut times, mut waiting) = (Vec::new(), Vec::new());
    let mut pace = tokio::time::interval(PACE);
    while !cleaning.is_finished() {
        pace.tick().await;
        let (service, number) = (service.clone(), times.len());
        waiting.push(tokio::spawn(async move {
            let begun = Instant::now();
            service.submit(filled::spec(number), "bench").await.map(|_| begun.elapsed())
        }));
        times.push(Duration::ZERO);
    }
    let (removed, took) = cleaning.await??;
    times.clear();
    for submitted in waiting {
        times.push(submitted.await??);
    }
    times.sort_unstable();
    let [half, most] = [50, 99].map(|percent| milliseconds(at(&times, percent)));
    println!("{:<44} {:>5} {half:>9.2} {most:>9.2}", "a submission meanwhile, ms", "");
    println!("removed {removed} tasks in {:.1} s, {} submitted meanwhile", took.as_secs_f64(), times.len());
    Ok(usize::from(at(&times, 99) > PAIR))
}

fn at(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
