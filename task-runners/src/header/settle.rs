//! What the keys of `#TASK` mean for the description, once all parameters are known; and whether defaults, choices
//! and rules of a parameter agree.

use std::time::Duration;

use executor_core::{DURATION_EXPECTED, Problem};

use crate::description::{
    DoubleDash, Effect, Form, Limit, Output, Parameter, Pattern, ScriptDescription, ValueType,
};
use crate::header::service;
use crate::header::task::{Key, shown};
use crate::header::{BrokenReason, relations};
use crate::spec::parse_duration;
use crate::validate::values;

/// Works the keys into the description, whose parameters were declared in these lines.
pub(super) fn settle(
    keys: &[Key],
    declared_at: &[u64],
    description: &mut ScriptDescription,
    broken: &mut Vec<BrokenReason>,
) {
    // A type decides what the other keys of its parameter mean, and an output is there before its type.
    let is_first = |key: &&Key| matches!(key.name.as_str(), "type" | "output");
    let (first, others): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(is_first);
    for key in first.into_iter().chain(others) {
        if let Err(reason) = settle_one(key, description) {
            broken.push(BrokenReason { line: Some(key.line), reason });
        }
    }
    relations::settle(declared_at, description, broken);
    broken.extend(service::finish(keys, description));
    let mut positionals: Vec<&Parameter> = Vec::new();
    for (parameter, line) in description.parameters.iter().zip(declared_at) {
        let mut reasons = disagreements(parameter);
        if let Form::Positional(_) = parameter.form {
            reasons.extend(positionals.last().and_then(|before| misplaced(before, parameter)));
            positionals.push(parameter);
        }
        broken.extend(reasons.into_iter().map(|reason| BrokenReason { line: Some(*line), reason }));
    }
}

fn settle_one(key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    if let Some(about) = &key.about {
        return match key.name.as_str() {
            "output" => output(about, key, description),
            "output_type" => output_type(about, key, description),
            _ => rule(about, key, description),
        };
    }
    match key.name.as_str() {
        "description" => description.description = Some(text(key)?),
        "help" => description.help = Some(text(key)?),
        "group" => description.group = Some(text(key)?),
        "tag" => description.tags.push(text(key)?),
        "env" => description.env.push(variable(key)?),
        "secret" => secret(key, description)?,
        "timeout" => description.timeout = Some(duration(key)?),
        "grace" => description.grace = Some(duration(key)?),
        "concurrency" | "queue" | "retries" | "retry_on" | "retry_delay" => {
            service::settle(key, description)?;
        }
        "hidden" => {
            let hidden = key.value.as_bool();
            description.hidden = hidden.ok_or_else(|| wrong(key, "#true or #false"))?;
        }
        "effect" => {
            let effect = key.value.as_string().and_then(Effect::of_name);
            let expected = "\"read\", \"write\" or \"destructive\"";
            description.effect = Some(effect.ok_or_else(|| wrong(key, expected))?);
        }
        _ => {}
    }
    Ok(())
}

pub(super) fn wrong(key: &Key, expected: &str) -> String {
    let name = match &key.about {
        Some(about) => format!("{}.{}", key.name, about.escape_debug()),
        None => key.name.clone(),
    };
    format!("`{name}` is {}; expected {expected}", shown(&key.value))
}

fn text(key: &Key) -> Result<String, String> {
    let text = key.value.as_string().filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| wrong(key, "text in quotes"))
}

pub(super) fn duration(key: &Key) -> Result<Duration, String> {
    let duration = key.value.as_string().and_then(parse_duration);
    duration.ok_or_else(|| wrong(key, DURATION_EXPECTED))
}

/// A variable that callers may set: never one that changes what a shell or loader does.
fn variable(key: &Key) -> Result<String, String> {
    let name = text(key)?;
    if !executor_core::is_variable_name(&name) || executor_core::is_refused_variable(&name) {
        return Err(wrong(
            key,
            "the name of a variable that no loader, shell, interpreter or the agent uses itself",
        ));
    }
    Ok(name)
}

fn output(name: &str, key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    if !executor_core::is_variable_name(name) {
        return Err(wrong(key, "a key of letters, digits and '_' behind `output.`"));
    }
    let description_of = text(key)?;
    let value_type = ValueType::String;
    description.outputs.push(Output { name: name.to_owned(), description: description_of, value_type });
    Ok(())
}

fn output_type(name: &str, key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    let Some(output) = description.outputs.iter_mut().find(|output| output.name == name) else {
        let name = name.escape_debug();
        return Err(format!("`output_type.{name}`: no `output.{name}` declares it"));
    };
    output.value_type = value_type(key)?;
    Ok(())
}

/// A secret is handed over in a file: one value, given by the caller each time, and none that the header could tell.
fn secret(key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    let name = text(key)?;
    let shown = name.escape_debug();
    if description.parameter(&format!("{name}_file")).is_some() {
        return Err(format!(
            "`secret`: the path of {shown} would be in usage_{shown}_file, which is that of another parameter"
        ));
    }
    let Some(parameter) = description.parameters.iter_mut().find(|parameter| parameter.name == name) else {
        return Err(format!("`secret`: no #USAGE line declares a parameter {shown}"));
    };
    let takes_one = matches!(parameter.form, Form::Value { .. }) && parameter.repeat.is_none();
    if !takes_one {
        return Err(format!(
            "`secret`: {shown} is no flag that takes one value, such as `--{shown} <{shown}>`"
        ));
    }
    if parameter.has_default() || !parameter.choices.is_empty() {
        return Err(format!("`secret`: {shown} has a default or choices, which everybody can read"));
    }
    if parameter.secret {
        return Err(format!("`secret`: {shown} is given twice"));
    }
    parameter.secret = true;
    Ok(())
}

fn rule(about: &str, key: &Key, description: &mut ScriptDescription) -> Result<(), String> {
    let Some(parameter) = description.parameters.iter_mut().find(|parameter| parameter.name == about) else {
        let name = about.escape_debug();
        return Err(format!("`{}.{name}`: no #USAGE line declares a parameter {name}", key.name));
    };
    let fits = match key.name.as_str() {
        "type" => parameter.form.takes_value(),
        "min" | "max" => parameter.form.takes_value() && parameter.value_type.is_number(),
        _ => parameter.form.takes_value() && parameter.value_type.is_text(),
    };
    if !fits {
        let kind = parameter.value_type.as_str();
        return Err(format!("`{}.{about}` does not go with a parameter of type {kind}", key.name));
    }
    match key.name.as_str() {
        "type" => parameter.value_type = value_type(key)?,
        "min" => parameter.rules.min = Some(limit(key, parameter.value_type)?),
        "max" => parameter.rules.max = Some(limit(key, parameter.value_type)?),
        "min_length" => parameter.rules.min_length = Some(length(key)?),
        "max_length" => parameter.rules.max_length = Some(length(key)?),
        "pattern" => {
            let pattern = Pattern::new(&text(key)?);
            let pattern = pattern.map_err(|why| format!("`pattern.{about}` is not taken: {why}"))?;
            parameter.rules.pattern = Some(pattern);
        }
        _ => {}
    }
    Ok(())
}

fn value_type(key: &Key) -> Result<ValueType, String> {
    let found = key.value.as_string().and_then(ValueType::of_name);
    found.ok_or_else(|| wrong(key, "\"string\", \"int\", \"number\", \"bool\", \"duration\" or \"path\""))
}

fn limit(key: &Key, value_type: ValueType) -> Result<Limit, String> {
    let whole = key.value.as_integer().and_then(|value| i64::try_from(value).ok());
    if value_type == ValueType::Int {
        return whole.map(Limit::Int).ok_or_else(|| wrong(key, "a whole number without quotes"));
    }
    #[expect(clippy::cast_precision_loss, reason = "a bound beyond 2^53 is as exact as the values it bounds")]
    let number = key.value.as_float().or(whole.map(|value| value as f64)).filter(|number| number.is_finite());
    number.map(Limit::Number).ok_or_else(|| wrong(key, "a number without quotes"))
}

fn length(key: &Key) -> Result<usize, String> {
    let length = key.value.as_integer().and_then(|value| usize::try_from(value).ok());
    length.ok_or_else(|| wrong(key, "a whole number of characters without quotes"))
}

/// Where what is said of one parameter contradicts itself, so that no value, or not its own default, would do.
fn disagreements(parameter: &Parameter) -> Vec<String> {
    let Parameter { name, rules, default, .. } = parameter;
    let mut found = Vec::new();
    let is_empty_range = match (rules.min, rules.max) {
        (Some(Limit::Int(min)), Some(Limit::Int(max))) => min > max,
        (Some(Limit::Number(min)), Some(Limit::Number(max))) => min > max,
        _ => false,
    };
    let is_empty_length = matches!((rules.min_length, rules.max_length), (Some(min), Some(max)) if min > max);
    if is_empty_range || is_empty_length {
        found.push(format!("no value of {name} could be right: the least is above the most"));
    }
    if default.len() > 1 && parameter.repeat.is_none() {
        found.push(format!("{name} takes one value, and has several as its default"));
    }
    let is_on = default.first().is_some_and(|value| value == "true");
    if matches!(parameter.form, Form::Switch { negate: None, .. }) && is_on {
        found.push(format!("{name} is on by default and has no `negate`, so nothing could turn it off"));
    }
    for choice in &parameter.choices {
        let problems = values::rule_problems(parameter, &choice.value).into_iter();
        let said = |problem: Problem| format!("a choice of {name} breaks its rules: {}", problem.expected);
        found.extend(problems.map(said));
    }
    let problems = default.iter().flat_map(|value| values::problems(parameter, &parameter.name, value));
    found.extend(
        problems.map(|problem| format!("the default of {name} breaks its rules: {}", problem.expected)),
    );
    found
}

/// Why a positional parameter could not be told from the one before it.
fn misplaced(before: &Parameter, parameter: &Parameter) -> Option<String> {
    let (first, second) = (&before.name, &parameter.name);
    let needs_dash = |parameter: &Parameter| parameter.form == Form::Positional(DoubleDash::Required);
    if needs_dash(before) {
        Some(format!("{second} stands behind {first}, which stands behind `--` and so is the last"))
    } else if needs_dash(parameter) {
        None
    } else if before.repeat.is_some() {
        Some(format!("{second} stands behind {first}, which takes all words that are left"))
    } else if parameter.required && !before.required {
        Some(format!("{second} is required and stands behind {first}, which is not"))
    } else {
        None
    }
}
