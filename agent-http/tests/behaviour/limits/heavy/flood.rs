//! A log that is written for as long as a storm lasts: more at once than all buffers hold, and then portion by portion.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::attackers::{Way, get_text};
use crate::support::{Reply, Site, eventually};

/// Its lines are numbers, all of them as long, so that each tells its place.
const FIRST: u64 = 10_000_000;
const LINE_BYTES: u64 = 9;
/// What it writes at once, 51 MiB.
const AT_ONCE: u64 = 6_000_000;
/// A portion, 62 KiB, and the pause between two.
const PORTION: u64 = 7_000;
const PORTION_EVERY: Duration = Duration::from_millis(100);
/// Writes from the first number to the last one, and then what each line of a fifo says. With the fifo it ends.
const SCRIPT: &str = "#!/bin/sh\nseq \"$1\" \"$2\"\n\
    while read -r first last; do seq \"$first\" \"$last\"; done <\"$3\"\n";

/// The log, and the task that writes it.
pub(super) struct Flood {
    /// The path of its log.
    pub(super) log: String,
    task: String,
    /// Dropped, it lets no more portions go.
    going_on: Sender<()>,
    /// Gives the last number that was let go.
    pace: JoinHandle<u64>,
}

/// Somebody who follows it honestly, from its beginning to its end.
pub(super) struct Follower(JoinHandle<Reply>);

impl Flood {
    pub(super) fn write_script(site: &Site) {
        site.write_script("flood.sh", SCRIPT);
    }

    /// Begins it, and waits until it has more than all buffers hold.
    pub(super) fn begin(way: &Way<'_>, site: &Site) -> Self {
        let fifo = site.path("portions");
        mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let behind = FIRST + AT_ONCE;
        let args = [&FIRST.to_string(), &(behind - 1).to_string(), &fifo.display().to_string()];
        let id = way.submit("flood.sh", &args.map(String::as_str), "x").id();
        let file = site.path(&format!("state/tasks/{id}/stdout.txt"));
        eventually("what it writes at once", || {
            (file.metadata().ok()?.len() >= AT_ONCE * LINE_BYTES).then_some(())
        });
        let (going_on, over) = mpsc::channel();
        // Opened for reading as well it waits for nobody, and has room for all that will be let go.
        let mut portions = OpenOptions::new().read(true).write(true).open(fifo).unwrap();
        let pace = thread::spawn(move || {
            let mut next = behind;
            while over.recv_timeout(PORTION_EVERY) == Err(RecvTimeoutError::Timeout) {
                writeln!(portions, "{next} {}", next + PORTION - 1).unwrap();
                next += PORTION;
            }
            next - 1
        });
        let task = format!("/api/v1/tasks/{id}");
        Self { log: format!("{task}/log"), task, going_on, pace }
    }

    pub(super) fn follow(&self, way: &Way<'_>) -> Follower {
        let connection = way.sent(&get_text(&format!("{}?follow=true&banner=false", self.log)));
        Follower(thread::spawn(|| connection.reply()))
    }

    /// Lets nothing more go, waits for the script's end, and gives its last number and how long the end took.
    pub(super) fn end(self, way: &Way<'_>) -> (u64, Duration) {
        let Self { task, going_on, pace, .. } = self;
        drop(going_on);
        let (last, asked) = (pace.join().unwrap(), Instant::now());
        let ended = way.get(&format!("{task}?wait=60")).json();
        assert_eq!(ended["status"], "succeeded", "{ended}");
        (last, asked.elapsed())
    }
}

impl Follower {
    /// It got every byte that the script wrote.
    pub(super) fn got_all_to(self, last: u64) {
        let reply = self.0.join().unwrap();
        let written = Command::new("seq").args([FIRST, last].map(|number| number.to_string())).output();
        let written = written.unwrap().stdout;
        assert_eq!((reply.status, reply.body.len()), (200, written.len()));
        assert!(reply.body == written, "its bytes are others");
    }
}
