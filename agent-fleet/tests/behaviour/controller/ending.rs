//! The end of a task, while it is written.

use std::sync::atomic::{AtomicBool, Ordering};

use agent_fleet::message::{Ended, ToServer};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{Place, exited, id, keys, named, order};

/// What is said while the end is written that this test makes fail.
const SAID: &str = "the reproduction script cannot be kept";

/// A log that panics when it is to say that for the first time.
#[derive(Default)]
struct Panics(AtomicBool);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Panics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let is_first = message.0 == SAID && !self.0.swap(true, Ordering::Relaxed);
        assert!(!is_first, "as the test wants it");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn an_end_whose_writing_panics_is_written_when_the_node_says_it_again() {
    let place = Place::new();
    tracing::subscriber::set_global_default(Panics::default()).unwrap();
    let agent = place.agent();
    let mut a = agent.node("a", &keys(&place, "a"));
    let execution = agent.start(order("t", 1, &named("a")));
    agent.wait(a.takes("t"));
    // No file can take this one's place.
    std::fs::create_dir_all(agent.records.folder(&id("t")).join("debug.sh/x")).unwrap();
    let (attempts, debug_script) = (Vec::new(), Some("#!/bin/sh\n".to_owned()));
    let (accepted, log_bytes, result) = (a.accepted["t"], 0, exited(3));
    let ended = Ended { task: id("t"), accepted, log_bytes, result, attempts, debug_script };
    let ended = ToServer::Ended(Box::new(ended));
    a.say(&ended);
    // It is handed out again, since its end is not known.
    a.taken.clear();
    agent.wait(a.takes("t"));
    a.say(&ended);
    agent.wait(a.is_settled("t"));
    assert_eq!(agent.wait(execution.wait()).exit_code, Some(3));
}
