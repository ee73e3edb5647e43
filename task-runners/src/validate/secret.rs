//! Secret parameters: given among the parameters or apart from them, never as an argument, and checked without a word
//! about the value.

use executor_core::{ExposeSecret, Problem, SecretString};
use serde_json::Value;

use crate::description::{Parameter, ScriptDescription};
use crate::secrets::Secrets;
use crate::validate::{field, json, values};

/// Longest secret, bytes.
pub const MAX_SECRET_BYTES: usize = 1 << 20;

/// A secret that stands on a command line, or among the arguments of a task, where others see it.
pub fn argument_problem(name: &str) -> Problem {
    let expected = format!(
        "given in `params`, or by --secret {name}=@FILE on the command line: every user of the host sees arguments"
    );
    Problem::new(format!("params.{name}"), "secret_argument", expected)
}

/// What was given as a secret, and is not declared as one: as anything else it would be seen.
pub(crate) fn undeclared(description: &ScriptDescription, secrets: &Secrets) -> Vec<Problem> {
    let declared: Vec<&str> = description.secrets().collect();
    let expected = match declared.as_slice() {
        [] => "a secret that the script declares; this one declares none".to_owned(),
        declared => format!("a secret that the script declares: {}", declared.join(", ")),
    };
    let unknown = secrets.names().filter(|name| !declared.contains(name));
    unknown
        .map(|name| Problem::new(format!("secrets.{}", name.escape_debug()), "undeclared", expected.as_str()))
        .collect()
}

/// What was given for one secret parameter, checked.
pub(super) fn one(
    parameter: &Parameter,
    is_typed: bool,
    (param, secrets): (Option<&Value>, &Secrets),
    problems: &mut Vec<Problem>,
) -> Option<SecretString> {
    let field = field(parameter);
    let name = &parameter.name;
    if is_typed {
        problems.push(argument_problem(name));
        return None;
    }
    let mut wrong = |rule, expected: &str| {
        problems.push(Problem::new(&field, rule, expected));
        None
    };
    let value = match (param, secrets.get(name)) {
        (Some(_), Some(_)) => return wrong("duplicate", "given once"),
        (None, None) if secrets.contains(name) => {
            return wrong("required", "its value, of which the agent keeps only the name");
        }
        (None, None) if parameter.required && problems.iter().all(|problem| problem.field != field) => {
            problems.push(Problem::new(field, "required", values::expected(parameter)));
            return None;
        }
        (None, None) => return None,
        (None, Some(value)) => value.clone(),
        (Some(param), None) => match json::texts(parameter, param) {
            Ok(texts) => SecretString::from(texts.into_iter().next().unwrap_or_default()),
            Err(found) => {
                problems.extend(found);
                return None;
            }
        },
    };
    problems.extend(problems_of(parameter, value.expose_secret()));
    Some(value)
}

/// Everything that is wrong with a value. A file takes what an argument could not: any length that is bearable, and null
/// bytes.
fn problems_of(parameter: &Parameter, value: &str) -> Vec<Problem> {
    if value.len() > MAX_SECRET_BYTES {
        return vec![Problem::new(field(parameter), "length", "1 MiB at most")];
    }
    values::rule_problems(parameter, value)
}
