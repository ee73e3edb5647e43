//! How long the service takes from its start until it says that it is ready.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::filled::Result;

/// Starts that are measured.
const STARTS: usize = 11;
/// What stands before the address in the line by which the service says where it listens.
const LISTENS: &str = "listening on http://";

/// Starts the service so often on a state folder; gives the times, shortest first.
pub(crate) fn times(program: &Path, place: &Path, state: &Path) -> Result<Vec<Duration>> {
    let scripts = place.join("scripts");
    std::fs::create_dir_all(&scripts)?;
    let mut times = (0..STARTS).map(|_| time(program, place, &scripts, state)).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times)
}

fn time(program: &Path, place: &Path, scripts: &Path, state: &Path) -> Result<Duration> {
    let begun = Instant::now();
    let mut service = Command::new(program)
        .current_dir(place)
        .args(["--port", "0", "--scripts"])
        .arg(scripts)
        .arg("--state")
        .arg(state)
        .env("DEVOPS_AGENT__LOG__FORMAT", "text")
        .stderr(Stdio::piped())
        .spawn()?;
    let said = service.stderr.take().ok_or("it says nothing")?;
    let ready = wait(BufReader::new(said)).map(|()| begun.elapsed());
    service.kill()?;
    service.wait()?;
    ready
}

fn wait(said: impl BufRead) -> Result<()> {
    let mut lines = said.lines();
    let listens = lines.find_map(|line| line.ok()?.split_once(LISTENS).map(|(_, at)| at.to_owned()));
    let mut stream = TcpStream::connect(listens.ok_or("it does not listen")?)?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("not ready: {answer}").into()) }
}
