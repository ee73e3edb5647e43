//! The audit log: who asked for what, from where, and what was decided, as a JSON line for each decision. It is written
//! before the answer is sent, to files in the state folder that are readable by its owner only.
//!
//! | module | what it holds |
//! |---|---|
//! | `file` | a file, and the full ones beside it |
//! | `writer` | the thread that writes |

mod file;
mod writer;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::server::CallerLeft;
use file::AuditFile;
use writer::{Place, Writer};

/// The file in the state folder, and the one for requests without a token that is accepted: they cost nothing, so that
/// whoever sends enough of them could have the lines of the others put aside until they are gone.
pub(crate) const FILE: &str = "audit.jsonl";
const REFUSED_FILE: &str = "audit-refused.jsonl";
/// Longest path that is written, bytes; what is longer names nothing.
const MAX_PATH_BYTES: usize = 1024;

/// The audit log of one agent.
#[derive(Debug)]
pub(crate) struct Audit(Writer);

/// How much of it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditLimits {
    /// Bytes after which a file is put aside.
    pub(crate) file_bytes: u64,
    /// How many files there are, with the one that is written.
    pub(crate) files: u32,
}

/// A request, as far as it is known before anybody decides about it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its id, which its answer carries too.
    pub(crate) id: String,
    from: Option<Peer>,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// The name of the token that it came with, which may be one that is not accepted any more.
    token: OnceLock<String>,
    /// Whether that token is accepted.
    is_let_in: AtomicBool,
    caller_left: CallerLeft,
    /// Whether the decision about it was written down already.
    is_told: AtomicBool,
}

/// What was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'a> {
    /// What was answered; nothing where the caller hung up before.
    pub(crate) status: Option<StatusCode>,
    /// The code of a refusal.
    pub(crate) code: Option<&'a str>,
    /// The task that was accepted, and what it runs.
    pub(crate) task: Option<(&'a str, &'a str)>,
}

/// A line.
#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    request: &'a str,
    from: Option<Peer>,
    token: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    decision: &'static str,
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl Asked {
    pub(crate) fn new(
        id: String,
        from: Option<Peer>,
        method: Method,
        path: &str,
        caller_left: CallerLeft,
    ) -> Self {
        let path = path[..path.floor_char_boundary(MAX_PATH_BYTES)].to_owned();
        let (token, is_let_in, is_told) = Default::default();
        Self { id, from, method, path, token, is_let_in, caller_left, is_told }
    }

    /// Notes which token it came with.
    pub(crate) fn came_with(&self, token: &str) {
        self.token.get_or_init(|| token.to_owned());
    }

    /// Notes that this token is accepted.
    pub(crate) fn let_in(&self) {
        self.is_let_in.store(true, Ordering::Relaxed);
    }

    /// Whether it came with a token that is accepted.
    pub(crate) fn is_let_in(&self) -> bool {
        self.is_let_in.load(Ordering::Relaxed)
    }

    /// The name of the token that it came with, as far as that is known.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.get().map(String::as_str)
    }

    /// Where its lines belong.
    fn place(&self) -> Place {
        if self.is_let_in() { Place::Main } else { Place::Refused }
    }

    /// Waits until the caller has hung up: then nobody waits for an answer any more.
    pub(crate) async fn caller_left(&self) {
        self.caller_left.told().await;
    }
}

impl Audit {
    /// Opens the log in the state folder. Lines that cannot be written are counted.
    ///
    /// # Errors
    /// When it cannot be opened; a link or anything else but a file in its place is an error too.
    pub(crate) fn open(state_dir: &Path, limits: AuditLimits, metrics: Arc<Metrics>) -> io::Result<Self> {
        let mut main = AuditFile::open(state_dir.join(FILE), limits)?;
        let mut refused = AuditFile::open(state_dir.join(REFUSED_FILE), limits)?;
        let write = move |place, text: &[u8]| match place {
            Place::Main => main.write(text),
            Place::Refused => refused.write(text),
        };
        Writer::start(write, metrics).map(Self)
    }

    /// Writes down what was decided about a request, once, and waits until it is on file, or cannot be.
    pub(crate) async fn tell(&self, asked: &Asked, decision: Decision<'_>) {
        if asked.is_told.load(Ordering::Relaxed) {
            return;
        }
        let Some(room) = self.0.room().await else { return };
        // Not before there is room: whoever waits for that may be dropped.
        asked.is_told.store(true, Ordering::Relaxed);
        room.put(asked.place(), line(asked, word(decision.status), decision)).await;
    }

    /// Writes down something that was done for a request beside what is decided about the whole.
    pub(crate) async fn tell_also(&self, asked: &Asked, decision: Decision<'_>) {
        self.put(asked, word(decision.status), decision).await;
    }

    /// Writes down that an answer that was allowed is cut short, and why.
    pub(crate) async fn tell_cut(&self, asked: &Asked, why: Decision<'_>) {
        self.put(asked, "cut", why).await;
    }

    /// Writes down, unless something was decided already, that a request was not answered, and waits for nothing.
    pub(crate) fn tell_unanswered(&self, asked: &Asked) {
        if !asked.is_told.swap(true, Ordering::Relaxed) {
            let decision = Decision { status: None, code: None, task: None };
            self.0.leave(asked.place(), line(asked, word(None), decision));
        }
    }

    async fn put(&self, asked: &Asked, word: &'static str, decision: Decision<'_>) {
        if let Some(room) = self.0.room().await {
            room.put(asked.place(), line(asked, word, decision)).await;
        }
    }
}

fn word(status: Option<StatusCode>) -> &'static str {
    match status {
        None => "unanswered",
        Some(status) if status.as_u16() < 400 => "allowed",
        Some(_) => "refused",
    }
}

fn line(asked: &Asked, word: &'static str, decision: Decision<'_>) -> Vec<u8> {
    let Decision { status, code, task } = decision;
    let line = Line {
        time: Timestamp::now(),
        request: &asked.id,
        from: asked.from,
        token: asked.token(),
        method: asked.method.as_str(),
        path: &asked.path,
        decision: word,
        status: status.map(|status| status.as_u16()),
        code,
        task: task.map(|(id, _)| id),
        name: task.map(|(_, name)| name),
    };
    let mut text = serde_json::to_vec(&line).expect("a line has only texts and numbers");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    async fn tell(audit: &Audit, path: &str) {
        let asked = Asked::new("r".to_owned(), None, Method::GET, path, CallerLeft::default());
        asked.let_in();
        let decision = Decision { status: Some(StatusCode::OK), code: None, task: None };
        audit.tell(&asked, decision).await;
        // A second time it is not written again.
        audit.tell(&asked, decision).await;
    }

    fn open(state_dir: &Path, file_bytes: u64, files: u32) -> io::Result<Audit> {
        Audit::open(state_dir, AuditLimits { file_bytes, files }, Metrics::new().unwrap())
    }

    /// The numbers that are the paths of a file's lines; each of these is whole.
    fn numbers(text: &str) -> Vec<u32> {
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        text.lines().map(|text| line(text)["path"].as_str().unwrap()[1..].parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn files_are_put_aside_when_they_are_full_and_the_oldest_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        for files in [1, 3] {
            for number in 0..20 {
                // As after a restart each time.
                tell(&open(folder.path(), 400, files).unwrap(), &format!("/{number}")).await;
            }
            let read = |name: &str| fs::read_to_string(folder.path().join(name));
            let newest = read(FILE).unwrap();
            assert!(newest.len() <= 400 && newest.contains("\"/19\""), "{newest}");
            assert_eq!(read("audit.jsonl.2").is_ok(), files == 3);
            assert!(read("audit.jsonl.3").is_err());
            if files == 3 {
                let kept = read("audit.jsonl.2").unwrap() + &read("audit.jsonl.1").unwrap() + &newest;
                let numbers = numbers(&kept);
                assert!(
                    numbers.len() > 4 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
                    "{numbers:?}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_line_that_was_left_half_written_is_not_run_into_and_a_gap_is_filled_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path(FILE), "{\"half\":").unwrap();
        tell(&open(folder.path(), 10_000, 4).unwrap(), "/1").await;
        let text = fs::read_to_string(path(FILE)).unwrap();
        assert_eq!(numbers(text.strip_prefix("{\"half\":\n").unwrap()), [1]);
        for number in [1, 3] {
            fs::write(path(&format!("audit.jsonl.{number}")), number.to_string()).unwrap();
        }
        tell(&open(folder.path(), 1, 4).unwrap(), "/2").await;
        let read = |number: u32| fs::read_to_string(path(&format!("audit.jsonl.{number}"))).unwrap();
        assert_eq!((read(1), read(2).as_str(), read(3).as_str()), (text, "1", "3"));
    }

    #[test]
    fn what_lies_in_its_place_is_not_followed() {
        for name in [FILE, REFUSED_FILE] {
            let folder = tempfile::tempdir().unwrap();
            let decoy = folder.path().join("decoy");
            fs::write(&decoy, "as it was").unwrap();
            std::os::unix::fs::symlink(&decoy, folder.path().join(name)).unwrap();
            assert!(open(folder.path(), 400, 2).is_err());
            assert_eq!(fs::read_to_string(decoy).unwrap(), "as it was");
        }
    }
}
