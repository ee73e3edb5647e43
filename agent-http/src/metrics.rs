//! The numbers that `/metrics` tells, and where they come from: runners are wrapped to be measured, the task service tells
//! of changes, answers are counted on their way out, and the rest is read when somebody asks.

mod nodes;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agent_fleet::controller::FleetStats;
use agent_fleet::node::NodeNumbers;
use axum::http::{Method, StatusCode};
use jiff::Timestamp;
use metrics::{counter, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use task_runners::ScriptsStatus;
use task_service::{
    ExecutionResult, KillScope, OnBusy, Outcome, Plan, Refusal, ServiceStats, StartError, StartFuture,
    TaskChange, TaskOrder, TaskRunner, TaskSpec, TaskStatus,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::server::OpenConnections;
use table::{
    ANSWERS, AUDIT_LOST, BUILD_INFO, CERTIFICATE_EXPIRES, CHANGES, COMMITS, CONNECTIONS, DURATION, FOLLOWERS,
    KILLS, LEFTOVERS, LOG_BYTES, MISSED, NODE_CONNECTED, NODE_CONNECTIONS, NODE_LOG_BYTES, NODE_REFUSED,
    NODE_UNSETTLED, PROBLEMS, QUEUED, REFUSALS, RETRIES, RUNNING, RUNS, SLOTS, UNWRITTEN, USABLE,
    VERIFICATION, WATCHED,
};

/// Upper bounds of the buckets for durations: from a bare start to a day.
const SECONDS: [f64; 14] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];
/// Label for a run that could not be started.
const NOT_STARTED: &str = "not_started";
/// Label for an answer that no route gave, and for a method that none has: callers could make up any number of both.
const NO_ROUTE: &str = "none";
const OTHER_METHOD: &str = "other";

/// The numbers of one agent. They are its own: nothing is registered for the whole process.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// What is read when somebody asks.
#[derive(Debug)]
pub(crate) struct Now<'a> {
    pub(crate) service: ServiceStats,
    pub(crate) fleet: FleetStats,
    /// Tasks that wait for a node.
    pub(crate) awaited: usize,
    pub(crate) scripts: &'a ScriptsStatus,
    pub(crate) certificate_expires: Option<Timestamp>,
    pub(crate) connections: Option<OpenConnections>,
    pub(crate) node: Option<NodeNumbers>,
}

/// The form in which a log is followed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Bytes,
    Events,
}

/// While it lives, a log counts as followed.
#[derive(Debug)]
pub(crate) struct Following {
    metrics: Arc<Metrics>,
    form: Form,
}

/// A runner whose runs are measured.
struct Measured {
    runner: Arc<dyn TaskRunner>,
    metrics: Arc<Metrics>,
}

impl Metrics {
    pub(crate) fn new() -> Result<Arc<Self>, BuildError> {
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Full(DURATION.to_owned()), &SECONDS)?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let metrics = Self { recorder, handle };
        metrics.record(|| {
            table::describe();
            // What has not happened yet is zero, and not absent.
            for name in [MISSED, AUDIT_LOST] {
                counter!(name).absolute(0);
            }
            for form in [Form::Bytes, Form::Events] {
                gauge!(FOLLOWERS, "form" => form.as_str()).set(0.0);
            }
        });
        Ok(Arc::new(metrics))
    }

    /// The runner, with its runs measured.
    pub(crate) fn measured(self: &Arc<Self>, runner: impl TaskRunner) -> Arc<dyn TaskRunner> {
        Arc::new(Measured { runner: Arc::new(runner), metrics: self.clone() })
    }

    /// Counts an answer of a route, as the router knows it; none where the request came to no route.
    pub(crate) fn answered(&self, method: &Method, route: Option<&str>, status: StatusCode) {
        let (route, status) = (route.unwrap_or(NO_ROUTE).to_owned(), status.as_str().to_owned());
        let method = known_method(method);
        self.record(|| {
            counter!(ANSWERS, "method" => method, "route" => route, "status" => status).increment(1);
        });
    }

    /// Counts a log as followed for as long as what this gives lives.
    pub(crate) fn following(self: &Arc<Self>, form: Form) -> Following {
        self.record(|| gauge!(FOLLOWERS, "form" => form.as_str()).increment(1.0));
        Following { metrics: self.clone(), form }
    }

    /// Counts a refusal by its code.
    pub(crate) fn refused(&self, code: &'static str) {
        self.record(|| counter!(REFUSALS, "code" => code).increment(1));
    }

    /// Counts a decision that could not be written to the audit log.
    pub(crate) fn audit_lost(&self) {
        self.record(|| counter!(AUDIT_LOST).increment(1));
    }

    /// Counts the states that tasks reach, for as long as the service tells of them.
    pub(crate) async fn follow(self: Arc<Self>, mut changes: Receiver<TaskChange>) {
        loop {
            match changes.recv().await {
                Ok(TaskChange { status, .. }) => {
                    self.record(|| counter!(CHANGES, "status" => status.as_str()).increment(1));
                }
                Err(RecvError::Lagged(missed)) => self.record(|| counter!(MISSED).increment(missed)),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Everything in the text format of Prometheus (0.0.4).
    pub(crate) fn render(&self, now: &Now<'_>) -> String {
        let Now { service, fleet, awaited, scripts, certificate_expires, connections, node } = now;
        let is_usable = !scripts.verification || scripts.manifest.is_some();
        self.record(|| {
            gauge!(QUEUED).set(count(service.queued));
            gauge!(RUNNING).set(count(service.running));
            gauge!(UNWRITTEN).set(count(service.unwritten));
            gauge!(SLOTS).set(count(service.slots));
            counter!(RETRIES).absolute(service.retries);
            counter!(COMMITS).absolute(service.commits);
            nodes::record(fleet, *awaited);
            gauge!(VERIFICATION).set(truth(scripts.verification));
            gauge!(USABLE).set(truth(is_usable));
            gauge!(PROBLEMS).set(count(scripts.problems.len()));
            gauge!(WATCHED).set(truth(scripts.unwatched.is_none()));
            gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            if let Some(expires) = certificate_expires {
                gauge!(CERTIFICATE_EXPIRES).set(expires.as_duration().as_secs_f64());
            }
            if let Some(node) = node {
                record_node(node);
            }
            let OpenConnections { waiting, serving, finishing } = connections.unwrap_or_default();
            for (state, number) in [("waiting", waiting), ("serving", serving), ("finishing", finishing)] {
                gauge!(CONNECTIONS, "state" => state).set(count(number));
            }
        });
        self.handle.render()
    }

    /// Brings measured durations into their buckets. Without that, and with nobody who asks, they pile up.
    pub(crate) fn tidy(&self) {
        self.handle.run_upkeep();
    }

    /// Counts a run. What was killed is counted by the agent on whose host that was.
    fn run_ended(&self, runner: &dyn TaskRunner, result: &ExecutionResult) {
        let was_here = !runner.runs_elsewhere();
        let runner = runner.name().to_owned();
        let status = TaskStatus::of_result(result).as_str();
        let took = Duration::from_millis(result.duration_ms);
        let was_ended = matches!(result.outcome, Outcome::TimedOut | Outcome::Cancelled);
        self.record(|| {
            counter!(RUNS, "runner" => runner.clone(), "status" => status).increment(1);
            counter!(LOG_BYTES, "runner" => runner.clone()).increment(result.log.bytes);
            histogram!(DURATION, "runner" => runner).record(took.as_secs_f64());
            if let Some(scope) = result.kill_scope.filter(|_| was_here).map(scope_name) {
                let is_kill = was_ended || result.leftovers_killed > 0;
                counter!(KILLS, "kill_scope" => scope).increment(u64::from(is_kill));
                counter!(LEFTOVERS, "kill_scope" => scope).increment(result.leftovers_killed);
            }
        });
    }

    fn run_not_started(&self, runner: &str) {
        let runner = runner.to_owned();
        self.record(|| counter!(RUNS, "runner" => runner, "status" => NOT_STARTED).increment(1));
    }

    fn record<T>(&self, change: impl FnOnce() -> T) -> T {
        with_local_recorder(&self.recorder, change)
    }
}

impl TaskRunner for Measured {
    fn name(&self) -> &str {
        self.runner.name()
    }

    fn description(&self) -> &str {
        self.runner.description()
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        self.runner.check(spec)
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(async move {
            let waits_where_busy = order.spec.on_busy == OnBusy::Wait;
            let started = self.runner.start(order).await;
            match &started {
                // It is no run: the task goes on waiting.
                Err(StartError::Away(_)) => {}
                Err(StartError::WorkspaceBusy(_)) if waits_where_busy => {}
                Err(_) => self.metrics.run_not_started(self.name()),
                Ok(execution) => {
                    let (execution, metrics) = (execution.clone(), self.metrics.clone());
                    let runner = self.runner.clone();
                    tokio::spawn(async move {
                        let result = execution.wait().await;
                        metrics.run_ended(&*runner, &result);
                    });
                }
            }
            started
        })
    }

    fn runs_elsewhere(&self) -> bool {
        self.runner.runs_elsewhere()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Form {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Events => "events",
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let form = self.form.as_str();
        self.metrics.record(|| gauge!(FOLLOWERS, "form" => form).decrement(1.0));
    }
}

/// What a node counts. An agent that is none has no such numbers.
fn record_node(node: &NodeNumbers) {
    gauge!(NODE_CONNECTED).set(truth(node.is_connected));
    counter!(NODE_CONNECTIONS).absolute(node.connections);
    counter!(NODE_LOG_BYTES).absolute(node.log_bytes);
    gauge!(NODE_UNSETTLED).set(count(node.unsettled));
    for (code, refused) in &node.refused {
        counter!(NODE_REFUSED, "code" => *code).absolute(*refused);
    }
}

fn known_method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| method == known).unwrap_or(OTHER_METHOD)
}

/// The scope as results show it.
fn scope_name(scope: KillScope) -> &'static str {
    match scope {
        KillScope::Cgroup => "cgroup",
        KillScope::Marker => "marker",
    }
}

fn truth(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// Counts in here stay far below the 2^53 that a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn count(number: usize) -> f64 {
    number as f64
}
