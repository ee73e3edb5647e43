//! `#TASK` lines: keys with values. What a key means for the description is settled when all of them are known.

use usage::kdl::{KdlEntry, KdlValue};

use crate::header::lines::Block;
use crate::header::{BrokenReason, kdl};

/// Keys that this build does not enforce; a script that relies on one must not run without it.
const NOT_ENFORCED: &[&str] = &["confine", "limits", "run_as"];

/// Keys whose name goes on with that of a parameter or output, behind a dot.
const DOTTED: &[&str] =
    &["max", "max_length", "min", "min_length", "output", "output_type", "pattern", "type"];

/// Keys that stand alone.
const PLAIN: &[&str] = &[
    "concurrency",
    "description",
    "effect",
    "env",
    "grace",
    "group",
    "help",
    "hidden",
    "queue",
    "retries",
    "retry_delay",
    "retry_on",
    "secret",
    "tag",
    "timeout",
];

/// Keys that may be given more than once, each time with one more value.
const REPEATED: &[&str] = &["env", "retry_on", "secret", "tag"];

/// A key as it was written.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: String,
    /// The parameter or output that it is about.
    pub(super) about: Option<String>,
    pub(super) value: KdlValue,
    pub(super) line: u64,
}

/// Reads all statements; keys that are unknown, given twice or not enforced are broken.
pub(super) fn read(blocks: &[Block], broken: &mut Vec<BrokenReason>) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    for block in blocks {
        let document = match kdl::document(block) {
            Ok(document) => document,
            Err(reasons) => {
                broken.extend(reasons);
                continue;
            }
        };
        for node in document.nodes() {
            let line = block.line_at(node.name().span().offset());
            if node.name().value() != "task" || node.children().is_some() {
                let reason = "a #TASK line holds KEY=\"value\" pairs, and no blocks or ';'".to_owned();
                broken.push(BrokenReason { line: Some(line), reason });
                continue;
            }
            for entry in node.entries() {
                let line = block.line_at(entry.span().offset());
                match key(entry, line, &keys) {
                    Ok(key) => keys.push(key),
                    Err(reason) => broken.push(BrokenReason { line: Some(line), reason }),
                }
            }
        }
    }
    keys
}

fn key(entry: &KdlEntry, line: u64, known: &[Key]) -> Result<Key, String> {
    let Some(name) = entry.name() else {
        return Err(format!("{} has no key; a #TASK line holds KEY=\"value\" pairs", shown(entry.value())));
    };
    let text = name.value();
    let (head, about) = match text.split_once('.') {
        Some((head, about)) => (head, Some(about)),
        None => (text, None),
    };
    check_name(text, head, about)?;
    let is_same = |key: &Key| key.name == head && key.about.as_deref() == about;
    if !REPEATED.contains(&head) && known.iter().any(is_same) {
        return Err(format!("`{text}` is given twice"));
    }
    Ok(Key { name: head.to_owned(), about: about.map(str::to_owned), value: entry.value().clone(), line })
}

fn check_name(text: &str, head: &str, about: Option<&str>) -> Result<(), String> {
    let shown = text.escape_debug();
    if NOT_ENFORCED.contains(&head) {
        return Err(format!(
            "`{shown}` is not enforced by this agent yet; a script that relies on it must not run"
        ));
    }
    let is_known = match about {
        Some(about) => !about.is_empty() && DOTTED.contains(&head),
        None => PLAIN.contains(&head),
    };
    if is_known {
        return Ok(());
    }
    let dotted: Vec<String> = DOTTED.iter().map(|key| format!("{key}.NAME")).collect();
    Err(format!("`{shown}` is no key of #TASK; they are {}, {}", PLAIN.join(", "), dotted.join(", ")))
}

/// A value for messages.
pub(super) fn shown(value: &KdlValue) -> String {
    let text = value.to_string();
    if text.chars().count() <= 60 { text } else { text.chars().take(57).chain("...".chars()).collect() }
}
