//! What a command line of `run` or `task submit` asks for, in the words of a task spec, with every mistake named at
//! once.

use std::ffi::OsString;

use serde_json::{Map, Value};
use task_runners::validate::secret::argument_problem;
use task_runners::{Problem, Refusal, SCRIPT_RUNNER, ScriptRunner, TaskSpec};

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::hint;
use crate::output;
use crate::secrets;

/// What one command line of `run` asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The spec, or as much of it as could be read where there are problems.
    pub(crate) spec: TaskSpec,
    /// Arguments of the script; they stay apart, since they need not be text.
    pub(crate) args: Vec<OsString>,
    problems: Vec<Problem>,
}

impl Asked {
    /// Reads it off the command line.
    pub(crate) fn of(args: &RunArgs) -> Self {
        let mut words = args.words.iter();
        let name = words.next().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
        let mut problems = Vec::new();
        let params = pairs("params", "--param", &args.params, &mut problems);
        let mut fields = Map::new();
        fields.insert("name".to_owned(), name.as_str().into());
        fields.insert("params".to_owned(), params.clone().into());
        fields.insert("env".to_owned(), pairs("env", "--env", &args.env, &mut problems).into());
        fields.insert("debug_script".to_owned(), args.debug_script.into());
        if args.yes {
            fields.insert("confirm".to_owned(), script(&name, &params).into());
        }
        let texts = [("timeout", &args.timeout), ("work_dir", &args.work_dir)];
        for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            fields.insert(field.to_owned(), value.as_str().into());
        }
        let mut spec = TaskSpec::from_json(fields.into()).unwrap_or_else(|found| {
            problems.splice(0..0, found);
            TaskSpec { name, params, ..TaskSpec::default() }
        });
        spec.secrets = secrets::read(&args.secrets, &mut problems);
        Self { spec, args: words.cloned().collect(), problems }
    }

    /// The script that is meant.
    pub(crate) fn script(&self) -> &str {
        script(&self.spec.name, &self.spec.params)
    }

    /// Whether the words behind the script's name ask for help, which a script that describes itself need not print.
    pub(crate) fn wants_help(&self) -> bool {
        self.args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help")
    }

    /// The parameters that are missing, where nothing else is wrong.
    pub(crate) fn missing(&self, runner: &ScriptRunner) -> Vec<String> {
        match runner.request(&self.spec, self.args.clone()) {
            Err(Refusal::Invalid(found))
                if self.problems.is_empty() && found.iter().all(|problem| problem.rule == "required") =>
            {
                let names = found.iter().filter_map(|problem| problem.field.strip_prefix("params."));
                names.map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The engine's request for it. Whoever sits at a terminal may type the name of a destructive script.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub(crate) fn confirmed_request(
        &mut self,
        runner: &ScriptRunner,
    ) -> Result<task_runners::ExecuteScriptRequest, Failure> {
        let seen = self.seen_secrets(runner);
        self.problems.extend(seen);
        let is_unconfirmed = self.problems.is_empty()
            && matches!(
                runner.request(&self.spec, self.args.clone()),
                Err(Refusal::Invalid(found)) if found.iter().all(|problem| problem.rule == "confirm")
            );
        if is_unconfirmed && self.spec.confirm.is_none() && output::can_ask() {
            let asked = format!("{} does what cannot be undone; type its name to run it:", self.script());
            self.spec.confirm = output::ask(&asked);
        }
        self.request(runner)
    }

    /// Secrets that stand on the command line itself, among the parameters. Those among the arguments are told by whoever
    /// reads these.
    fn seen_secrets(&self, runner: &ScriptRunner) -> Vec<Problem> {
        let entry = self.script().parse().ok().and_then(|name| runner.scripts().get(&name).ok()?);
        let Some(declared) = entry.and_then(|entry| entry.declared) else { return Vec::new() };
        let seen = declared.secrets().filter(|name| self.spec.params.contains_key(*name));
        seen.map(argument_problem).collect()
    }

    /// The engine's request for it.
    ///
    /// # Errors
    /// Every mistake at once, or why the script cannot be run now, with what may have been meant.
    pub(crate) fn request(
        &self,
        runner: &ScriptRunner,
    ) -> Result<task_runners::ExecuteScriptRequest, Failure> {
        let mut problems = self.problems.clone();
        match runner.request(&self.spec, self.args.clone()) {
            Ok((request, _)) if problems.is_empty() => return Ok(request),
            Ok(_) => {}
            Err(Refusal::Invalid(found)) => {
                add(&mut problems, found.into_iter().map(|problem| self.said_here(problem)).collect());
            }
            Err(refusal) if problems.is_empty() => {
                let hints = hint::for_refusal(&refusal, runner.scripts());
                return Err(Failure::from(refusal).with_hints(hints));
            }
            // What was asked for is to be mended first; whether it can run is another question.
            Err(_) => {}
        }
        let hints = hint::for_problems(&problems, &self.spec.name, runner.scripts());
        Err(Failure::problems(&problems).with_hints(hints))
    }

    /// A problem in the words of the command line, where it has a way of its own to say what is asked for.
    fn said_here(&self, problem: Problem) -> Problem {
        if problem.rule != "confirm" {
            return problem;
        }
        let script = self.script();
        let expected = format!(
            "--yes before the script's name, or {script:?} typed at a terminal: what it does cannot be undone"
        );
        Problem { expected, ..problem }
    }
}

/// The script that a name means: the one that the runner `script` is given, or itself.
fn script<'a>(name: &'a str, params: &'a Map<String, Value>) -> &'a str {
    let given = if name == SCRIPT_RUNNER { params.get("script") } else { None };
    given.and_then(Value::as_str).unwrap_or(name)
}

/// Adds problems of fields that none was known of before. A secret that could not be read is not missing too.
fn add(problems: &mut Vec<Problem>, found: Vec<Problem>) {
    let mut known: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
    let secrets = known.iter().filter_map(|field| field.strip_prefix("secrets."));
    let params: Vec<String> = secrets.map(|name| format!("params.{name}")).collect();
    known.extend(params);
    problems.extend(found.into_iter().filter(|problem| !known.contains(&problem.field)));
}

/// Reads `NAME=VALUE` texts of one option into a map; what is no such text, or stands there twice, is a problem of
/// `field`.
pub(crate) fn pairs(
    field: &str,
    option: &str,
    texts: &[String],
    problems: &mut Vec<Problem>,
) -> Map<String, Value> {
    let mut map = Map::new();
    for text in texts {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                if map.insert(name.to_owned(), value.into()).is_some() {
                    let field = format!("{field}.{}", name.escape_debug());
                    problems.push(Problem::new(field, "duplicate", format!("{option} once for each name")));
                }
            }
            _ => {
                let field = format!("{field}.{}", text.escape_debug());
                problems.push(Problem::new(field, "name_value", format!("{option} NAME=VALUE")));
            }
        }
    }
    map
}
