//! What it takes to read a log of a gibibyte: a search through all of it, a line far within it, and the first event of a
//! follower; while the log is still being written, and after its task has ended.
//!
//! ```text
//! cargo bench --package agent-http --bench logs [-- FOLDER]
//! ```
//!
//! FOLDER is where state, workspace and scripts go; a memory file system unless it is named. It fails when a figure misses
//! its bound.
#![allow(clippy::print_stdout)]

#[path = "../../../task-service/benches/history/bounds.rs"]
mod bounds;
#[path = "../shared/http.rs"]
mod http;
#[path = "../shared/site.rs"]
mod site;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use bounds::Bounds;
use http::Client;
use site::{Agent, api_server, until};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Lines with their own numbers, a gibibyte of them and 118 million; then one that stands there once, and one again and
/// again until a file is there.
const SCRIPT: &[(&str, &str)] = &[(
    "log.sh",
    "#!/bin/sh\nseq 1 200000000 | head -c 1073741824\necho \necho \"here it ends\"\n\
    until [ -e \"$1\" ]; do echo and goes on; sleep 0.02; done\n",
)];
const SETTINGS: &str = "[script_executor]\nmax_log_bytes = \"2GiB\"\n";
/// The line that stands there once, and the number of the line that is asked for.
const ONCE: &str = "here it ends";
const LINE: u64 = 10_000_000;
/// Times that each is asked for; the longest counts.
const RUNS: usize = 10;

/// The longest times, milliseconds; and the memory that all of it may take, KiB.
const SEARCH: f64 = 3000.0;
const FROM_LINE: f64 = 50.0;
const FIRST_EVENT: f64 = 20.0;
const GROWTH: f64 = 16384.0;

fn main() -> Result<ExitCode> {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(folder.unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let place = place.path();
    println!("place         {}", place.display());
    let mut bounds = Bounds::default();
    let server = api_server(place, SCRIPT, SETTINGS)?;
    let mut client = Client::connect(server.at)?;
    let gate = place.join("gate");
    let begun = Instant::now();
    let task = client.submit("log.sh", &[&gate.display().to_string()], None, "")?;
    let log = format!("/api/v1/tasks/{}/log", task["id"].as_str().ok_or("a task without an id")?);
    until("the end of a gibibyte", || Ok(search(&mut client, &log)? == 1))?;
    println!("written and found after {:.1} s", begun.elapsed().as_secs_f64());
    server.forget_peak()?;
    let before = server.memory("VmRSS")?;
    read(&mut bounds, &server, &log, "while it is written")?;
    fs::write(gate, "")?;
    // The other connection was idle for too long.
    let ended = Client::connect(server.at)?.ended(task["id"].as_str().unwrap_or_default())?;
    if ended["status"] != "succeeded" {
        return Err(format!("the script failed: {ended}").into());
    }
    read(&mut bounds, &server, &log, "after its end")?;
    let grown = server.memory("VmHWM")?.saturating_sub(before);
    println!("memory        +{grown} KiB{}", bounds.hold("memory", grown as f64, ..=GROWTH, "KiB"));
    Ok(bounds.finish())
}

/// Reads the log in each way, again and again.
fn read(bounds: &mut Bounds, server: &Agent, log: &str, when: &str) -> Result<()> {
    let mut client = Client::connect(server.at)?;
    let found = || match search(&mut client, log)? {
        1 => Ok(()),
        found => Err(format!("'{ONCE}' was found {found} times").into()),
    };
    longest(bounds, &format!("a search through all of it {when}"), SEARCH, found)?;
    longest(bounds, &format!("line {LINE} {when}"), FROM_LINE, || {
        let path = format!("{log}?banner=false&line={LINE}");
        Client::connect(server.at)?.get_until(&path, "", &format!("{LINE}\n"))
    })?;
    longest(bounds, &format!("the first event {when}"), FIRST_EVENT, || {
        let path = format!("{log}?banner=false");
        Client::connect(server.at)?.get_until(&path, "Accept: text/event-stream\r\n", "data: ")
    })
}

/// Does something again and again, and holds the longest time, milliseconds, to a bound.
fn longest(bounds: &mut Bounds, what: &str, most: f64, mut once: impl FnMut() -> Result<()>) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let begun = Instant::now();
        once()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_unstable_by(f64::total_cmp);
    let (half, longest) = (times[RUNS / 2], times[RUNS - 1]);
    let held = bounds.hold(what, longest, ..=most, "ms");
    println!("{what:<48} {half:9.2} ms p50, {longest:9.2} at most{held}");
    Ok(())
}

/// Searches all of the log, page by page, for the line that stands there once; how often it was found.
fn search(client: &mut Client, log: &str) -> Result<usize> {
    let (mut found, mut page) = (0, format!("{log}/search?q={}", ONCE.replace(' ', "+")));
    loop {
        let answer = client.get(&page)?;
        found += answer["matches"].as_array().map_or(0, Vec::len);
        match answer["next"].as_str() {
            Some(next) => page = format!("{log}/search?q={}&cursor={next}", ONCE.replace(' ', "+")),
            None => return Ok(found),
        }
    }
}
