//! Every measurement that there is, in one table: the page `docs/metrics.md` has the same, which a test sees to.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// What a measurement is to Prometheus.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A measurement.
#[derive(Debug)]
pub(super) struct Measurement {
    name: &'static str,
    kind: Kind,
    /// Its labels. Each has few values, none of which a caller makes up.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the page has them; recorders are told with each value")
    )]
    labels: &'static [&'static str],
    help: &'static str,
}

pub(super) const ANSWERS: &str = "devops_agent_http_responses_total";
pub(super) const AUDIT_LOST: &str = "devops_agent_audit_lines_lost_total";
pub(super) const BUILD_INFO: &str = "devops_agent_build_info";
pub(super) const CERTIFICATE_EXPIRES: &str = "devops_agent_tls_certificate_expires_seconds";
pub(super) const CHANGES: &str = "devops_agent_task_changes_total";
pub(super) const COMMITS: &str = "devops_agent_database_commits_total";
pub(super) const CONNECTIONS: &str = "devops_agent_http_connections";
pub(super) const DURATION: &str = "devops_agent_task_run_duration_seconds";
pub(super) const FOLLOWERS: &str = "devops_agent_log_followers";
pub(super) const HOOKS: &str = "devops_agent_hook_requests_total";
pub(super) const KILLS: &str = "devops_agent_task_kills_total";
pub(super) const LEFTOVERS: &str = "devops_agent_task_leftovers_killed_total";
pub(super) const LOG_BYTES: &str = "devops_agent_task_log_bytes_total";
pub(super) const MISSED: &str = "devops_agent_task_changes_missed_total";
pub(super) const NODES: &str = "devops_agent_nodes";
pub(super) const NODES_DRAINING: &str = "devops_agent_nodes_draining";
pub(super) const NODES_ASSIGNMENTS: &str = "devops_agent_nodes_assignments_total";
pub(super) const NODES_CONNECTIONS: &str = "devops_agent_nodes_connections_total";
pub(super) const NODES_GIVEN_UP: &str = "devops_agent_nodes_tasks_given_up_total";
pub(super) const NODES_LOG_BYTES: &str = "devops_agent_nodes_log_bytes_total";
pub(super) const NODES_REFUSALS: &str = "devops_agent_nodes_refusals_total";
pub(super) const NODES_TASKS: &str = "devops_agent_nodes_tasks";
pub(super) const NODE_CONNECTED: &str = "devops_agent_node_connected";
pub(super) const NODE_CONNECTIONS: &str = "devops_agent_node_connections_total";
pub(super) const NODE_LOG_BYTES: &str = "devops_agent_node_log_bytes_sent_total";
pub(super) const NODE_REFUSED: &str = "devops_agent_node_assignments_refused_total";
pub(super) const NODE_UNSETTLED: &str = "devops_agent_node_tasks_unsettled";
pub(super) const PROBLEMS: &str = "devops_agent_scripts_problems";
pub(super) const QUEUED: &str = "devops_agent_tasks_queued";
pub(super) const REFUSALS: &str = "devops_agent_refusals_total";
pub(super) const RETRIES: &str = "devops_agent_task_retries_total";
pub(super) const RUNNING: &str = "devops_agent_tasks_running";
pub(super) const RUNS: &str = "devops_agent_task_runs_total";
pub(super) const SLOTS: &str = "devops_agent_task_slots";
pub(super) const UNWRITTEN: &str = "devops_agent_tasks_unwritten";
pub(super) const USABLE: &str = "devops_agent_scripts_usable";
pub(super) const VERIFICATION: &str = "devops_agent_scripts_verification_enabled";
pub(super) const WATCHED: &str = "devops_agent_scripts_watched";

/// All of them, in the order of the page.
pub(super) const TABLE: &[Measurement] = &[
    gauge(BUILD_INFO, &["version"], "The agent's version, as a label of the number 1."),
    counter(CHANGES, &["status"], "Tasks that reached a state, by state."),
    counter(MISSED, &[], "Changes of tasks that were not counted because too many came at once."),
    counter(RUNS, &["runner", "status"], "Runs that ended, by runner and outcome."),
    histogram(DURATION, &["runner"], "Duration of runs, by runner."),
    counter(LOG_BYTES, &["runner"], "Bytes of the logs of runs that ended, by runner."),
    counter(
        KILLS,
        &["kill_scope"],
        "Runs that were ended, or left processes that were killed, by how that was made sure.",
    ),
    counter(LEFTOVERS, &["kill_scope"], "Processes that runs had left and that were killed."),
    counter(RETRIES, &[], "Attempts of tasks that were followed by another one."),
    gauge(QUEUED, &[], "Tasks that wait."),
    gauge(RUNNING, &[], "Tasks that run."),
    gauge(SLOTS, &[], "Most tasks that run at once."),
    gauge(UNWRITTEN, &[], "Tasks that have ended and could not be written yet."),
    counter(COMMITS, &[], "Transactions that the task service has written."),
    counter(ANSWERS, &["method", "route", "status"], "Answers over HTTP, by method, route and status."),
    counter(REFUSALS, &["code"], "Requests that were refused, by code."),
    counter(
        HOOKS,
        &["hook", "outcome"],
        "Requests to hooks, by hook and by what became of them: accepted, repeated, ignored, or the code of a refusal.",
    ),
    counter(AUDIT_LOST, &[], "Decisions that could not be written to the audit log."),
    gauge(CONNECTIONS, &["state"], "Open connections, by what they do: waiting, serving, finishing."),
    gauge(FOLLOWERS, &["form"], "Logs that are being followed, by form: bytes, events."),
    gauge(NODES, &["state"], "Nodes that have ever connected, by state: connected, away."),
    gauge(NODES_DRAINING, &[], "Nodes that take no new tasks."),
    gauge(
        NODES_TASKS,
        &["state"],
        "Tasks of nodes that have not ended, by state: handed to one, waiting for one that has room.",
    ),
    counter(NODES_CONNECTIONS, &[], "Connections of nodes that were let in."),
    counter(NODES_REFUSALS, &["code"], "Connections of nodes that were not let in, by code."),
    counter(NODES_ASSIGNMENTS, &[], "Assignments that were sent to nodes, repetitions too."),
    counter(NODES_LOG_BYTES, &[], "Bytes of logs that came from nodes, repetitions too."),
    counter(NODES_GIVEN_UP, &[], "Tasks of nodes that were given up."),
    gauge(VERIFICATION, &[], "Whether scripts are verified: 1 or 0."),
    gauge(USABLE, &[], "Whether scripts can be run: 1, or 0 while no verified copy of them is in use."),
    gauge(PROBLEMS, &[], "What is wrong with the scripts folder now, counted."),
    gauge(WATCHED, &[], "Whether changes of the scripts folder are seen without a request: 1 or 0."),
    gauge(
        CERTIFICATE_EXPIRES,
        &[],
        "When the service's certificate expires, in seconds since 1970-01-01T00:00:00Z.",
    ),
    gauge(NODE_CONNECTED, &[], "Whether this node is connected to its API server: 1 or 0."),
    counter(
        NODE_CONNECTIONS,
        &[],
        "How often the API server has let this node in: beyond the first, after a cut line.",
    ),
    counter(
        NODE_LOG_BYTES,
        &[],
        "Bytes of logs that this node has sent to its API server, repetitions among them.",
    ),
    gauge(NODE_UNSETTLED, &[], "Tasks of the API server whose log and result it does not have yet."),
    counter(NODE_REFUSED, &["code"], "Assignments that this node did not believe or take, by code."),
];

/// Tells the recorder what each measurement is.
pub(super) fn describe() {
    for Measurement { name, kind, help, .. } in TABLE {
        match kind {
            Kind::Counter => describe_counter!(*name, *help),
            Kind::Gauge => describe_gauge!(*name, *help),
            Kind::Histogram => describe_histogram!(*name, *help),
        }
    }
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Measurement {
    Measurement { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Measurement {
    Measurement { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Measurement {
    Measurement { name, kind: Kind::Histogram, labels, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_about_measurements_has_this_table() {
        let line = |one: &Measurement| {
            let kind = format!("{:?}", one.kind).to_lowercase();
            let labels: Vec<String> = one.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("| `{}` | {kind} | {} | {} |\n", one.name, labels.join(" "), one.help)
        };
        let table: String = TABLE.iter().map(line).collect();
        let page = include_str!("../../../docs/metrics.md");
        let lines = page.split_inclusive('\n').filter(|line| line.starts_with("| `devops_agent_"));
        assert_eq!(lines.collect::<String>(), table, "docs/metrics.md is to have:\n{table}");
    }
}
