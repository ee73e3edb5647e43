//! After the end: what the script handed back, what it used, and the result that says it all.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::executor::Inner;
use crate::launch::Running;
use crate::output_params::{self, OutputError};
use crate::prepare::Prepared;
use crate::request::ExecuteScriptRequest;
use crate::result::{Confinement, Containment, ExecutionResult, LogSummary, Outcome, Usage};
use crate::supervise::Ended;

/// The result of a script that ran, its log aside.
pub(crate) fn result_of(
    inner: &Inner,
    request: &ExecuteScriptRequest,
    prepared: &Prepared<'_>,
    running: &Running,
    ended: Ended,
) -> ExecutionResult {
    let (output_params, output_error) = match collect_output(prepared) {
        Ok(mut params) => {
            let wrong = request.output_check.as_ref().and_then(|check| check(&mut params, &ended.outcome));
            (params, wrong)
        }
        Err(error) => (BTreeMap::new(), Some(error.to_string())),
    };
    let exit_code = match ended.outcome {
        Outcome::Exited { code } => Some(code),
        _ => None,
    };
    let kill_scope = running.scope.kind();
    ExecutionResult {
        success: exit_code == Some(0),
        exit_code,
        duration_ms: millis(ended.duration),
        command: running.command.clone(),
        script_sha256: None,
        manifest: None,
        output_params,
        output_error,
        kill_scope: Some(kill_scope),
        containment: Some(Containment::of(kill_scope, !ended.survivors)),
        confinement: Confinement::None,
        leftovers_killed: ended.leftovers,
        leaked_output: ended.leaked_output,
        log: LogSummary::default(),
        usage: ended.usage.map_or_else(Usage::default, |used| Usage {
            user_ms: millis(used.user),
            system_ms: millis(used.system),
            max_rss_kib: Some(used.max_rss_kib).filter(|&peak| is_above_own_peak(&inner.own_peak_kib, peak)),
        }),
        error: None,
        outcome: ended.outcome,
    }
}

/// `$TASK_OUTPUT` wins; else the file of that name in the working folder.
fn collect_output(prepared: &Prepared<'_>) -> Result<BTreeMap<String, String>, OutputError> {
    if let Some(params) = output_params::collect(&prepared.equipment.scratch.dir)? {
        return Ok(params);
    }
    Ok(output_params::collect(&prepared.accepted.workspace.dir)?.unwrap_or_default())
}

/// Whether a child's peak is its own: up to the agent's own peak it may be the agent's memory before execve
/// (getrusage(2)). The agent's peak only grows, so it is asked for only where the last one does not decide: the kernel
/// adds up all threads for the answer.
fn is_above_own_peak(last_kib: &AtomicU64, peak_kib: u64) -> bool {
    use nix::sys::resource::{UsageWho, getrusage};
    if peak_kib <= last_kib.load(Ordering::Relaxed) {
        return false;
    }
    let own = getrusage(UsageWho::RUSAGE_SELF)
        .map_or(u64::MAX, |usage| u64::try_from(usage.max_rss()).unwrap_or(u64::MAX));
    last_kib.fetch_max(own, Ordering::Relaxed);
    peak_kib > own
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
