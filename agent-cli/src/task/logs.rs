//! `agent-cli task logs`: a task's log, also while it is written. A line that is cut is taken up again at the byte where
//! it was cut.

use std::io::Read;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::{Global, LogsArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::follow::Screen;
use crate::output::say;
use crate::run::exit_code;
use crate::summary;
use crate::task::{parsed, path};

/// Bytes of a log that are read and printed at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How long the service is asked to wait for the end of a task whose log has ended, seconds.
const WAIT_S: u64 = 60;
/// Pause between two tries to reach the service.
const PAUSE: Duration = Duration::from_millis(250);
/// How long it is asked so where the log may go on with another attempt, seconds.
const NEXT_ATTEMPT_S: u64 = 1;
/// How long a service that went away while its log was followed is tried again: a restart takes less.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints a task's log.
pub(crate) fn logs(global: &Global, args: &LogsArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(global, &args.one.server)?;
    if args.follow {
        return follow(&client, &args.one.id, args.banner).map_err(Failure::beside_a_script);
    }
    let mut log = Log::new(&client, &args.one.id, args.banner);
    match log.print(false)? {
        Piece::Cut(why) => Err(Failure::new(format!("the log was cut off: {why}; ask for it again"))),
        Piece::Whole | Piece::Unread => {
            log.screen.finish();
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints a task's log until the task ends, that of one attempt behind that of the other, and gives the script's exit code.
pub(crate) fn follow(client: &Client, id: &str, banner: bool) -> Result<ExitCode, Failure> {
    // A service that is not there at the beginning is not waited for.
    let task = client.get(&path(id, ""))?;
    let mut log = Log { attempt: Some(newest_started(&task)), ..Log::new(client, id, banner) };
    let mut last_seen = Instant::now();
    let (mut is_read, mut is_lost) = (true, false);
    loop {
        let piece = if is_read { or_cut(log.print(true), &mut last_seen)? } else { Piece::Unread };
        is_read = !matches!(piece, Piece::Unread);
        let wait = match piece {
            Piece::Cut(_) => 0,
            Piece::Whole => NEXT_ATTEMPT_S,
            Piece::Unread => WAIT_S,
        };
        match client.get_within(&path(id, &format!("?wait={wait}")), Duration::from_secs(wait)) {
            Ok(task) => {
                // A log that was cut is read to its end, also when the task has ended meanwhile.
                let goes_on = matches!(piece, Piece::Whole) && log.goes_on_with(&task);
                if !goes_on && !task["ended_at"].is_null() && !matches!(piece, Piece::Cut(_)) {
                    log.screen.finish();
                    return ended(task);
                }
                last_seen = Instant::now();
                is_lost = false;
            }
            Err(failure) if failure.is_unreachable() && last_seen.elapsed() < PATIENCE => {
                if !std::mem::replace(&mut is_lost, true) {
                    say(&format!("the service went away and is tried again: {failure}"));
                }
            }
            Err(failure) => return Err(failure),
        }
        std::thread::sleep(PAUSE);
    }
}

/// A service that is not there for a while is as good as a connection that was lost. One that sent a piece was seen
/// when that ended, however long ago it was asked.
fn or_cut(printed: Result<Piece, Failure>, last_seen: &mut Instant) -> Result<Piece, Failure> {
    match printed {
        Err(failure) if failure.is_unreachable() => Ok(Piece::Cut(failure.to_string())),
        Ok(piece) => {
            *last_seen = Instant::now();
            Ok(piece)
        }
        failed => failed,
    }
}

/// The newest attempt of a task that has started, or the first that will.
fn newest_started(task: &serde_json::Value) -> u64 {
    let attempt = task["attempt"].as_u64().unwrap_or(1);
    if task["started_at"].is_null() { attempt.saturating_sub(1).max(1) } else { attempt }
}

fn ended(task: serde_json::Value) -> Result<ExitCode, Failure> {
    let task = parsed(task)?;
    match &task.result {
        Some(result) => {
            summary::say_outcome(&task.name, result);
            Ok(exit_code(result))
        }
        None => Err(Failure::agent(format!("the task has ended without a result: {}", task.status))),
    }
}

/// How the reading of a piece of a log ended.
enum Piece {
    /// The service has no more, for now or for good.
    Whole,
    /// The connection was lost.
    Cut(String),
    /// Nobody reads what is printed.
    Unread,
}

/// A log that is being printed.
struct Log<'a> {
    client: &'a Client,
    path: String,
    /// The attempt whose log it is; the newest where none is named.
    attempt: Option<u64>,
    offset: u64,
    screen: Screen,
}

impl<'a> Log<'a> {
    fn new(client: &'a Client, id: &str, banner: bool) -> Self {
        let path = path(id, &format!("/log?banner={banner}"));
        Self { client, path, attempt: None, offset: 0, screen: Screen::default() }
    }

    /// Goes on with the next attempt, once the log of this one is all printed; whether there is one, or is to be.
    fn goes_on_with(&mut self, task: &serde_json::Value) -> bool {
        let has_ended = !task["ended_at"].is_null();
        let newest = if has_ended { newest_started(task) } else { task["attempt"].as_u64().unwrap_or(1) };
        let Some(attempt) = self.attempt.filter(|attempt| *attempt < newest) else { return false };
        say(&format!("attempt {attempt} has ended; attempt {} follows", attempt + 1));
        (self.attempt, self.offset) = (Some(attempt + 1), 0);
        true
    }

    /// Prints from where the last piece ended.
    fn print(&mut self, follow: bool) -> Result<Piece, Failure> {
        let attempt = self.attempt.map(|number| format!("&attempt={number}")).unwrap_or_default();
        let mut log = self.client.stream(&format!("{}&follow={follow}{attempt}", self.path), self.offset)?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match log.read(&mut buffer) {
                Ok(0) => return Ok(Piece::Whole),
                Err(error) => return Ok(Piece::Cut(error.to_string())),
                Ok(read) => {
                    self.offset += read as u64;
                    if !self.screen.write(&buffer[..read]) {
                        return Ok(Piece::Unread);
                    }
                }
            }
        }
    }
}
