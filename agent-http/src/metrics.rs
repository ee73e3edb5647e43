//! The numbers that `/metrics` tells, and where they come from: runners are wrapped to be measured, the task service tells
//! of changes, answers are counted on their way out, and the rest is read when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{
    counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder,
};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use task_runners::ScriptsStatus;
use task_service::{
    Plan, Refusal, ServiceStats, StartFuture, TaskChange, TaskOrder, TaskRunner, TaskSpec, TaskStatus,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

const BUILD_INFO: &str = "devops_agent_build_info";
const CHANGES: &str = "devops_agent_task_changes_total";
const MISSED: &str = "devops_agent_task_changes_missed_total";
const RUNS: &str = "devops_agent_task_runs_total";
const DURATION: &str = "devops_agent_task_run_duration_seconds";
const REFUSALS: &str = "devops_agent_refusals_total";
const AUDIT_LOST: &str = "devops_agent_audit_lines_lost_total";
const ANSWERS: &str = "devops_agent_http_responses_total";
const QUEUED: &str = "devops_agent_tasks_queued";
const RUNNING: &str = "devops_agent_tasks_running";
const UNWRITTEN: &str = "devops_agent_tasks_unwritten";
const SLOTS: &str = "devops_agent_task_slots";
const RETRIES: &str = "devops_agent_task_retries_total";
const COMMITS: &str = "devops_agent_database_commits_total";
const VERIFICATION: &str = "devops_agent_scripts_verification_enabled";
const USABLE: &str = "devops_agent_scripts_usable";
const PROBLEMS: &str = "devops_agent_scripts_problems";
const WATCHED: &str = "devops_agent_scripts_watched";

/// Upper bounds of the buckets for durations: from a bare start to a day.
const SECONDS: [f64; 14] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0];
/// Label for a run that could not be started.
const NOT_STARTED: &str = "not_started";

/// The numbers of one agent. They are its own: nothing is registered for the whole process.
pub(crate) struct Metrics {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
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
        metrics.record(describe);
        Ok(Arc::new(metrics))
    }

    /// The runner, with its runs measured.
    pub(crate) fn measured(self: &Arc<Self>, runner: impl TaskRunner) -> Arc<dyn TaskRunner> {
        Arc::new(Measured { runner: Arc::new(runner), metrics: self.clone() })
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.record(|| counter!(ANSWERS, "status" => status.as_str().to_owned()).increment(1));
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
    pub(crate) fn render(&self, service: ServiceStats, scripts: &ScriptsStatus) -> String {
        let is_usable = !scripts.verification || scripts.manifest.is_some();
        self.record(|| {
            gauge!(QUEUED).set(count(service.queued));
            gauge!(RUNNING).set(count(service.running));
            gauge!(UNWRITTEN).set(count(service.unwritten));
            gauge!(SLOTS).set(count(service.slots));
            counter!(RETRIES).absolute(service.retries);
            counter!(COMMITS).absolute(service.commits);
            gauge!(VERIFICATION).set(f64::from(u8::from(scripts.verification)));
            gauge!(USABLE).set(f64::from(u8::from(is_usable)));
            gauge!(PROBLEMS).set(count(scripts.problems.len()));
            gauge!(WATCHED).set(f64::from(u8::from(scripts.unwatched.is_none())));
            gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        });
        self.handle.render()
    }

    /// Brings measured durations into their buckets. Without that, and with nobody who asks, they pile up.
    pub(crate) fn tidy(&self) {
        self.handle.run_upkeep();
    }

    fn run_ended(&self, runner: &str, status: TaskStatus, took: Duration) {
        let runner = runner.to_owned();
        self.record(|| {
            counter!(RUNS, "runner" => runner.clone(), "status" => status.as_str()).increment(1);
            histogram!(DURATION, "runner" => runner).record(took.as_secs_f64());
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
            let started = self.runner.start(order).await;
            match &started {
                Err(_) => self.metrics.run_not_started(self.name()),
                Ok(execution) => {
                    let (execution, metrics) = (execution.clone(), self.metrics.clone());
                    let name = self.name().to_owned();
                    tokio::spawn(async move {
                        let result = execution.wait().await;
                        let took = Duration::from_millis(result.duration_ms);
                        metrics.run_ended(&name, TaskStatus::of_result(&result), took);
                    });
                }
            }
            started
        })
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn describe() {
    describe_gauge!(BUILD_INFO, "The agent's version, as a label of the number 1.");
    describe_counter!(CHANGES, "Tasks that reached a state, by state.");
    describe_counter!(MISSED, "Changes of tasks that were not counted because too many came at once.");
    describe_counter!(RUNS, "Runs that ended, by runner and outcome.");
    describe_histogram!(DURATION, "Duration of runs, by runner.");
    describe_counter!(REFUSALS, "Requests that were refused, by code.");
    describe_counter!(AUDIT_LOST, "Decisions that could not be written to the audit log.");
    describe_counter!(ANSWERS, "Answers over HTTP, by status.");
    describe_gauge!(QUEUED, "Tasks that wait.");
    describe_gauge!(RUNNING, "Tasks that run.");
    describe_gauge!(UNWRITTEN, "Tasks that have ended and could not be written yet.");
    describe_gauge!(SLOTS, "Most tasks that run at once.");
    describe_counter!(RETRIES, "Attempts of tasks that were followed by another one.");
    describe_counter!(COMMITS, "Transactions that the task service has written.");
    describe_gauge!(VERIFICATION, "Whether scripts are verified: 1 or 0.");
    describe_gauge!(USABLE, "Whether scripts can be run: 1, or 0 while no verified copy of them is in use.");
    describe_gauge!(PROBLEMS, "What is wrong with the scripts folder now, counted.");
    describe_gauge!(WATCHED, "Whether changes of the scripts folder are seen without a request: 1 or 0.");
}

/// Counts in here stay far below the 2^53 that a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn count(number: usize) -> f64 {
    number as f64
}
