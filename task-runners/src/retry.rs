//! What is tried again, how often and when: a policy that is settled when a task is accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use executor_core::{ExecutionResult, Outcome, Problem, TaskId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::description::ScriptDescription;
use crate::spec::TaskSpec;

/// Most retries that a script's header may declare.
pub const MAX_RETRIES: u32 = 100;
/// Most retries that a caller may ask for of what declares nothing of itself.
pub const MAX_UNDECLARED_RETRIES: u32 = 10;
/// Longest wait before a retry.
pub const MAX_RETRY_DELAY: Duration = Duration::from_secs(5 * 60);
/// Longest wait before the first retry where nothing else is said.
const DEFAULT_DELAY: Duration = Duration::from_secs(5);

/// How an attempt can end that is worth another one. A cancelled one never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryKind {
    /// It exited with another code than 0.
    Exited,
    /// A signal that the agent did not send ended it.
    Signaled,
    /// Its time was over.
    TimedOut,
    /// The kernel ended it for want of memory.
    OutOfMemory,
    /// It could not be started, for a reason that may pass.
    NotStarted,
    /// The agent died while it ran, or stopped watching it.
    Interrupted,
}

/// What of a task is tried again, how often and after how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// How many attempts may follow the first one.
    pub retries: u32,
    /// The ends that are tried again.
    pub on: BTreeSet<RetryKind>,
    /// Longest wait before the first retry; it doubles for each one after that.
    pub delay: Duration,
}

impl RetryKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Exited,
        Self::Signaled,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::NotStarted,
        Self::Interrupted,
    ];

    /// Its name, which is that of the outcome.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signaled => "signaled",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::NotStarted => "not_started",
            Self::Interrupted => "interrupted",
        }
    }

    /// The kind of that name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind of an end that is worth another attempt at all; none of a success, a cancellation, and a start that was
    /// refused for what will be the same the next time.
    pub fn of_result(result: &ExecutionResult) -> Option<Self> {
        match result.outcome {
            Outcome::Exited { code: 0 } | Outcome::Cancelled => None,
            Outcome::Exited { .. } => Some(Self::Exited),
            Outcome::Signaled { .. } => Some(Self::Signaled),
            Outcome::TimedOut => Some(Self::TimedOut),
            Outcome::OutOfMemory => Some(Self::OutOfMemory),
            Outcome::NotStarted => result.may_start_later().then_some(Self::NotStarted),
            Outcome::Interrupted => Some(Self::Interrupted),
        }
    }
}

impl Default for RetryPolicy {
    /// No retries. Where some are asked for and nothing else is said, a time limit and the agent's death are no reasons:
    /// what ran then may have done half of its work.
    fn default() -> Self {
        use RetryKind::{Exited, NotStarted, OutOfMemory, Signaled};
        let on = BTreeSet::from([Exited, Signaled, OutOfMemory, NotStarted]);
        Self { retries: 0, on, delay: DEFAULT_DELAY }
    }
}

impl RetryPolicy {
    /// The policy of a task: what the script's header says, and as many retries as the spec asks for.
    pub fn settled(declared: Option<&ScriptDescription>, spec: &TaskSpec) -> Self {
        let policy = declared.map(|declared| declared.retry.clone()).unwrap_or_default();
        Self { retries: spec.retries.unwrap_or(policy.retries), ..policy }
    }

    /// Whether another attempt follows the given one, which ended with this result.
    pub fn follows(&self, attempt: u32, result: &ExecutionResult) -> bool {
        attempt <= self.retries && RetryKind::of_result(result).is_some_and(|kind| self.on.contains(&kind))
    }

    /// How long the attempt behind the given one waits at least.
    ///
    /// Exponential with equal jitter ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015): half of the time
    /// is certain, the other half is spread, so that what failed together does not come back together. The spread is
    /// taken from the task's id and attempt, which is as good as a die here and the same each time it is asked.
    pub fn delay(&self, id: &TaskId, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.delay.saturating_mul(doubled).min(MAX_RETRY_DELAY);
        let half = longest / 2;
        half + half.mul_f64(spread(id, attempt))
    }
}

/// A number from 0 to 1 that differs from task to task and from attempt to attempt.
fn spread(id: &TaskId, attempt: u32) -> f64 {
    let digest = Sha256::new().chain_update(id.as_str()).chain_update(attempt.to_be_bytes()).finalize();
    let number = digest.iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    f64::from(number) / f64::from(u32::MAX)
}

/// What is wrong with the retries that a spec asks for. `declared` is what the script says of itself, if it does.
pub(crate) fn problem(declared: Option<&ScriptDescription>, spec: &TaskSpec) -> Option<Problem> {
    let (most, whose) = match declared.map(|declared| declared.retry.retries) {
        Some(0) => (0, "or left out: the script declares no retries by `#TASK retries=N`".to_owned()),
        Some(most) => (most, format!("at most {most}, which the script declares by `#TASK retries={most}`")),
        None => {
            let most = MAX_UNDECLARED_RETRIES;
            (most, format!("at most {most}, where no script's header declares more"))
        }
    };
    let expected = if most == 0 { format!("0 {whose}") } else { whose };
    spec.retries.filter(|asked| *asked > most).map(|_| Problem::new("retries", "maximum", expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_each_task_has_its_own() {
        let policy = RetryPolicy { retries: 20, delay: Duration::from_secs(1), ..RetryPolicy::default() };
        let id: TaskId = "a".parse().unwrap();
        for attempt in 1..20 {
            let longest = Duration::from_secs(1 << (attempt - 1)).min(MAX_RETRY_DELAY);
            let delay = policy.delay(&id, attempt);
            assert!(longest / 2 <= delay && delay <= longest, "{attempt}: {delay:?}");
            assert_eq!(delay, policy.delay(&id, attempt));
        }
        let delays: BTreeSet<Duration> =
            (0..100).map(|n| policy.delay(&format!("t{n}").parse().unwrap(), 1)).collect();
        assert!(delays.len() > 90, "they are spread: {}", delays.len());
        assert_eq!(policy.delay(&id, u32::MAX).max(MAX_RETRY_DELAY), MAX_RETRY_DELAY);
    }

    #[test]
    fn only_what_is_named_and_can_come_to_something_is_tried_again() {
        let exited = |code| ExecutionResult::without_run(Outcome::Exited { code }, "", "");
        let of = |outcome, code| ExecutionResult::without_run(outcome, code, "");
        let default = RetryPolicy { retries: 1, ..RetryPolicy::default() };
        let all = RetryPolicy { on: RetryKind::ALL.into(), ..default.clone() };
        let table = [
            (exited(0), false, false),
            (exited(1), true, true),
            (of(Outcome::Signaled { signal: 9 }, ""), true, true),
            (of(Outcome::OutOfMemory, ""), true, true),
            (of(Outcome::TimedOut, ""), false, true),
            (of(Outcome::Interrupted, "agent_died"), false, true),
            (of(Outcome::Cancelled, ""), false, false),
            (of(Outcome::NotStarted, "out_of_descriptors"), true, true),
            (of(Outcome::NotStarted, "script_not_found"), false, false),
            (of(Outcome::NotStarted, "scripts_unverified"), false, false),
        ];
        for (result, by_default, when_named) in table {
            let found = (default.follows(1, &result), all.follows(1, &result));
            assert_eq!(found, (by_default, when_named), "{:?}", result.outcome);
            assert!(!all.follows(2, &result), "no attempt is left");
        }
    }
}
