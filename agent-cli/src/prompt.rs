//! Whoever sits at a terminal is asked for the required values that are missing, one after the other. Each is checked at
//! once, in the words of all other checks, and asked for again until it is right. Nothing runs before all are there;
//! Ctrl-C, and the end of what is typed, end it with nothing run.

use std::sync::Arc;

use serde_json::{Map, Value};
use task_runners::description::{Form, Parameter, ValueType};
use task_runners::{Problem, ScriptDescription, ScriptRunner, Secrets, validate};

use crate::asked::Asked;
use crate::describe;
use crate::failure::Failure;
use crate::output::{self, say};
use crate::terminal::{Style, escaped_line};

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
    // What is typed is seen on the screen: the refusal says how a secret is given.
    let is_secret = |name: &String| declared.parameter(name).is_some_and(|parameter| parameter.secret);
    if missing.iter().any(is_secret) {
        return Ok(());
    }
    say(&format!("{} takes more than was given; Ctrl-C ends this with nothing run", asked.script()));
    for name in &missing {
        let Some(parameter) = declared.parameter(name) else { continue };
        let value = ask(&declared, parameter).ok_or_else(|| unanswered(parameter))?;
        asked.spec.params.insert(name.clone(), value);
    }
    Ok(())
}

fn declared(runner: &ScriptRunner, script: &str) -> Option<Arc<ScriptDescription>> {
    runner.scripts().get(&script.parse().ok()?).ok()??.declared
}

/// Asks until the value is right.
fn ask(declared: &ScriptDescription, parameter: &Parameter) -> Option<Value> {
    let style = Style::of_stderr();
    let about = escaped_line(&about(parameter, declared));
    if !about.is_empty() {
        say(&style.dim(&format!("  {about}")));
    }
    loop {
        let value = read(parameter)?;
        let problems = problems(declared, parameter, &value);
        if problems.is_empty() {
            return Some(value);
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

/// Reads a value; several ones a line each, up to an empty line.
fn read(parameter: &Parameter) -> Option<Value> {
    let name = parameter.spelling();
    let takes_several = parameter.repeat.is_some() && !matches!(parameter.form, Form::Count(_));
    if !takes_several {
        return output::prompt(&format!("{name}: ")).map(Value::from);
    }
    let mut values = Vec::new();
    loop {
        let line = output::prompt(&format!("{name} (one a line, an empty line ends): "))?;
        if line.is_empty() && !values.is_empty() {
            return Some(values.into());
        }
        values.push(Value::from(line));
    }
}

/// What is wrong with a value, by the check that the run makes too.
fn problems(declared: &ScriptDescription, parameter: &Parameter, value: &Value) -> Vec<Problem> {
    let field = format!("params.{}", parameter.name);
    let params = Map::from_iter([(parameter.name.clone(), value.clone())]);
    let found = validate::bind(declared, &params, &Secrets::default(), &[]).err().unwrap_or_default();
    let is_of_it = |problem: &Problem| {
        problem.field.strip_prefix(&field).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
    };
    found.into_iter().filter(is_of_it).collect()
}

fn unanswered(parameter: &Parameter) -> Failure {
    let expected = format!("a value for {}, of which nothing was typed", parameter.spelling());
    Failure::problems(&[Problem::new(format!("params.{}", parameter.name), "required", expected)])
}
