//! What a history of a million tasks costs: room, the start, lists, searches, a submission, and the removal of half of it
//! while 50 tasks a second are submitted and run. The oldest 100,000 have records as the engine leaves them and go first, so
//! that the cost of removing files is seen by itself; the others are rows alone.
//!
//! ```text
//! cargo bench --package task-service --bench history [-- FOLDER [TASKS [PROGRAM]]]
//! ```
//!
//! PROGRAM is that of the service, whose start is measured where it is named. FOLDER is where the state goes; a memory file
//! system unless it is named. The rows are written by plain SQL as version 2 of the database, since a million submissions
//! take minutes; the service brings them to the newest version when it is opened, which makes hours, labels and words.
//! It fails when a figure misses its bound.
#![allow(clippy::print_stdout)]

mod bounds;
mod filled;
mod ready;
mod records;
mod site;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bounds::Bounds;
use filled::Result;
use site::{Site, state, work_dir};
use task_service::{Retention, TaskFilter, TaskId, TaskService, TaskStatus};

const TASKS: usize = 1_000_000;
/// Most tasks that get records, and the part of all tasks that these are at most. In memory each takes 16 KiB.
const RECORDS: usize = 100_000;
const PART_WITH_RECORDS: usize = 4;
/// Times that each list is asked for: every second time from a place within the history.
const RUNS: usize = 100;
/// Submissions one after the other.
const SUBMISSIONS: usize = 2000;
/// Time between two submissions during the removal.
const PACE: Duration = Duration::from_millis(20);
/// The longest that a start may take until the service is ready, and a submission while tasks are removed, at the 99th
/// percentile.
const READY: Duration = Duration::from_millis(300);
const SUBMISSION: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(words.next().unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let tasks = words.next().map_or(Ok(TASKS), |word| word.parse())?;
    let place = place.path();
    println!("place  {}, {tasks} tasks", place.display());
    let mut bounds = Bounds::default();
    let with_records = fill(place, tasks).await?;
    match words.next() {
        Some(program) => starts(&mut bounds, program.as_ref(), place)?,
        None => println!("the start of the service is not measured: its program is not named"),
    }
    let begun = Instant::now();
    let site = Site::open(place).await?;
    println!("opened after        {:>9.1} ms", milliseconds(begun.elapsed()));

    let service = &site.service;
    lists(&mut bounds, service, tasks).await?;
    submissions(service).await?;
    // One more was run to see what its record is like.
    let mut all = tasks + SUBMISSIONS + 1;
    for (what, remove) in [("records", with_records), ("rows alone", tasks / 2 - with_records)] {
        let submitted = removal(&mut bounds, service, retention(place, all, remove), what).await?;
        all = all + submitted - remove;
    }
    site.close().await;
    Ok(bounds.finish())
}

/// Writes the history; how many of its tasks have records.
async fn fill(place: &Path, tasks: usize) -> Result<usize> {
    site::write_script(place)?;
    let state = state(place);
    let begun = Instant::now();
    filled::write(&state, tasks)?;
    println!("written             {:>9.1} s", begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let site = Site::open(place).await?;
    println!("to the new version  {:>9.1} s", begun.elapsed().as_secs_f64());
    let like = run_one(&site.service).await?;
    site.close().await;
    filled::room(&state, tasks)?;
    let with_records = RECORDS.min(tasks / PART_WITH_RECORDS);
    records::write(&state, &like, with_records)?;
    Ok(with_records)
}

/// Runs a task to its end.
async fn run_one(service: &TaskService) -> Result<TaskId> {
    let task = service.submit(filled::spec(0), "bench").await?.task;
    let ended = service.wait(&task.id).await?.ok_or("the task that was accepted is not there")?;
    match ended.status {
        TaskStatus::Succeeded => Ok(ended.id),
        status => Err(format!("the script ended as {status}: {:?}", ended.result).into()),
    }
}

/// Starts the service so often that the longest time says something.
fn starts(bounds: &mut Bounds, program: &Path, place: &Path) -> Result<()> {
    let times = ready::times(program, place, &state(place))?;
    let [half, most] = [50, 100].map(|percent| milliseconds(at(&times, percent)));
    let held = bounds.hold("ready after a start", most, ..=milliseconds(READY), "ms");
    println!("ready after         {half:>9.1} ms, {most:.1} at most{held}");
    Ok(())
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

/// Asks for each list.
async fn lists(bounds: &mut Bounds, service: &TaskService, tasks: usize) -> Result<()> {
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
        let [half, most] = [50, 99].map(|percent| milliseconds(at(&times, percent)));
        let held = bounds.hold(&format!("a page of {what}"), most, ..=milliseconds(bound), "ms");
        println!("{what:<44} {found:>5} {half:>9.2} {most:>9.2}{held}");
    }
    Ok(())
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

/// Keeps so many fewer than there are, the oldest of which go, and everything else for ever.
fn retention(place: &Path, all: usize, remove: usize) -> Retention {
    let forever = Duration::from_secs(3650 * 24 * 60 * 60);
    Retention {
        tasks: forever,
        max_tasks: (all - remove) as u64,
        max_bytes: 0,
        workspaces: forever,
        max_workspaces: 0,
        max_workspace_bytes: 0,
        work_dir: work_dir(place),
    }
}

/// Removes tasks while others are submitted and run; how many those were.
async fn removal(
    bounds: &mut Bounds,
    service: &TaskService,
    retention: Retention,
    what: &str,
) -> Result<usize> {
    let cleaning = {
        let service = service.clone();
        let begun = Instant::now();
        tokio::spawn(async move { service.clean_up(&retention).await.map(|done| (done, begun.elapsed())) })
    };
    let mut waiting = Vec::new();
    let mut pace = tokio::time::interval(PACE);
    while !cleaning.is_finished() {
        pace.tick().await;
        let (service, number) = (service.clone(), waiting.len());
        waiting.push(tokio::spawn(async move {
            let begun = Instant::now();
            service.submit(filled::spec(number), "bench").await.map(|_| begun.elapsed())
        }));
    }
    let (removed, took) = cleaning.await??;
    println!("{removed:?} in {:.1} s; {} submitted meanwhile", took.as_secs_f64(), waiting.len());
    let mut times = Vec::new();
    for submitted in waiting {
        times.push(submitted.await??);
    }
    times.sort_unstable();
    let [half, most] = [50, 99].map(|percent| milliseconds(at(&times, percent)));
    let name = format!("a submission while {what} go");
    let held = bounds.hold(&name, most, ..=milliseconds(SUBMISSION), "ms");
    println!("{:<44} {:>5} {half:>9.2} {most:>9.2}{held}", name + ", ms", "");
    Ok(times.len())
}

fn at(times: &[Duration], percent: usize) -> Duration {
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
