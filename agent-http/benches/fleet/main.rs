//! What nodes cost: a task on a node beside the same task on the API server itself, in turns; and many nodes that only
//! stand there, or come back all at once.
//!
//! ```text
//! cargo bench --package agent-http --bench fleet [-- FOLDER [PART...]]
//! ```
//!
//! FOLDER is where state, workspace and scripts go; a memory file system unless it is named. PART is any of `starts`,
//! `rate`, `log`, `idle` and `idle-tls`; all of them unless some are named. It fails when a figure misses its bound.
#![allow(clippy::print_stdout)]

#[path = "../../../task-service/benches/history/bounds.rs"]
mod bounds;
#[path = "../shared/http.rs"]
mod http;
mod idle;
mod log;
mod node;
mod simulated;
#[path = "../shared/site.rs"]
mod site;
mod tasks;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bounds::Bounds;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = words.first().map_or("/dev/shm", String::as_str);
    let wants = |part: &str| words.len() < 2 || words[1..].iter().any(|word| word == part);
    println!("place         {folder}");
    let mut bounds = Bounds::default();
    let mut part = |name: &str, measure: &dyn Fn(&Path, &mut Bounds) -> Result<()>| {
        if wants(name) { in_folder(folder, |place| measure(place, &mut bounds)) } else { Ok(()) }
    };
    part("starts", &tasks::starts)?;
    part("rate", &tasks::rate)?;
    part("log", &log::measure)?;
    part("idle", &|place, bounds| idle::measure(place, bounds, false))?;
    part("idle-tls", &|place, bounds| idle::measure(place, bounds, true))?;
    Ok(bounds.finish())
}

/// Measures in a folder that is removed behind it.
fn in_folder(parent: &str, measure: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let place = tempfile::tempdir_in(PathBuf::from(parent))?;
    measure(place.path())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that so many of a hundred do not exceed.
fn percentile(mut values: Vec<f64>, hundredths: usize) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[(values.len() - 1) * hundredths / 100]
}
