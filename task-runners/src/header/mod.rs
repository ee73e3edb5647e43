//! Reads what a script says of itself: `#USAGE` lines declare arguments and flags, `#TASK` lines the rest. Pure: bytes
//! in, a description or all that is wrong out. Nothing is run, included, opened or read from the environment.

mod declared;
mod guard;
mod kdl;
mod lines;
mod plain;
mod relations;
mod service;
mod settle;
mod task;
mod usage;

use std::sync::Arc;

pub(crate) use kdl::spawn_with_room;

use lines::HeaderLines;

use crate::description::ScriptDescription;

/// Bytes of a script that can hold its header: more than 200 lines of any sense have.
pub const HEAD_BYTES: usize = 256 << 10;

/// Most reasons that are told of one script.
const MAX_REASONS: usize = 100;

/// Why a script cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct BrokenReason {
    /// The line that is wrong, where it is one.
    pub line: Option<u64>,
    /// What is wrong and what would be right.
    pub reason: String,
}

/// What should be otherwise in a script that runs all the same.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Warning {
    /// The line that it is about, where it is one.
    pub line: Option<u64>,
    /// What should be otherwise.
    pub reason: String,
}

/// What reading a script's header gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The description; none where the script has no header. Or everything that is wrong with it.
    pub description: Result<Option<Arc<ScriptDescription>>, Vec<BrokenReason>>,
    /// What should be otherwise all the same.
    pub warnings: Vec<Warning>,
}

/// Reads the header among the first bytes of a script.
///
/// ```
/// let script = b"#!/bin/sh\n#USAGE arg \"<service>\"\n#TASK effect=\"write\"\n";
/// let description = task_runners::header::read(script).description.unwrap().unwrap();
/// assert_eq!(description.parameters[0].name, "service");
/// ```
pub fn read(bytes: &[u8]) -> Header {
    let mut lines = HeaderLines::of(bytes);
    let mut warnings = std::mem::take(&mut lines.warnings);
    let mut broken = std::mem::take(&mut lines.broken);
    if lines.usage.is_empty() && lines.tasks.is_empty() {
        let description = if broken.is_empty() { Ok(None) } else { Err(broken) };
        return Header { description, warnings };
    }
    let mut description = ScriptDescription::default();
    let texts: Vec<&str> =
        lines.tasks.iter().chain([&lines.usage]).map(|block| block.text.as_str()).collect();
    let parsed = kdl::apart(&texts, || {
        let declared_at = usage::read(&lines.usage, &mut description, &mut broken);
        let keys = task::read(&lines.tasks, &mut broken);
        settle::settle(&keys, &declared_at, &mut description, &mut broken);
    });
    broken.extend(parsed.err());
    if broken.is_empty() && description.effect.is_none() {
        let reason =
            "the script does not say what it does: #TASK effect=\"read\", \"write\" or \"destructive\"";
        warnings.push(Warning { line: None, reason: reason.to_owned() });
    }
    broken.sort_by_key(|reason| reason.line);
    broken.truncate(MAX_REASONS);
    let description = if broken.is_empty() { Ok(Some(Arc::new(description))) } else { Err(broken) };
    Header { description, warnings }
}
