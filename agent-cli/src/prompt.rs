//! Whoever sits at a terminal is asked for the required values that are missing, one after the other. Each is checked at
//! once, in the words of all other checks, and asked for again until it is right; a secret is typed unseen. Nothing runs
//! before all are there; Ctrl-C, and the end of what is typed, end it with nothing run.

use std::sync::Arc;

use serde_json::Value;
use task_runners::description::{Form, Parameter, Relations, ValueType};
use task_runners::{Problem, ScriptDescription, ScriptRunner, SecretString, TaskSpec, validate};

use crate::asked::Asked;
use crate::describe;
use crate::failure::Failure;
use crate::output::{self, say};
use crate::terminal::{Style, escaped_line};
use crate::unseen;

/// Asks for what is missing, where somebody can be asked and nothing else is wrong.
///
/// # Errors
/// When nobody answers.
pub(crate) fn fill(asked: &mut Asked, runner: &ScriptRunner) -> Result<(), Failure> {
    if !output::can_ask() {
        return Ok(());
    }
    let missing = asked.missing(runner);
    let Some(declared) = declared(runner, asked.script()).filter(|_| !missing.is_empty()) else {
        return Ok(());
    };
    say(&format!("{} takes more than was given; Ctrl-C ends this with nothing run", asked.script()));
    for name in &missing {
        let Some(parameter) = declared.parameter(name) else { continue };
        ask(parameter, &declared)?.put(name, &mut asked.spec);
    }
    Ok(())
}

fn declared(runner: &ScriptRunner, script: &str) -> Option<Arc<ScriptDescription>> {
    runner.scripts().get(&script.parse().ok()?).ok()??.declared
}

/// Asks until the value is right.
fn ask(parameter: &Parameter, declared: &ScriptDescription) -> Result<Typed, Failure> {
    let style = Style::of_stderr();
    let about = escaped_line(&about(parameter, declared));
    if !about.is_empty() {
        say(&style.dim(&format!("  {about}")));
    }
    loop {
        let read = if parameter.secret { read_unseen(parameter)? } else { read(parameter) };
        let value = read.ok_or_else(|| unanswered(parameter))?;
        let problems = problems(parameter, &value);
        if problems.is_empty() {
            return Ok(value);
        }
        for problem in problems {
            say(&format!("  {}", style.red(&escaped_line(&problem.to_string()))));
        }
    }
}

/// What is to be known before one answers.
fn about(parameter: &Parameter, declared: &ScriptDescription) -> String {
    let facts = describe::facts(parameter, declared);
    let kind = parameter.value_type;
    let is_shown = kind != ValueType::String && parameter.choices.is_empty() && parameter.form.takes_value();
    if is_shown { format!("{facts} [{}]", kind.as_str()) } else { facts }
}

/// A value as it was typed.
#[derive(Clone)]
enum Typed {
    Seen(Value),
    Unseen(SecretString),
}

impl Typed {
    fn put(self, name: &str, spec: &mut TaskSpec) {
        match self {
            Self::Seen(value) => drop(spec.params.insert(name.to_owned(), value)),
            Self::Unseen(secret) => spec.secrets.set(name, secret),
        }
    }
}

/// Reads a value; several ones a line each, up to an empty line.
fn read(parameter: &Parameter) -> Option<Typed> {
    let name = parameter.spelling();
    let takes_several = parameter.repeat.is_some() && !matches!(parameter.form, Form::Count(_));
    if !takes_several {
        return output::prompt(&format!("{name}: ")).map(|line| Typed::Seen(line.into()));
    }
    let mut values = Vec::new();
    while let Some(line) = output::prompt(&format!("{name} (one a line, an empty line ends): ")) {
        if line.is_empty() && !values.is_empty() {
            return Some(Typed::Seen(values.into()));
        }
        values.push(Value::from(line));
    }
    None
}

/// Reads a secret.
fn read_unseen(parameter: &Parameter) -> Result<Option<Typed>, Failure> {
    let question = format!("{} (what you type is not shown): ", parameter.spelling());
    let typed = unseen::prompt(&question).map_err(|error| {
        let hint =
            format!("--secret {}=@FILE, before the script's name, gives it without typing", parameter.name);
        let message = format!("{} cannot be asked for: {error}; nothing was run", parameter.spelling());
        Failure::new(message).with_hints(vec![hint])
    })?;
    Ok(typed.map(Typed::Unseen))
}

/// What is wrong with a value, by the check that the run makes too. By itself: whether it goes with others is no question
/// that another value would answer.
fn problems(parameter: &Parameter, value: &Typed) -> Vec<Problem> {
    let alone = Parameter { relations: Relations::default(), ..parameter.clone() };
    let declared = ScriptDescription { parameters: vec![alone], ..ScriptDescription::default() };
    let mut spec = TaskSpec::default();
    value.clone().put(&parameter.name, &mut spec);
    validate::bind(&declared, &spec.params, &spec.secrets, &[]).err().unwrap_or_default()
}

fn unanswered(parameter: &Parameter) -> Failure {
    let expected = format!("a value for {}, of which nothing was typed", parameter.spelling());
    Failure::problems(&[Problem::new(format!("params.{}", parameter.name), "required", expected)])
}
