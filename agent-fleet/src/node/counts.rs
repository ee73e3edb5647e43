//! What is counted of a node's work, for those who watch it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::frame::LogFrame;
use crate::link::{Frame, LinkError, LinkSender};

/// Why an assignment may be refused: every code that there is.
const REASONS: [&str; 7] = [
    "assignment_signature",
    "assignment_malformed",
    "assignment_other_node",
    "assignment_time",
    "assignment_secret",
    "settled_before",
    "other_assignment",
];

/// The numbers of one node. Clones are handles of the same numbers.
#[derive(Debug, Clone, Default)]
pub struct NodeCounts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_connected: AtomicBool,
    connections: AtomicU64,
    log_bytes: AtomicU64,
    unsettled: AtomicUsize,
    refused: [AtomicU64; REASONS.len()],
}

/// How the numbers stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeNumbers {
    /// Whether the API server has let the node in.
    pub is_connected: bool,
    /// How often it has.
    pub connections: u64,
    /// Bytes of logs that were sent, repetitions among them.
    pub log_bytes: u64,
    /// Tasks that are not settled.
    pub unsettled: usize,
    /// Assignments that were not believed or not taken, by the code of the reason: each that there is.
    pub refused: Vec<(&'static str, u64)>,
}

/// Sends, and counts the bytes of logs.
pub(super) struct Counted<S> {
    sender: S,
    counts: NodeCounts,
}

impl NodeCounts {
    /// How they stand now.
    pub fn now(&self) -> NodeNumbers {
        let Inner { is_connected, connections, log_bytes, unsettled, refused } = &*self.0;
        NodeNumbers {
            is_connected: is_connected.load(Ordering::Relaxed),
            connections: connections.load(Ordering::Relaxed),
            log_bytes: log_bytes.load(Ordering::Relaxed),
            unsettled: unsettled.load(Ordering::Relaxed),
            refused: REASONS
                .into_iter()
                .zip(refused.iter().map(|count| count.load(Ordering::Relaxed)))
                .collect(),
        }
    }

    pub(super) fn connected(&self, is_connected: bool) {
        self.0.is_connected.store(is_connected, Ordering::Relaxed);
        self.0.connections.fetch_add(u64::from(is_connected), Ordering::Relaxed);
    }

    pub(super) fn unsettled(&self, unsettled: usize) {
        self.0.unsettled.store(unsettled, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, code: &str) {
        if let Some(at) = REASONS.iter().position(|reason| *reason == code) {
            self.0.refused[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The sender, with the bytes of logs counted.
    pub(super) fn counted<S>(&self, sender: S) -> Counted<S> {
        Counted { sender, counts: self.clone() }
    }
}

impl<S: LinkSender> LinkSender for Counted<S> {
    async fn feed(&mut self, frame: Frame) -> Result<(), LinkError> {
        let bytes = match &frame {
            Frame::Log(frame) => LogFrame::decode(frame).map_or(0, |frame| frame.bytes.len() as u64),
            _ => 0,
        };
        self.sender.feed(frame).await?;
        self.counts.0.log_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), LinkError> {
        self.sender.flush().await
    }
}
