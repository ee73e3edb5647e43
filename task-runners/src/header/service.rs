//! The keys of `#TASK` that the service keeps: how many tasks run and wait at once, and what is tried again.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::description::ScriptDescription;
use crate::header::BrokenReason;
use crate::header::settle::{duration, wrong};
use crate::header::task::Key;
use crate::retry::{MAX_RETRIES, MAX_RETRY_DELAY, RetryKind};

/// More than any service runs at once, and than anybody lets wait.
const MOST: u32 = 1_000_000;

/// Works one of these keys into the description.
pub(super) fn settle(key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    let retry = &mut description.retry;
    match key.name.as_str() {
        "concurrency" => description.concurrency = Some(number(key, 1..=MOST)?),
        "queue" => description.queue = Some(number(key, 0..=MOST)?),
        "retries" => retry.retries = number(key, 0..=MAX_RETRIES)?,
        "retry_delay" => retry.delay = delay(key)?,
        // Taken together once all are known.
        "retry_on" => return kind(key).map(drop),
        _ => {}
    }
    Ok(())
}

/// Works in what only all keys together say, and gives those that do nothing without another one, which is not there.
pub(super) fn finish(keys: &[Key], description: &mut ScriptDescription) -> Vec<BrokenReason> {
    let named: BTreeSet<RetryKind> =
        keys.iter().filter(|key| key.name == "retry_on").filter_map(|key| kind(key).ok()).collect();
    // Those that are named stand in place of the usual ones.
    if !named.is_empty() {
        description.retry.on = named;
    }
    let has_concurrency = keys.iter().any(|key| key.name == "concurrency");
    let has_retries = keys.iter().any(|key| key.name == "retries" && key.value.as_integer() != Some(0));
    let lacking = keys.iter().filter_map(|key| {
        let reason = match key.name.as_str() {
            "queue" if !has_concurrency => {
                "`queue` bounds who waits for `concurrency`, which is not given; add it, or leave `queue` out"
            }
            "retry_on" | "retry_delay" if !has_retries => {
                "this is about retries, and the script has none; add `retries`, 1 at least, or leave this out"
            }
            _ => return None,
        };
        Some(BrokenReason { line: Some(key.line), reason: reason.to_owned() })
    });
    lacking.collect()
}

fn number(key: &Key, range: RangeInclusive<u32>) -> Result<u32, String> {
    let number = key.value.as_integer().and_then(|value| u32::try_from(value).ok());
    let expected = || format!("a whole number from {} to {} without quotes", range.start(), range.end());
    number.filter(|number| range.contains(number)).ok_or_else(|| wrong(key, &expected()))
}

fn kind(key: &Key) -> Result<RetryKind, String> {
    let kind = key.value.as_string().and_then(RetryKind::of_name);
    kind.ok_or_else(|| {
        let names: Vec<String> = RetryKind::ALL.iter().map(|kind| format!("\"{}\"", kind.as_str())).collect();
        wrong(key, &names.join(", "))
    })
}

fn delay(key: &Key) -> Result<Duration, String> {
    let found = duration(key)?;
    let most = MAX_RETRY_DELAY.as_secs() / 60;
    if found <= MAX_RETRY_DELAY { Ok(found) } else { Err(wrong(key, &format!("at most \"{most}m\""))) }
}
