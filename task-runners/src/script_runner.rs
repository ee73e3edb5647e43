//! The runner `script`: a task is a script of the scripts folder. And `task_debug`, which runs one fixed script
//! with everything that helps to find out what a script gets here.

use std::ffi::OsString;
use std::sync::Arc;

use executor_core::{
    ExecuteScriptRequest, Metadata, NameError, ScriptExecutor, ScriptFault, ScriptName, StartError,
};

use crate::binding::{self, Binding};
use crate::description::ScriptDescription;
use crate::inventory::ScriptCards;
use crate::refusal::Refusal;
use crate::retry::RetryPolicy;
use crate::runner::{Lane, Plan, StartFuture, TaskOrder, TaskRunner};
use crate::scripts::Scripts;
use crate::spec::TaskSpec;

/// Name of the runner of scripts.
pub const SCRIPT_RUNNER: &str = "script";
/// Name of the runner that shows what a script gets.
pub const TASK_DEBUG_RUNNER: &str = "task_debug";
/// The script that the latter runs.
const TASK_DEBUG_SCRIPT: &str = "task_debug.sh";
/// The parameter that names a script where the runner is named itself.
pub(crate) const SCRIPT_PARAM: &str = "script";
/// Code of a script whose header cannot be read or asks for what is not enforced.
const BROKEN_HEADER: &str = "script_header";

/// What a name stands for.
struct Found {
    source: Arc<dyn ScriptCards>,
    pinned: Option<String>,
    /// What the script says of itself, if anything.
    declared: Option<Arc<ScriptDescription>>,
}

/// Runs scripts of the scripts folder, verified where that is asked for.
#[derive(Debug, Clone)]
pub struct ScriptRunner {
    executor: ScriptExecutor,
    scripts: Arc<Scripts>,
}

/// Runs `task_debug.sh`, always with a `debug.sh` in its record.
#[derive(Debug, Clone)]
pub struct TaskDebugRunner(ScriptRunner);

impl ScriptRunner {
    /// A runner of these scripts by this executor.
    pub fn new(executor: ScriptExecutor, scripts: Arc<Scripts>) -> Self {
        Self { executor, scripts }
    }

    /// The executor.
    pub fn executor(&self) -> &ScriptExecutor {
        &self.executor
    }

    /// The scripts.
    pub fn scripts(&self) -> &Arc<Scripts> {
        &self.scripts
    }

    /// The engine's request for a spec that names a script, checked as far as that can be done without a start; with
    /// arguments behind those of the spec, which need not be text; and the digest of the manifest that vouches for
    /// the script. Reads the disk: asynchronous callers run it on a thread for blocking work.
    ///
    /// # Errors
    /// Every mistake at once, or why the script cannot be run now.
    pub fn request(
        &self,
        spec: &TaskSpec,
        args: Vec<OsString>,
    ) -> Result<(ExecuteScriptRequest, Option<String>), Refusal> {
        let script = script_name(spec)?;
        let (request, found, _) = self.checked(&script, spec, args)?;
        Ok((request, found.pinned))
    }

    /// The request, what the script's name stands for, and the names of the secrets that the spec gives.
    fn checked(
        &self,
        script: &str,
        spec: &TaskSpec,
        args: Vec<OsString>,
    ) -> Result<(ExecuteScriptRequest, Found, Vec<String>), Refusal> {
        let found = self.look_up(script);
        let declared = found.as_ref().map(|found| found.declared.as_deref());
        let args = spec.args.iter().map(OsString::from).chain(args).collect();
        let Binding { request, secrets, mut problems } = binding::request(script, spec, args, declared.ok());
        if let Err(found) = self.executor.check_request(&request) {
            problems.extend(found);
        }
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        let found = found?;
        let request = request.source(found.source.clone());
        self.executor.check(&request).map_err(|error| refusal(script, error))?;
        Ok((request, found, secrets))
    }

    /// Where a new task gets the script from, and what the script says of itself.
    fn look_up(&self, script: &str) -> Result<Found, Refusal> {
        let (source, pinned) = self.scripts.cards()?;
        let declared = self.declared(source.as_ref(), script).map_err(|error| refusal(script, error))?;
        Ok(Found { source, pinned, declared })
    }

    fn declared(
        &self,
        source: &dyn ScriptCards,
        script: &str,
    ) -> Result<Option<Arc<ScriptDescription>>, StartError> {
        let name: ScriptName =
            script.parse().map_err(|NameError(problem)| StartError::Invalid(vec![problem]))?;
        let card = source.card(&name)?;
        card.header.description.clone().map_err(|reasons| StartError::Script {
            name,
            fault: ScriptFault::FirstLine { code: BROKEN_HEADER, message: binding::joined(&reasons) },
        })
    }

    fn start_script(&self, script: String, order: TaskOrder) -> StartFuture<'_> {
        let runner = self.clone();
        // Scripts folder and script are looked at on the execution's own thread.
        Box::pin(self.executor.start_with(move || {
            let source = runner.source_of(order.pinned.as_deref())?;
            let request = runner.bind(&script, &order.spec, source)?;
            let spec = serde_json::to_value(&*order.spec).unwrap_or_default();
            let metadata = Metadata {
                id: Some(order.id.to_string()),
                created_by: Some(order.created_by),
                created_at: Some(order.created_at),
                attempt: order.attempt,
            };
            Ok(request.metadata(metadata).spec(spec))
        }))
    }

    /// The request as it was accepted, against what the script says now: it may be another one by now.
    fn bind(
        &self,
        script: &str,
        spec: &TaskSpec,
        source: Arc<dyn ScriptCards>,
    ) -> Result<ExecuteScriptRequest, StartError> {
        let declared = self.declared(source.as_ref(), script)?;
        let args = spec.args.iter().map(OsString::from).collect();
        let bound = binding::request(script, spec, args, Some(declared.as_deref()));
        match bound.problems.is_empty() {
            true => Ok(bound.request.source(source)),
            false => Err(StartError::Invalid(bound.problems)),
        }
    }

    /// Where a task gets its script from whose turn has come. One that was accepted unverified is held to what holds now:
    /// verification may have been turned on while it waited.
    fn source_of(&self, pinned: Option<&str>) -> Result<Arc<dyn ScriptCards>, StartError> {
        let Some(pinned) = pinned else {
            let found = self.scripts.cards();
            return found
                .map(|(source, _)| source)
                .map_err(|refusal| StartError::Unverified(refusal.to_string()));
        };
        self.scripts.pinned(pinned)
    }
}

impl TaskRunner for ScriptRunner {
    fn name(&self) -> &str {
        SCRIPT_RUNNER
    }

    fn description(&self) -> &str {
        "Runs a script of the scripts folder."
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        let script = script_name(spec)?;
        let (_, Found { pinned, declared, .. }, secrets) = self.checked(&script, spec, Vec::new())?;
        let declared = declared.as_deref();
        Ok(Plan {
            pinned,
            workspace: spec.work_dir.clone(),
            secrets,
            lane: declared.and_then(|declared| lane(script, declared)),
            retry: RetryPolicy::settled(declared, spec),
            door: None,
            is_shut: false,
        })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        // It was there when the spec was checked; a spec that lost it is refused by its empty name.
        let script = script_name(&order.spec).unwrap_or_default();
        self.start_script(script, order)
    }
}

impl TaskDebugRunner {
    /// A runner of `task_debug.sh` from these scripts.
    pub fn new(scripts: ScriptRunner) -> Self {
        Self(scripts)
    }
}

impl TaskRunner for TaskDebugRunner {
    fn name(&self) -> &str {
        TASK_DEBUG_RUNNER
    }

    fn description(&self) -> &str {
        "Runs task_debug.sh, which shows what a script gets, and leaves a debug.sh that reproduces it."
    }

    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        self.0.check(&TaskSpec { name: TASK_DEBUG_SCRIPT.to_owned(), ..spec.clone() })
    }

    fn start(&self, mut order: TaskOrder) -> StartFuture<'_> {
        Arc::make_mut(&mut order.spec).debug_script = true;
        self.0.start_script(TASK_DEBUG_SCRIPT.to_owned(), order)
    }
}

/// The script that a spec means: its name, or the parameter `script` where it names the runner.
fn script_name(spec: &TaskSpec) -> Result<String, Refusal> {
    if spec.name != SCRIPT_RUNNER {
        return Ok(spec.name.clone());
    }
    let named = spec.params.get(SCRIPT_PARAM).and_then(|value| value.as_str());
    named.map(str::to_owned).ok_or_else(|| {
        Refusal::invalid(
            "params.script",
            "required",
            "the name of the script that the runner 'script' is to run",
        )
    })
}

/// The lane of a script that says how many tasks of it run at once.
fn lane(script: String, declared: &ScriptDescription) -> Option<Lane> {
    declared.concurrency.map(|concurrency| Lane { name: script, concurrency, queue: declared.queue })
}

/// What a failed check means for whoever submitted.
fn refusal(script: &str, error: StartError) -> Refusal {
    match error {
        StartError::Invalid(problems) => Refusal::Invalid(problems),
        StartError::NotFound(_) => Refusal::NotFound { name: script.to_owned() },
        StartError::Script { name, fault } => Refusal::Broken {
            name: name.to_string(),
            code: fault.code().to_owned(),
            message: fault.to_string(),
        },
        other => Refusal::Unavailable(other.to_string()),
    }
}
