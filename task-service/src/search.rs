//! What tasks are searched by: words. A word is a run of letters and digits of any script, in small letters; everything
//! else stands between words. What is written to the index and what a caller asks for go through the same function,
//! so that both see the same words, and no text of a caller has a meaning to the index.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use task_runners::{ExecutionResult, Task};

/// Most words that a search has.
const MAX_ASKED: usize = 16;
/// Most words of one task that are found again, so that a huge spec costs no more than a large one.
const MAX_WORDS: usize = 256;
/// Most words beside these of what went wrong.
const MAX_WORDS_OF_AN_END: usize = 64;
/// Characters of a word that count.
const MAX_CHARACTERS: usize = 64;

/// What is searched for: tasks that have all these words. The last one may be the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Search(Vec<String>);

/// The text is nothing to search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a search has 1 to {MAX_ASKED} words of letters or digits")]
pub struct ParseSearchError;

impl FromStr for Search {
    type Err = ParseSearchError;
    fn from_str(text: &str) -> Result<Self, ParseSearchError> {
        let words: Vec<String> = words(text).take(MAX_ASKED + 1).collect();
        // A text without a word would find everything, which nobody wants who cancels what it finds.
        if (1..=MAX_ASKED).contains(&words.len()) { Ok(Self(words)) } else { Err(ParseSearchError) }
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Search {
    /// The words that must be there as they are, and the one that may be the beginning of one.
    pub(crate) fn parts(&self) -> (&[String], &str) {
        self.0.split_last().map_or((&[], ""), |(last, whole)| (whole, last))
    }
}

/// The words of a text, in its order.
fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    parts.map(|part| {
        // Small letters may be several, and some of those stand for no letter by themselves.
        let small = part.chars().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric());
        small.take(MAX_CHARACTERS).collect()
    })
}

/// The words by which a task is found, each once: what it is called, who asked for it, its labels, parameters and
/// arguments, and what went wrong. Values of secrets are in none of them; variables and standard input are left out,
/// since they often hold what should have been a secret.
///
/// A task that goes on gets more words and loses none, so that these are all that it ever had.
pub(crate) fn words_of(task: &Task) -> Vec<String> {
    let mut found = Words { all: Vec::new(), seen: HashSet::new(), most: MAX_WORDS };
    let spec = &task.spec;
    for text in [&task.name, task.id.as_str(), &task.created_by] {
        found.add(text);
    }
    for text in [&spec.on_behalf_of, &task.node].into_iter().flatten() {
        found.add(text);
    }
    if let Some(workspace) = &spec.work_dir {
        found.add(workspace.as_str());
    }
    spec.labels.iter().flat_map(|(key, value)| [key, value]).for_each(|text| found.add(text));
    spec.args.iter().for_each(|text| found.add(text));
    for (name, value) in &spec.params {
        found.add(name);
        found.add_value(value);
    }
    if let Some(result) = &task.result {
        found.most = found.all.len() + MAX_WORDS_OF_AN_END;
        found.add_outcome(task, result);
    }
    found.all
}

/// Words, each once.
struct Words {
    all: Vec<String>,
    seen: HashSet<String>,
    /// How many there may be.
    most: usize,
}

impl Words {
    fn add(&mut self, text: &str) {
        for word in words(text) {
            if self.all.len() == self.most {
                return;
            }
            if self.seen.insert(word.clone()) {
                self.all.push(word);
            }
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => self.add(&value.to_string()),
            Value::String(text) => self.add(text),
            Value::Array(values) => values.iter().for_each(|value| self.add_value(value)),
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                self.add(name);
                self.add_value(value);
            }),
        }
    }

    /// What went wrong. That all went well is a state, and asked for as such.
    fn add_outcome(&mut self, task: &Task, result: &ExecutionResult) {
        if result.success {
            return;
        }
        self.add(task.status.as_str());
        if let Some(error) = &result.error {
            self.add(&error.code);
            self.add(&error.message);
        }
        if let Some(error) = &result.output_error {
            self.add(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<String> {
        text.parse().ok().map(|search: Search| search.to_string())
    }

    #[test]
    fn a_text_is_its_words_in_small_letters() {
        for (text, expected) in [
            ("deploy/Web-2.sh", Some("deploy web 2 sh")),
            ("  a\"b* NOT (c) ", Some("a b not c")),
            ("Ärger_Ελλάδα 東京", Some("ärger ελλάδα 東京")),
            // Its small form is two characters, the second of which is a mark and no letter.
            ("İ", Some("i")),
            ("a\0b", Some("a b")),
            ("", None),
            ("-*\"'()", None),
        ] {
            assert_eq!(parsed(text).as_deref(), expected, "{text}");
        }
        assert!(parsed(&"a ".repeat(16)).is_some());
        assert_eq!(parsed(&"a ".repeat(17)), None);
        assert_eq!(parsed(&"a".repeat(1000)).map(|text| text.len()), Some(64));
    }
}
