//! Reads what stands in the tables of a hook's section: parameters, rules, target, labels. Whatever is wrong in them is told
//! at once, each at its place.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{HookParam, HookPlace, HookRule, HookTarget, HookTest, HookValue};
use crate::grammar;
use crate::input::{Checked, Input, Wrong, quote};
use crate::token::{NAME, own};

/// What a rule looks like.
const RULE: &str = "a place and a test, such as { pointer = \"/ref\", equals = \"refs/heads/main\" }: `pointer` or \
    `header`, and `equals`, `one_of` or `starts_with`";
/// What a place looks like.
const PLACE: &str = "{ pointer = \"/ref\" } or { header = \"X-GitHub-Event\" }";
const POINTER: &str = "a JSON pointer (RFC 6901) such as \"/repository/name\"; \"\" is the whole body";
const HEADER: &str = "the name of a header, such as \"X-GitHub-Event\"";
const LABEL: &str = "a text of at most 255 bytes without control characters";
const TARGET: &str = "{ node = \"db-1\" } or { labels = { role = \"db\" } }";
const VALUE: &str = "a text, a whole number, true or false";

type Entry<'a> = (&'a str, usize, &'a Spanned<DeValue<'a>>);

/// Where each parameter comes from, by name.
pub(super) fn params(input: Input<'_>) -> Checked<BTreeMap<String, HookParam>> {
    let right = "a table of names, each with a value or with ".to_owned() + PLACE;
    gathered(entries(input, &right)?, |name, value| {
        if name.is_empty() || name.contains(char::is_control) {
            return Wrong::one(&format!("the name {}", quote(name)), "the name of a parameter");
        }
        match value {
            DeValue::Table(_) => place(Input::Toml(value), PLACE).map(HookParam::From),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| (item.span().start, scalar(item.get_ref())));
                collected(items).map(|list| HookParam::Fixed(HookValue::List(list)))
            }
            value => scalar(value).map(HookParam::Fixed),
        }
    })
}

/// The rules of `when`.
pub(super) fn rules(input: Input<'_>) -> Checked<Vec<HookRule>> {
    let Input::Toml(DeValue::Array(items)) = input else {
        return input.text(&format!("a list, each item being {RULE}"), |_| None);
    };
    collected(items.iter().map(|item| (item.span().start, rule(Input::Toml(item.get_ref())))))
}

/// Where the script is to run.
pub(super) fn target(input: Input<'_>) -> Checked<HookTarget> {
    match entries(input, TARGET)?.as_slice() {
        [("node", at, value)] => {
            placed(*at, Input::Toml(value.get_ref()).text(NAME, own(grammar::is_name))).map(HookTarget::Node)
        }
        [("labels", at, value)] => {
            let labels = placed(*at, labels(Input::Toml(value.get_ref())))?;
            if labels.is_empty() { input.text(TARGET, |_| None) } else { Ok(HookTarget::Labels(labels)) }
        }
        _ => input.text(TARGET, |_| None),
    }
}

/// Labels by name.
pub(super) fn labels(input: Input<'_>) -> Checked<BTreeMap<String, String>> {
    gathered(entries(input, "a table of names and texts, such as { team = \"web\" }")?, |name, value| {
        if !grammar::is_name(name) {
            return Wrong::one(&format!("the name {}", quote(name)), NAME);
        }
        Input::Toml(value).text(LABEL, own(|text| text.len() <= 255 && !text.contains(char::is_control)))
    })
}

fn rule(input: Input<'_>) -> Checked<HookRule> {
    let entries = entries(input, RULE)?;
    let is_place = |(key, ..): &&Entry<'_>| matches!(*key, "pointer" | "header");
    let is_test = |(key, ..): &&Entry<'_>| matches!(*key, "equals" | "one_of" | "starts_with");
    let (mut places, mut tests) = (entries.iter().filter(is_place), entries.iter().filter(is_test));
    let (Some(place), Some(test), 2) = (places.next(), tests.next(), entries.len()) else {
        return Wrong::one(&format!("a rule with {}", named(&entries)), RULE);
    };
    match (place_of(place), test_of(test)) {
        (Ok(place), Ok(test)) => Ok(HookRule { place, test }),
        (place, test) => Err([place.err(), test.err()].into_iter().flatten().flatten().collect()),
    }
}

fn place(input: Input<'_>, right: &str) -> Checked<HookPlace> {
    match entries(input, right)?.as_slice() {
        [entry @ ("pointer" | "header", ..)] => place_of(entry),
        others => Wrong::one(&format!("a table with {}", named(others)), right),
    }
}

fn place_of((key, at, value): &Entry<'_>) -> Checked<HookPlace> {
    let input = Input::Toml(value.get_ref());
    placed(
        *at,
        match *key {
            "pointer" => input.text(POINTER, own(grammar::is_pointer)).map(HookPlace::Body),
            // Which headers there are depends on the scheme, and is looked at when that was read.
            _ => input.text(HEADER, own(|text| !text.is_empty())).map(HookPlace::Header),
        },
    )
}

fn test_of((key, at, value): &Entry<'_>) -> Checked<HookTest> {
    let value = value.get_ref();
    let test = match (*key, value) {
        ("equals", value) => scalar(value).map(|value| HookTest::OneOf(vec![value])),
        ("one_of", DeValue::Array(items)) if !items.is_empty() => {
            let items = items.iter().map(|item| (item.span().start, scalar(item.get_ref())));
            collected(items).map(HookTest::OneOf)
        }
        ("one_of", value) => Input::Toml(value).text(&format!("a list, each item being {VALUE}"), |_| None),
        (_, value) => {
            Input::Toml(value).text("a text", own(|text| !text.is_empty())).map(HookTest::StartsWith)
        }
    };
    placed(*at, test)
}

/// A value that is one; a mistake tells no more than its kind.
fn scalar(value: &DeValue<'_>) -> Checked<HookValue> {
    match value {
        DeValue::String(text) => Ok(HookValue::Text(text.to_string())),
        DeValue::Boolean(truth) => Ok(HookValue::Truth(*truth)),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Ok(HookValue::Integer(number)),
            Err(_) => Input::Toml(value).secret(VALUE, |_| None),
        },
        _ => Input::Toml(value).secret(VALUE, |_| None),
    }
}

/// The entries of a table.
fn entries<'a>(input: Input<'a>, right: &str) -> Checked<Vec<Entry<'a>>> {
    let Input::Toml(DeValue::Table(table)) = input else { return input.text(right, |_| None) };
    Ok(of_table(table))
}

fn of_table<'a>(table: &'a DeTable<'a>) -> Vec<Entry<'a>> {
    table.iter().map(|(key, value)| (key.get_ref().as_ref(), value.span().start, value)).collect()
}

fn named(entries: &[Entry<'_>]) -> String {
    let names: Vec<String> = entries.iter().map(|(key, ..)| quote(key)).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") }
}

/// What each entry of a table becomes, by name, or everything that is wrong with them.
fn gathered<T>(
    entries: Vec<Entry<'_>>,
    read: impl Fn(&str, &DeValue<'_>) -> Checked<T>,
) -> Checked<BTreeMap<String, T>> {
    let read = entries
        .into_iter()
        .map(|(key, at, value)| (at, read(key, value.get_ref()).map(|value| (key.to_owned(), value))));
    collected(read).map(|pairs| pairs.into_iter().collect())
}

/// All values, or everything that is wrong with them, each at its place.
fn collected<T>(items: impl Iterator<Item = (usize, Checked<T>)>) -> Checked<Vec<T>> {
    let (mut values, mut wrongs) = (Vec::new(), Vec::new());
    for (at, item) in items {
        match item {
            Ok(value) => values.push(value),
            Err(found) => wrongs.extend(Wrong::at(found, at)),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

fn placed<T>(at: usize, read: Checked<T>) -> Checked<T> {
    read.map_err(|wrongs| Wrong::at(wrongs, at).collect())
}
