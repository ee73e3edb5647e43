//! Reads the query of a request with every mistake named at once, unknown names too.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::http::Uri;
use task_runners::Problems;
use task_service::Problem;

use crate::error::ApiError;

/// The query of one request, taken name by name.
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    problems: Problems,
}

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        let text = uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned().collect();
        Self { pairs, problems: Problems::default() }
    }

    /// Every value of a name that may be repeated.
    pub(crate) fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.pairs.extract_if(.., |(found, _)| found == name);
        taken.map(|(_, value)| value).collect()
    }

    /// The value of a name that may be given once.
    pub(crate) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            self.problem(name, "once", "one value; it was given more than once");
        }
        values.pop()
    }

    /// The parsed value of a name that may be given once. `expected` says what would be right.
    pub(crate) fn parsed<T: FromStr>(&mut self, name: &str, rule: &str, expected: impl Display) -> Option<T> {
        let text = self.one(name)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.problem(name, rule, expected);
        }
        parsed
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let expected = format!("a whole number from {least} to {most}");
        let number = self.parsed(name, "range", &expected)?;
        if (least..=most).contains(&number) {
            return Some(number);
        }
        self.problem(name, "range", expected);
        None
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "boolean", "true or false")
    }

    /// Labels that must all be there: `label=team=web`, which may be repeated.
    pub(crate) fn labels(&mut self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for text in self.all("label") {
            match text.split_once('=') {
                Some((name, value)) if !name.is_empty() => {
                    labels.insert(name.to_owned(), value.to_owned());
                }
                _ => self.problem("label", "label", "a label's name and value, as `team=web`"),
            }
        }
        labels
    }

    /// Notes a mistake that only the caller can see.
    pub(crate) fn problem(&mut self, name: &str, rule: &str, expected: impl Display) {
        self.problems.push(Problem::new(name, rule, expected.to_string()));
    }

    /// 422 with all mistakes, if there are any. What nobody has taken is one.
    pub(crate) fn finish(mut self) -> Result<(), ApiError> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            let expected = "a parameter of this path; this one is not known";
            self.problem(&name.escape_debug().to_string(), "unknown_parameter", expected);
        }
        if self.problems.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.problems.into_vec())) }
    }
}
