//! What a command line of `run` or `task submit` asks for, in the words of a task spec, with every mistake named at
//! once.

use std::ffi::OsString;

use serde_json::{Map, Value};
use task_runners::{Problem, Refusal, ScriptRunner, TaskSpec};

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::hint;

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
        let texts = [("timeout", &args.timeout), ("work_dir", &args.work_dir)];
        for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
            fields.insert(field.to_owned(), value.as_str().into());
        }
        let spec = TaskSpec::from_json(fields.into()).unwrap_or_else(|found| {
            problems.splice(0..0, found);
            TaskSpec { name, params, ..TaskSpec::default() }
        });
        problems.extend(args.secrets.iter().map(|text| secret_problem(text)));
        Self { spec, args: words.cloned().collect(), problems }
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
            Err(Refusal::Invalid(found)) => add(&mut problems, found),
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
}

/// Adds problems of fields that none is known of yet.
fn add(problems: &mut Vec<Problem>, found: Vec<Problem>) {
    for problem in found {
        if !problems.iter().any(|known| known.field == problem.field) {
            problems.push(problem);
        }
    }
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

/// No script declares a secret yet; one on the command line itself would stand in every process list. What does not
/// follow the form is not repeated, since it may be the secret.
fn secret_problem(text: &str) -> Problem {
    match text.split_once('=') {
        Some((name, value)) if value.starts_with('@') => Problem::new(
            format!("secrets.{}", name.escape_debug()),
            "undeclared",
            "a secret that the script declares; this one declares none",
        ),
        named => Problem::new(
            named.map_or("secrets".to_owned(), |(name, _)| format!("secrets.{}", name.escape_debug())),
            "secret_source",
            "NAME=@FILE, or NAME=@- for standard input: a value on the command line is seen by every user",
        ),
    }
}
