//! The audit log: who asked for what, from where, and what was decided, as a JSON line for each decision. It is written
//! before the answer is sent, to `audit.jsonl` in the state folder, which is readable by its owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use nix::fcntl::OFlag;
use serde::Serialize;

use crate::peer::Peer;

/// The file in the state folder. Older ones have a number behind, the higher the older.
pub(crate) const FILE: &str = "audit.jsonl";
/// Longest path that is written, bytes; what is longer names nothing.
const MAX_PATH_BYTES: usize = 1024;

/// The audit log of one agent.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    limits: AuditLimits,
    file: Mutex<Open>,
    /// Whether the last line could not be written: that is said once.
    is_failing: AtomicBool,
}

/// How much of it is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditLimits {
    /// Bytes after which a file is put aside.
    pub(crate) file_bytes: u64,
    /// How many files there are, with the one that is written.
    pub(crate) files: u32,
}

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

/// A request, as far as it is known before anybody decides about it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Its id, which its answer carries too.
    pub(crate) id: String,
    from: Option<Peer>,
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Whether the decision about it was written down already.
    is_told: AtomicBool,
}

/// Who presented a token, as far as it is known: it may be one that is not accepted any more.
#[derive(Debug, Clone)]
pub(crate) struct Presented(pub(crate) String);

/// What was decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decision<'a> {
    /// The name of the token.
    pub(crate) token: Option<&'a str>,
    pub(crate) status: StatusCode,
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
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl Asked {
    pub(crate) fn new(id: String, from: Option<Peer>, method: Method, path: &str) -> Self {
        let end = path.floor_char_boundary(MAX_PATH_BYTES);
        Self { id, from, method, path: path[..end].to_owned(), is_told: AtomicBool::new(false) }
    }
}

impl<'a> Line<'a> {
    fn of(asked: &'a Asked, word: &'static str, decision: Decision<'a>) -> Self {
        let Decision { token, status, code, task } = decision;
        Self {
            time: Timestamp::now(),
            request: &asked.id,
            from: asked.from,
            token,
            method: asked.method.as_str(),
            path: &asked.path,
            decision: word,
            status: status.as_u16(),
            code,
            task: task.map(|(id, _)| id),
            name: task.map(|(_, name)| name),
        }
    }
}

impl Audit {
    /// Opens the log in the state folder.
    ///
    /// # Errors
    /// When it cannot be opened; a link or anything else but a file in its place is an error too.
    pub(crate) fn open(state_dir: &Path, limits: AuditLimits) -> io::Result<Self> {
        let path = state_dir.join(FILE);
        let file = Mutex::new(Open::at(&path)?);
        Ok(Self { path, limits, file, is_failing: AtomicBool::new(false) })
    }

    /// Writes down what was decided about a request, once. Says whether that is on file.
    pub(crate) fn tell(&self, asked: &Asked, decision: Decision<'_>) -> bool {
        if asked.is_told.swap(true, Ordering::Relaxed) {
            return true;
        }
        let word = if decision.status.as_u16() < 400 { "allowed" } else { "refused" };
        self.put(&Line::of(asked, word, decision))
    }

    /// Writes down that an answer that was allowed is cut short, and why. Says whether that is on file.
    pub(crate) fn tell_cut(&self, asked: &Asked, why: Decision<'_>) -> bool {
        self.put(&Line::of(asked, "cut", why))
    }

    fn put(&self, line: &Line<'_>) -> bool {
        let written = self.write(line);
        let was_failing = self.is_failing.swap(written.is_err(), Ordering::Relaxed);
        match &written {
            Err(error) if !was_failing => {
                tracing::error!(%error, file = %self.path.display(), "the audit log cannot be written");
            }
            Ok(()) if was_failing => tracing::info!("the audit log can be written again"),
            _ => {}
        }
        written.is_ok()
    }

    fn write(&self, line: &Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open.bytes > 0 && open.bytes + text.len() as u64 > self.limits.file_bytes {
            self.rotate()?;
            *open = Open::at(&self.path)?;
        }
        // One call, so that lines of several services would not mix.
        let written = open.file.write(&text)?;
        open.bytes += written as u64;
        if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Puts the file aside: each one gets the next number, and the last one is lost.
    fn rotate(&self) -> io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => self.path.with_extension(format!("jsonl.{number}")),
        };
        for number in (0..self.limits.files.saturating_sub(1)).rev() {
            match std::fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match self.limits.files {
            // There is no other file that its lines could be kept in.
            1 => std::fs::remove_file(&self.path),
            _ => Ok(()),
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Self { file, bytes: metadata.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(audit: &Audit, path: &str) {
        let asked = Asked::new("r".to_owned(), None, Method::GET, path);
        let decision = Decision { token: None, status: StatusCode::OK, code: None, task: None };
        assert!(audit.tell(&asked, decision));
        // A second time it is not written again.
        assert!(audit.tell(&asked, decision));
    }

    #[test]
    fn files_are_put_aside_when_they_are_full_and_the_oldest_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        for files in [1, 3] {
            let limits = AuditLimits { file_bytes: 400, files };
            for number in 0..20 {
                // As after a restart each time.
                tell(&Audit::open(folder.path(), limits).unwrap(), &format!("/{number}"));
            }
            let read = |name: &str| std::fs::read_to_string(folder.path().join(name));
            let newest = read(FILE).unwrap();
            assert!(newest.len() <= 400 && newest.contains("\"/19\""), "{newest}");
            assert_eq!(read("audit.jsonl.2").is_ok(), files == 3);
            assert!(read("audit.jsonl.3").is_err());
            if files == 3 {
                let kept = read("audit.jsonl.2").unwrap() + &read("audit.jsonl.1").unwrap() + &newest;
                let paths: Vec<&str> = kept.split("\"path\":\"/").skip(1).collect();
                let numbers: Vec<u32> =
                    paths.iter().map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
                assert!(
                    numbers.len() > 4 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
                    "{numbers:?}"
                );
            }
        }
    }

    #[test]
    fn what_lies_in_its_place_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let decoy = folder.path().join("decoy");
        std::fs::write(&decoy, "as it was").unwrap();
        std::os::unix::fs::symlink(&decoy, folder.path().join(FILE)).unwrap();
        let limits = AuditLimits { file_bytes: 400, files: 2 };
        assert!(Audit::open(folder.path(), limits).is_err());
        assert_eq!(std::fs::read_to_string(decoy).unwrap(), "as it was");
    }
}
