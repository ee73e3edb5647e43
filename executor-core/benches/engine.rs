//! What the engine adds to starting a process: the time of one run and the rate of many at once, beside a bare
//! posix_spawn(3) of the same script, measured in turns in one run.
//!
//! ```text
//! cargo bench --package executor-core --bench engine [-- FOLDER [COUNT]]
//! ```
//!
//! FOLDER is where state, workspace and scripts go; a memory file system unless it is named. With COUNT, nothing is
//! measured: so many runs are made, one after the other, for whoever traces their system calls.
#![allow(clippy::print_stdout)]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use executor_core::{ExecuteScriptRequest, ScriptExecutor};

/// Runs of one turn in sequence. Turns are short, so that both sides of a ratio meet the same weather.
const SEQUENCE: usize = 25;
/// Runs at once.
const AT_ONCE: usize = 64;
/// Runs of one turn with many at once.
const MANY: usize = 512;
/// Turns; the median of them counts.
const TURNS: usize = 41;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(words.next().unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let script = write_script(place.path())?;
    let executor = ScriptExecutor::builder()
        .script_dir(place.path().join("scripts"))
        .work_dir(place.path().join("workspace"))
        .state_dir(place.path().join("state"))
        .build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(count) = words.next() {
        for _ in 0..count.parse::<usize>()? {
            runtime.block_on(executor.execute(ExecuteScriptRequest::new("exit.sh")))?;
        }
        return Ok(());
    }

    let (mut times, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let floor = median(floor_sequence(&script)?).as_secs_f64() * 1e3;
        times.push((floor, median(runtime.block_on(engine_sequence(&executor))?).as_secs_f64() * 1e3));
        rates.push((floor_rate(&script)?, runtime.block_on(engine_rate(&executor))?));
    }
    println!("place        {} ({:?})", place.path().display(), executor.kill_scope());
    println!(
        "in sequence  floor {:.3} ms, engine {:.3} ms: {:.2} x the floor",
        floor_of(&times),
        engine_of(&times),
        ratio_of(&times)
    );
    println!(
        "{AT_ONCE} at once   floor {:.0} /s, engine {:.0} /s: {:.2} of the floor",
        floor_of(&rates),
        engine_of(&rates),
        ratio_of(&rates)
    );
    Ok(())
}

fn floor_of(turns: &[(f64, f64)]) -> f64 {
    middle(turns.iter().map(|turn| turn.0).collect())
}

fn engine_of(turns: &[(f64, f64)]) -> f64 {
    middle(turns.iter().map(|turn| turn.1).collect())
}

/// The median of the turns' own ratios.
fn ratio_of(turns: &[(f64, f64)]) -> f64 {
    middle(turns.iter().map(|turn| turn.1 / turn.0).collect())
}

fn write_script(place: &Path) -> std::io::Result<PathBuf> {
    let folder = place.join("scripts");
    std::fs::create_dir(&folder)?;
    let script = folder.join("exit.sh");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

/// The standard library starts by posix_spawn where nothing special is asked of it.
fn spawn(script: &Path) -> std::io::Result<()> {
    let mut command = Command::new(script);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(|_| ())
}

fn floor_sequence(script: &Path) -> std::io::Result<Vec<Duration>> {
    (0..SEQUENCE)
        .map(|_| {
            let start = Instant::now();
            spawn(script)?;
            Ok(start.elapsed())
        })
        .collect()
}

async fn engine_sequence(executor: &ScriptExecutor) -> Result<Vec<Duration>, executor_core::StartError> {
    let mut times = Vec::with_capacity(SEQUENCE);
    for _ in 0..SEQUENCE {
        let start = Instant::now();
        executor.execute(ExecuteScriptRequest::new("exit.sh")).await?;
        times.push(start.elapsed());
    }
    Ok(times)
}

fn floor_rate(script: &Path) -> std::io::Result<f64> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let runs = |thread| (thread..MANY).step_by(AT_ONCE).try_for_each(|_| spawn(script));
        let threads: Vec<_> = (0..AT_ONCE).map(|thread| scope.spawn(move || runs(thread))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    Ok(MANY as f64 / start.elapsed().as_secs_f64())
}

async fn engine_rate(executor: &ScriptExecutor) -> Result<f64, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..AT_ONCE {
        let executor = executor.clone();
        workers.spawn(async move {
            for _ in (worker..MANY).step_by(AT_ONCE) {
                executor.execute(ExecuteScriptRequest::new("exit.sh")).await?;
            }
            Ok::<(), executor_core::StartError>(())
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(MANY as f64 / start.elapsed().as_secs_f64())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn middle(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}
