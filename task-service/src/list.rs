//! Lists tasks by pages, newest first. A page's cursor is a place in the order of acceptance, so that paging neither
//! repeats nor misses a task while others are accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use task_runners::{Task, TaskSpec, TaskStatus};

use crate::search::Search;
use crate::service::{ReadError, TaskService};
use crate::store::{self, Facts};

/// Most tasks in one page.
const MAX_LIMIT: usize = 1000;

/// Whether whoever asks may see the task of a spec.
pub type Visible = Arc<dyn Fn(&TaskSpec) -> bool + Send + Sync>;

/// Which tasks are wanted. All conditions must hold; the default wants all tasks.
#[derive(Clone, Default)]
pub struct TaskFilter {
    /// Tasks in one of these states; empty means any.
    pub statuses: Vec<TaskStatus>,
    /// Tasks of exactly this script or runner.
    pub name: Option<String>,
    /// Tasks that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// Tasks of this node.
    pub node: Option<String>,
    /// Tasks that have these words.
    pub search: Option<Search>,
    /// Tasks that this caller asked for. Like `visible` this is tried on one task after another.
    pub created_by: Option<String>,
    /// Tasks that were accepted at this time or later.
    pub since: Option<Timestamp>,
    /// Tasks that whoever asks may see. Unlike most conditions this one is tried on one task after another.
    pub visible: Option<Visible>,
}

impl TaskFilter {
    /// Whether a task is wanted, by what no index has told.
    pub(crate) fn shows(&self, facts: &Facts<'_>) -> bool {
        self.since.is_none_or(|since| facts.created_at >= since)
            && self.created_by.as_ref().is_none_or(|wanted| wanted == facts.created_by)
            && self.visible.as_ref().is_none_or(|visible| visible(facts.spec))
    }
}

impl fmt::Debug for TaskFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskFilter")
            .field("statuses", &self.statuses)
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("node", &self.node)
            .field("search", &self.search)
            .field("created_by", &self.created_by)
            .field("since", &self.since)
            .field("visible", &self.visible.is_some())
            .finish()
    }
}

/// A page of tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskPage {
    /// The tasks, newest first. There may be fewer than were asked for although there is a next page: a page also
    /// ends at 8 MiB of specs and results, after 5,000 tasks that it does not show, and where conditions that many tasks fit
    /// one by one fit so few together that looking for those takes long. It may even be empty.
    pub tasks: Vec<Task>,
    /// Where the next page begins; none when this is the last one.
    pub next: Option<Cursor>,
}

/// Where a page begins. Its text is for giving back only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor(i64);

/// The text is no cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no cursor; give back `next` of the page before as it was")]
pub struct ParseCursorError(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = ParseCursorError;
    fn from_str(text: &str) -> Result<Self, ParseCursorError> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(place) if digits && place > 0 => Ok(Self(place)),
            _ => Err(ParseCursorError(text.to_owned())),
        }
    }
}

impl TaskService {
    /// A page of the tasks that `filter` wants, newest first, from `cursor` on. `limit` is 1 to 1000; what is outside
    /// becomes the nearer of the two.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(
        &self,
        filter: TaskFilter,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<TaskPage, ReadError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let before = cursor.map_or(i64::MAX, |Cursor(place)| place);
        let (mut tasks, next) = self.read(move |db| store::page(db, &filter, limit, before)).await?;
        for task in &mut tasks {
            self.live().complete(task);
        }
        Ok(TaskPage { tasks, next: next.map(Cursor) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_page_gave_is_read_as_a_cursor() {
        assert_eq!(Cursor(17).to_string().parse(), Ok(Cursor(17)));
        for bad in ["", "0", "-1", "+1", " 1", "1.0", "x", "9223372036854775808", "1' OR 1"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }
}
