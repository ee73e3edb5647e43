//! From a task spec to the engine's request, by what the script says of itself.

use std::ffi::OsString;

use executor_core::{ExecuteScriptRequest, Problem};
use serde_json::{Map, Value};

use crate::description::{Effect, ScriptDescription};
use crate::header::BrokenReason;
use crate::outputs;
use crate::retry;
use crate::script_runner::{SCRIPT_PARAM, SCRIPT_RUNNER};
use crate::spec::TaskSpec;
use crate::validate::{self, Bound};

/// What a spec comes to by what its script says of itself.
pub(crate) struct Binding {
    /// The engine's request.
    pub(crate) request: ExecuteScriptRequest,
    /// The names of the secrets that the spec gives.
    pub(crate) secrets: Vec<String>,
    /// All that the description finds wrong.
    pub(crate) problems: Vec<Problem>,
}

/// The engine's request for a spec with these arguments, and all that the description finds wrong. `declared` is what
/// the script says of itself, if it does; none where nothing is known of the script.
pub(crate) fn request(
    script: &str,
    spec: &TaskSpec,
    args: Vec<OsString>,
    declared: Option<Option<&ScriptDescription>>,
) -> Binding {
    let request = undescribed(script, spec);
    let params = params(spec);
    let unbound = |request, problems| Binding { request, secrets: Vec::new(), problems };
    match declared {
        None => unbound(request.args(args), Vec::new()),
        Some(None) => {
            let problems = undeclared(&params, spec).into_iter().chain(retry::problem(None, spec));
            unbound(request.args(args), problems.collect())
        }
        Some(Some(description)) => {
            let request = limited(request, description);
            let retries = retry::problem(Some(description), spec);
            match validate::bind(description, &params, &spec.secrets, &args) {
                Ok(bound) => Binding {
                    problems: confirm_problem(script, spec, &bound).into_iter().chain(retries).collect(),
                    secrets: bound.secrets.names().map(str::to_owned).collect(),
                    request: with(request, description, bound),
                },
                Err(problems) => unbound(request, problems.into_iter().chain(retries).collect()),
            }
        }
    }
}

/// The request as far as it does not depend on what the script says; without arguments.
pub(crate) fn undescribed(script: &str, spec: &TaskSpec) -> ExecuteScriptRequest {
    let mut request = ExecuteScriptRequest::new(script).debug_script(spec.debug_script);
    for (name, value) in &spec.env {
        request = request.env(name, value);
    }
    if let Some(work_dir) = &spec.work_dir {
        request = request.work_dir(work_dir.as_str());
    }
    if let Some(timeout) = spec.timeout {
        request = request.timeout(timeout);
    }
    if let Some(stdin) = &spec.stdin {
        request = request.stdin(stdin.as_bytes());
    }
    request
}

/// Reasons in one line, for one message.
pub(crate) fn joined(reasons: &[BrokenReason]) -> String {
    let texts: Vec<String> = reasons
        .iter()
        .map(|reason| match reason.line {
            Some(line) => format!("line {line}: {}", reason.reason),
            None => reason.reason.clone(),
        })
        .collect();
    texts.join("; ")
}

fn limited(mut request: ExecuteScriptRequest, description: &ScriptDescription) -> ExecuteScriptRequest {
    if let Some(timeout) = description.timeout {
        request = request.time_limit(timeout);
    }
    if let Some(grace) = description.grace {
        request = request.kill_grace(grace);
    }
    request
}

fn with(
    mut request: ExecuteScriptRequest,
    description: &ScriptDescription,
    bound: Bound,
) -> ExecuteScriptRequest {
    for (name, value) in bound.env {
        request = request.declared(name, value);
    }
    for parameter in &description.parameters {
        if let Some(value) = bound.secrets.get(&parameter.name) {
            request = request.secret_file(parameter.variable(), value.clone());
        }
    }
    if let Some(check) = outputs::check(description) {
        request = request.output_check(check);
    }
    request.args(bound.args)
}

/// What cannot be undone is only done where the caller names it again.
fn confirm_problem(script: &str, spec: &TaskSpec, bound: &Bound) -> Option<Problem> {
    if bound.effect != Some(Effect::Destructive) || spec.confirm.as_deref() == Some(script) {
        return None;
    }
    let expected = format!("{script:?}, the script's name: what it does cannot be undone");
    Some(Problem::new("confirm", "confirm", expected))
}

/// The parameters of the script: without the one that names it.
fn params(spec: &TaskSpec) -> Map<String, Value> {
    let mut params = spec.params.clone();
    if spec.name == SCRIPT_RUNNER {
        params.remove(SCRIPT_PARAM);
    }
    params
}

fn undeclared(params: &Map<String, Value>, spec: &TaskSpec) -> Vec<Problem> {
    let expected = "a parameter that the script declares; this one declares none, so use `args`";
    let problem =
        |name: &String| Problem::new(format!("params.{}", name.escape_debug()), "undeclared", expected);
    let secrets = validate::secret::undeclared(&ScriptDescription::default(), &spec.secrets);
    params.keys().map(problem).chain(secrets).collect()
}

/// Checks a spec for a script of another agent by what that says of itself, and gives the names of the secrets in it. The
/// other agent checks again, by what it has by then.
///
/// # Errors
/// Every mistake at once.
pub fn check_remote(
    spec: &TaskSpec,
    declared: Option<&ScriptDescription>,
) -> Result<Vec<String>, Vec<Problem>> {
    let args = spec.args.iter().map(OsString::from).collect();
    let Binding { secrets, mut problems, request } = request(&spec.name, spec, args, Some(declared));
    problems.extend(request.check().err().into_iter().flatten());
    if problems.is_empty() { Ok(secrets) } else { Err(problems) }
}
