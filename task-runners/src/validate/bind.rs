//! Values that are right become arguments and environment.

use std::ffi::OsString;

use executor_core::Problem;

use crate::description::{DoubleDash, Effect, Flag, Form, Parameter, ScriptDescription};
use crate::validate::{Bound, Given, field, quote};

/// Longest `NAME=value` that execve(2) takes (MAX_ARG_STRLEN), bytes with `=` and the closing null.
const MAX_VARIABLE_BYTES: usize = (128 << 10) - 2;

/// Binds values; `typed` are the arguments where they say it all, and pass as they are.
///
/// # Errors
/// Values that are right one by one, but cannot be passed together.
pub(super) fn bind(
    description: &ScriptDescription,
    given: &Given,
    typed: Option<&[OsString]>,
) -> Result<Bound, Vec<Problem>> {
    let mut problems = Vec::new();
    let args = match typed {
        Some(typed) => typed.to_vec(),
        None => canonical(description, given, &mut problems).into_iter().map(OsString::from).collect(),
    };
    let env = environment(description, given, &mut problems);
    let effect = effect(description, given);
    if problems.is_empty() { Ok(Bound { args, env, effect, ..Bound::default() }) } else { Err(problems) }
}

/// `usage_<name>` for all that was given or has a default.
fn environment(
    description: &ScriptDescription,
    given: &Given,
    problems: &mut Vec<Problem>,
) -> Vec<(String, OsString)> {
    let mut env = Vec::new();
    for (parameter, values) in description.parameters.iter().zip(given) {
        let values = values.as_ref().unwrap_or(&parameter.default);
        let is_list = parameter.repeat.is_some() && !matches!(parameter.form, Form::Count(_));
        let value = match values.first() {
            None => continue,
            Some(_) if is_list => quote::join(values),
            Some(value) => value.clone(),
        };
        let name = parameter.variable();
        if name.len() + value.len() > MAX_VARIABLE_BYTES {
            let expected = "less than 128 KiB: all its values together are one variable";
            problems.push(Problem::new(field(parameter), "length", expected));
        }
        env.push((name, value.into()));
    }
    env
}

/// The most of what the script and the given parameters do.
fn effect(description: &ScriptDescription, given: &Given) -> Option<Effect> {
    let is_set = |values: &Option<Vec<String>>, parameter: &Parameter| {
        let is_off = |value: &String| match parameter.form {
            Form::Switch { .. } => value == "false",
            Form::Count(_) => value == "0",
            _ => false,
        };
        values.as_ref().is_some_and(|values| values.first().is_none_or(|value| !is_off(value)))
    };
    let parameters = description.parameters.iter().zip(given);
    let given = parameters.filter(|(parameter, values)| is_set(values, parameter));
    given.filter_map(|(parameter, _)| parameter.effect).chain(description.effect).max()
}

/// The arguments that mean these values: flags in the order of their declaration, then what has a place.
fn canonical(description: &ScriptDescription, given: &Given, problems: &mut Vec<Problem>) -> Vec<String> {
    let mut args = Vec::new();
    let mut positionals = Vec::new();
    for (parameter, values) in description.parameters.iter().zip(given) {
        match &parameter.form {
            Form::Positional(double_dash) => positionals.push((parameter, *double_dash, values.as_ref())),
            form => flag_args(form, values.as_deref().unwrap_or_default(), &mut args),
        }
    }
    positional_args(&positionals, &mut args, problems);
    args
}

fn flag_args(form: &Form, values: &[String], args: &mut Vec<String>) {
    let first = |flag: &Flag| flag.0.first().cloned().unwrap_or_default();
    match form {
        Form::Positional(_) => {}
        Form::Value { flag, require_equals, .. } => {
            for value in values {
                value_args(first(flag), value, *require_equals, args);
            }
        }
        Form::Switch { flag, negate } => match values.first().map(String::as_str) {
            Some("true") => args.push(first(flag)),
            Some(_) => args.extend(negate.clone()),
            None => {}
        },
        Form::Count(flag) => {
            let count = values.first().and_then(|count| count.parse().ok()).unwrap_or(0);
            args.extend(std::iter::repeat_n(first(flag), count));
        }
    }
}

/// A value that could be taken for a flag is attached to its own.
fn value_args(spelling: String, value: &str, require_equals: bool, args: &mut Vec<String>) {
    let is_long = spelling.starts_with("--");
    if require_equals || (is_long && value.starts_with('-')) {
        args.push(format!("{spelling}={value}"));
    } else if value.starts_with('-') {
        args.push(format!("{spelling}{value}"));
    } else {
        args.extend([spelling, value.to_owned()]);
    }
}

/// A positional parameter with what `--` is to it, and what was given for it.
type Placed<'a> = (&'a Parameter, DoubleDash, Option<&'a Vec<String>>);

fn positional_args(positionals: &[Placed<'_>], args: &mut Vec<String>, problems: &mut Vec<Problem>) {
    let Some(last) = positionals.iter().rposition(|(_, _, values)| values.is_some()) else { return };
    let mut has_double_dash = false;
    for (parameter, double_dash, values) in &positionals[..=last] {
        let is_behind = *double_dash == DoubleDash::Required;
        // What is behind `--` is found there, whether or not there is something before.
        let goes_there = positionals[last].1 == DoubleDash::Required && !is_behind;
        let values = values.unwrap_or(&parameter.default);
        if values.is_empty() && !goes_there {
            let (missing, later) = (&parameter.name, positionals[last].0);
            let expected = format!("given together with {missing}, behind which it stands");
            problems.push(Problem::new(field(later), "requires", expected));
            return;
        }
        let looks_like_flag = values.iter().any(|value| value.len() > 1 && value.starts_with('-'));
        if looks_like_flag && !is_behind && needs_double_dash(positionals) {
            let expected = "text that does not start with '-', which only stands behind `--`";
            problems.push(Problem::new(field(parameter), "double_dash", expected));
            return;
        }
        for value in values {
            let must = is_behind || (value.len() > 1 && value.starts_with('-'));
            if must && !has_double_dash {
                args.push("--".to_owned());
                has_double_dash = true;
            }
            args.push(value.clone());
        }
    }
}

fn needs_double_dash(positionals: &[Placed<'_>]) -> bool {
    positionals.iter().any(|(_, double_dash, _)| *double_dash == DoubleDash::Required)
}
