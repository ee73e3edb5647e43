//! Which known key somebody may have meant who wrote an unknown one.

use crate::hook::Hook;
use crate::keys::{KEYS, SECTIONS, TOKENS, VARIABLES};
use crate::repeated::keys_of;
use crate::token::Token;

/// Keys above this many characters are not compared: nobody meant a known one, and the comparison costs their product.
const LONGEST: usize = 64;

/// Every key and section that can be written.
pub(crate) fn known() -> Vec<String> {
    let keys = KEYS.iter().map(|key| key.name.to_owned());
    let fields = keys_of::<Token>().chain(keys_of::<Hook>());
    let sections = SECTIONS.iter().copied().chain([VARIABLES, TOKENS]);
    keys.chain(fields).chain(sections.map(str::to_owned)).collect()
}

/// The known key that is most like this one: the same name in another section, or a slip of the pen.
pub(crate) fn nearest(unknown: &str) -> Option<String> {
    if unknown.chars().count() > LONGEST {
        return None;
    }
    let name = last(unknown);
    let slips = 1 + name.chars().count() / 3;
    known()
        .into_iter()
        .map(|known| {
            // The right name in a wrong section is nearer than any slip but one in the right section.
            let moved = if last(&known) == name { 2 } else { usize::MAX };
            (distance(unknown, &known).min(moved), known)
        })
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// How many letters must be changed, left out, put in, or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last_row: Vec<usize> = (0..=to.len()).collect();
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let changed = last_row[j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = changed.min(last_row[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(before_last[j - 2] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last_row, row);
    }
    last_row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
        for (written, meant) in [
            ("http.prot", "http.port"),
            ("htpp", "http"),
            ("http.origin", "http.origins"),
            ("script_executor.max_log_byte", "script_executor.max_log_bytes"),
            ("auth.token.scope", "auth.token.scopes"),
            ("auth.tokens", "auth.token"),
        ] {
            assert_eq!(nearest(written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn the_right_name_in_a_wrong_section_is_recognised() {
        assert_eq!(nearest("port").as_deref(), Some("http.port"));
        assert_eq!(nearest("http.drain").as_deref(), Some("limits.drain"));
    }

    #[test]
    fn something_else_altogether_gets_no_advice() {
        assert_eq!(nearest("database.connection"), None);
        assert_eq!(nearest(&"x".repeat(100_000)), None);
    }
}
