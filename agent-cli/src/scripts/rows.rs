//! Scripts in lists, whether they are this host's or a service's: both come as the JSON of the API.

use serde_json::Value;

use super::without_name;
use crate::output::{self, is_terminal, padded, table};
use crate::terminal::{self, Style, cut, escaped_line};

/// Characters of a digest that tell one from another for people.
const SHORT_DIGEST: usize = 12;
/// What stands for a fact that there is none of.
const NONE: &str = "-";

/// One script in a list.
#[derive(Debug)]
pub(super) struct Line {
    name: String,
    digest: String,
    state: &'static str,
    effect: String,
    group: Option<String>,
    /// How it ended last, where somebody was asked.
    last: Option<Vec<String>>,
    about: String,
}

impl Line {
    /// A script with what its first comment says, where it does not describe itself, and how it ended last.
    pub(super) fn of(entry: &Value, comment: Option<String>, last: Option<Vec<String>>) -> Self {
        let text = |name: &str| entry[name].as_str().map(str::to_owned);
        let name = text("name").unwrap_or_default();
        let broken = entry["broken"].get(0);
        let state = match (broken, entry["verified"].as_bool()) {
            (Some(_), _) => "broken",
            (None, Some(true)) => "verified",
            (None, _) => "not verified",
        };
        let about = match broken {
            Some(broken) => reason(broken, &name),
            None => text("description").or(comment).unwrap_or_default(),
        };
        let is_undescribed = broken.is_none() && entry["described"] == false;
        let effect = text("effect").unwrap_or(if is_undescribed { "undescribed" } else { NONE }.to_owned());
        let digest = short_digest(&text("sha256").unwrap_or_default());
        Self { name, digest, state, effect, group: text("group"), last, about }
    }

    /// The columns for programs that read columns: always the same ones.
    fn columns(&self) -> Vec<String> {
        let group = self.group.as_deref().unwrap_or(NONE);
        let before = [self.name.as_str(), &self.digest, self.state, &self.effect, group].map(str::to_owned);
        before.into_iter().chain(self.last.clone().unwrap_or_default()).chain([self.about.clone()]).collect()
    }

    /// The columns for people, who have the group above them and no use for digests.
    fn short(&self) -> Vec<String> {
        let before = [self.name.as_str(), self.state, &self.effect].map(str::to_owned);
        before.into_iter().chain(self.last.clone().unwrap_or_default()).chain([self.about.clone()]).collect()
    }
}

/// The beginning of a digest, for people.
pub(super) fn short_digest(sha256: &str) -> String {
    sha256.chars().take(SHORT_DIGEST).collect()
}

/// The first reason why a script is broken, with its line.
fn reason(broken: &Value, name: &str) -> String {
    let line = broken["line"].as_u64().map(|line| format!("line {line}: ")).unwrap_or_default();
    format!("{line}{}", without_name(broken["reason"].as_str().unwrap_or_default(), name))
}

/// Prints a list: under headings on a terminal, as plain columns in a pipe.
pub(super) fn print(lines: &[Line]) {
    if is_terminal() {
        return print_groups(lines);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(Line::columns).collect();
    table(&rows).iter().for_each(|line| output::print(line));
}

fn print_groups(lines: &[Line]) {
    let (style, width) = (Style::of_stdout(), terminal::width());
    let rows = padded(&lines.iter().map(Line::short).collect::<Vec<_>>());
    let mut groups: Vec<Option<&String>> = lines.iter().map(|line| line.group.as_ref()).collect();
    // Those without a group come last.
    groups.sort_by_key(|group| (group.is_none(), *group));
    groups.dedup();
    for (number, group) in groups.iter().enumerate() {
        if groups.len() > 1 || group.is_some() {
            let between = if number > 0 { "\n" } else { "" };
            let heading = escaped_line(group.map_or("without a group", String::as_str));
            output::print(&format!("{between}{}", style.bold(&heading)));
        }
        let of_group = lines.iter().zip(&rows).filter(|(line, _)| line.group.as_ref() == *group);
        for (line, cells) in of_group {
            output::print(format!("  {}", coloured(line, &within(width, cells), style)).trim_end());
        }
    }
}

/// The cells of a line of which the last is as long as the terminal lets it be.
fn within(width: Option<usize>, cells: &[String]) -> Vec<String> {
    let (Some(width), Some((about, facts))) = (width, cells.split_last()) else { return cells.to_vec() };
    let before: usize = 2 + facts.iter().map(|cell| cell.chars().count() + 2).sum::<usize>();
    let about = cut(about.trim_end(), width.saturating_sub(before));
    facts.iter().cloned().chain([about]).collect()
}

/// The cells of a line, with colour for what needs care.
fn coloured(line: &Line, cells: &[String], style: Style) -> String {
    let colour = |cell: &String| match cell.trim_end() {
        "broken" if line.state == "broken" => style.red(cell),
        "destructive" => style.red(cell),
        "not verified" | "undescribed" => style.dim(cell),
        _ => cell.clone(),
    };
    let (about, facts) = cells.split_last().map_or(("", cells), |(about, facts)| (about.as_str(), facts));
    let name = facts.first().map(|name| style.bold(name));
    let facts = facts.iter().skip(1).map(colour);
    name.into_iter().chain(facts).chain([about.to_owned()]).collect::<Vec<_>>().join("  ")
}
