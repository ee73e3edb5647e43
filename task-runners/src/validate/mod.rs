//! The one validator: what a caller gives for a described script, checked and bound to arguments and environment.
//! All mistakes at once, in the words that every front shows.

mod argv;
mod bind;
mod json;
mod quote;
mod relations;
pub mod secret;
pub(crate) mod values;

use std::ffi::OsString;

use executor_core::Problem;
use serde_json::{Map, Value};

use crate::description::{Effect, Parameter, ScriptDescription};
use crate::secrets::Secrets;

/// What a described script is to be started with.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bound {
    /// Its arguments: those that were typed as they are, or the values in the declared form.
    pub args: Vec<OsString>,
    /// `usage_<name>` for each parameter that has a value and is no secret.
    pub env: Vec<(String, OsString)>,
    /// Its secrets, which are handed over as files.
    pub secrets: Secrets,
    /// What it will do to the world: the most of its own effect and those of the given parameters.
    pub effect: Option<Effect>,
}

/// The texts given for each parameter of a description, in its order; none where nothing was given. Those of a
/// switch are `true` or `false`, that of a counted flag is its number; a secret that was given has no texts here.
type Given = Vec<Option<Vec<String>>>;

/// Checks parameters and arguments against a description and binds them.
///
/// # Errors
/// Every mistake. The field is `params.<name>` whichever way a value came, `secrets.<name>` for a secret that is none, and
/// `args[n]` for a word that belongs to no parameter. No text repeats a value.
pub fn bind(
    description: &ScriptDescription,
    params: &Map<String, Value>,
    secrets: &Secrets,
    args: &[OsString],
) -> Result<Bound, Vec<Problem>> {
    let mut problems = Vec::new();
    let typed = argv::read(description, args, &mut problems);
    problems.extend(secret::undeclared(description, secrets));
    problems.extend(params.keys().filter(|name| description.parameter(name).is_none()).map(|name| {
        let declared: Vec<&str> = description.parameters.iter().map(|known| known.name.as_str()).collect();
        Problem::new(format!("params.{}", name.escape_debug()), "undeclared", expected_of(&declared))
    }));
    let mut given = Given::new();
    let mut kept = Secrets::default();
    for (parameter, typed) in description.parameters.iter().zip(typed) {
        let param = params.get(&parameter.name).filter(|value| !value.is_null());
        given.push(match parameter.secret {
            true => secret::one(parameter, typed.is_some(), (param, secrets), &mut problems).map(|value| {
                kept.set(&parameter.name, value);
                Vec::new()
            }),
            false => one(parameter, typed, param, &mut problems),
        });
    }
    let told: Vec<String> = problems.iter().map(|problem| problem.field.clone()).collect();
    let broken = relations::problems(description, &given).into_iter();
    // What is wrong with a parameter by itself says nothing about how it goes with others.
    problems.extend(broken.filter(|problem| !told.contains(&problem.field)));
    // Words that are wrong by themselves say nothing about how the others would be bound.
    if problems.is_empty() {
        let is_plain = |name: &str| description.parameter(name).is_some_and(|parameter| !parameter.secret);
        let has_params = params.iter().any(|(name, value)| !value.is_null() && is_plain(name));
        let bound = bind::bind(description, &given, (!has_params).then_some(args))?;
        return Ok(Bound { secrets: kept, ..bound });
    }
    Err(problems)
}

/// What was given for one parameter, checked.
fn one(
    parameter: &Parameter,
    typed: Option<Vec<String>>,
    param: Option<&Value>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<String>> {
    let field = field(parameter);
    let given = match (typed, param) {
        (Some(typed), None) => Some(typed),
        (None, Some(param)) => match json::texts(parameter, param) {
            Ok(texts) => Some(texts),
            Err(found) => {
                problems.extend(found);
                return None;
            }
        },
        (Some(_), Some(_)) => {
            let expected = "given once, among the parameters or among the arguments";
            problems.push(Problem::new(field, "duplicate", expected));
            return None;
        }
        (None, None) => None,
    };
    let given = given.filter(|values| !values.is_empty());
    match &given {
        // One that was given in a wrong way is told as that, and not missing too.
        None if parameter.required && problems.iter().all(|problem| problem.field != field) => {
            problems.push(Problem::new(field, "required", values::expected(parameter)));
        }
        None => {}
        Some(values) => problems.extend(values::all_problems(parameter, values)),
    }
    given
}

/// The field that problems of a parameter name.
fn field(parameter: &Parameter) -> String {
    format!("params.{}", parameter.name)
}

fn expected_of(declared: &[&str]) -> String {
    if declared.is_empty() {
        return "no parameters: this script declares none".to_owned();
    }
    format!("a parameter that the script declares: {}", declared.join(", "))
}

impl std::fmt::Debug for Bound {
    /// Leaves values out: they may be what nobody should read in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        let mut form = f.debug_struct("Bound");
        form.field("args", &self.args.len()).field("env", &names).field("secrets", &self.secrets);
        form.finish_non_exhaustive()
    }
}
