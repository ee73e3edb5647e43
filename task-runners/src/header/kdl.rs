//! Parses texts of headers. The grammar is that of `usage`; its parser recurses and is not ours, so it gets only
//! bounded texts and a thread with room for them: one of its own, or one that reads many headers.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Scope, ScopedJoinHandle};

use usage::kdl::{KdlDocument, KdlError};

use crate::header::lines::Block;
use crate::header::{BrokenReason, plain};

/// What the parser recurses at: blocks, comments, and nodes that are commented out.
const OPENINGS: [&str; 3] = ["{", "/*", "/-"];
/// Most openings in one header: each can be one level of recursion, and the end of the stack ends the process.
const MAX_OPENINGS: usize = 200;
/// Stack of a thread that parses, bytes: enough for that many levels in a build without optimisation.
const STACK_BYTES: usize = 8 << 20;

thread_local! {
    /// Whether this thread was started to read headers.
    static HAS_ROOM: Cell<bool> = const { Cell::new(false) };
}

/// Starts a thread that has room to read headers, so that none of them needs a thread of its own.
pub(crate) fn spawn_with_room<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    std::thread::Builder::new().name("header".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, || {
        HAS_ROOM.set(true);
        work()
    })
}

/// Runs `parse` where neither a deep recursion nor a defect of a parser ends the agent.
///
/// # Errors
/// When the texts open more blocks than anybody needs, or when the parser failed.
pub(super) fn apart<T: Send>(texts: &[&str], parse: impl FnOnce() -> T + Send) -> Result<T, BrokenReason> {
    let count = |text: &str| OPENINGS.iter().map(|opening| text.matches(opening).count()).sum::<usize>();
    let openings: usize = texts.iter().map(|text| count(text)).sum();
    if openings > MAX_OPENINGS {
        let reason = format!("the header opens {openings} blocks and comments; {MAX_OPENINGS} is the most");
        return Err(BrokenReason { line: None, reason });
    }
    let parsed = if HAS_ROOM.get() {
        // What it leaves half done is dropped with it.
        Ok(catch_unwind(AssertUnwindSafe(parse)))
    } else {
        std::thread::scope(|scope| Ok(spawn_with_room(scope, parse)?.join()))
    };
    match parsed {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(_panic)) => Err(BrokenReason {
            line: None,
            reason: "the header cannot be parsed: the parser failed".to_owned(),
        }),
        Err(error) => {
            let error: io::Error = error;
            Err(BrokenReason { line: None, reason: format!("the header cannot be parsed now: {error}") })
        }
    }
}

/// Parses one block.
///
/// # Errors
/// Every place that is no KDL.
pub(super) fn document(block: &Block) -> Result<KdlDocument, Vec<BrokenReason>> {
    if let Some(document) = plain::document(&block.text) {
        return Ok(document);
    }
    block.text.parse().map_err(|error: KdlError| {
        let reason_of = |diagnostic: &usage::kdl::KdlDiagnostic| {
            let message = diagnostic.message.as_deref().or(diagnostic.label.as_deref());
            let message = message.unwrap_or("this is no KDL").trim_end_matches('.');
            let help = diagnostic.help.as_deref().map(|help| format!("; {help}")).unwrap_or_default();
            BrokenReason {
                line: Some(block.line_at(diagnostic.span.offset())),
                reason: format!("{message}{help}"),
            }
        };
        let mut reasons: Vec<BrokenReason> = error.diagnostics.iter().map(reason_of).collect();
        if reasons.is_empty() {
            reasons.push(BrokenReason { line: Some(block.line_at(0)), reason: error.to_string() });
        }
        reasons
    })
}
