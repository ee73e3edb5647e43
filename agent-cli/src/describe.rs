//! What a script says of itself, for people: its usage, its parameters, its outputs. Control characters are escaped.

use task_runners::ScriptDescription;
use task_runners::description::{Form, Output, Parameter, ValueType};

use crate::output::table;
use crate::terminal::escaped_line;

/// All of it, line by line.
pub(crate) fn lines(name: &str, declared: &ScriptDescription) -> Vec<String> {
    let mut lines = vec![format!("usage: {name}{}", usage(declared))];
    let shown: Vec<&Parameter> = declared.parameters.iter().filter(|parameter| !parameter.hidden).collect();
    let rows: Vec<Vec<String>> = shown.iter().map(|parameter| row(parameter, declared)).collect();
    section(&mut lines, "parameters", &rows);
    let outputs = declared.outputs.iter();
    let rows: Vec<Vec<String>> =
        outputs.map(|output| vec![output.name.clone(), output_facts(output)]).collect();
    section(&mut lines, "output parameters", &rows);
    if let Some(help) = &declared.help {
        lines.push(String::new());
        lines.extend(help.lines().map(str::to_owned));
    }
    lines.iter().map(|line| escaped_line(line)).collect()
}

fn section(lines: &mut Vec<String>, title: &str, rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    lines.extend([String::new(), format!("{title}:")]);
    lines.extend(table(rows).into_iter().map(|row| format!("  {row}")));
}

/// ` [FLAGS] <service> [hosts]…`
fn usage(declared: &ScriptDescription) -> String {
    let has_flags = declared.parameters.iter().any(|parameter| parameter.form.flag().is_some());
    let flags = if has_flags { " [FLAGS]" } else { "" };
    let places = declared.parameters.iter().filter(|parameter| parameter.form.flag().is_none());
    let places: String = places.map(|parameter| format!(" {}", place(parameter))).collect();
    format!("{flags}{places}")
}

fn place(parameter: &Parameter) -> String {
    let name =
        if parameter.required { format!("<{}>", parameter.name) } else { format!("[{}]", parameter.name) };
    if parameter.repeat.is_some() { format!("{name}…") } else { name }
}

/// Spelling, what values are, what is assumed, what it means.
fn row(parameter: &Parameter, declared: &ScriptDescription) -> Vec<String> {
    let spelling = match &parameter.form {
        Form::Positional(_) => place(parameter),
        Form::Value { flag, .. } => format!("{} <{}>", flag.0.join(", "), parameter.value_type.as_str()),
        Form::Switch { flag, negate } => {
            flag.0.iter().chain(negate).map(String::as_str).collect::<Vec<_>>().join(", ")
        }
        Form::Count(flag) => format!("{}…", flag.0.join(", ")),
    };
    vec![spelling, facts(parameter, declared)]
}

/// What is to be known of a parameter, beside how it is spelled.
pub(crate) fn facts(parameter: &Parameter, declared: &ScriptDescription) -> String {
    let mut facts: Vec<String> = parameter.help.iter().cloned().collect();
    if !parameter.choices.is_empty() {
        let choices: Vec<&str> = parameter.choices.iter().map(|choice| choice.value.as_str()).collect();
        facts.push(format!("[one of: {}]", choices.join(", ")));
    }
    match (parameter.rules.min, parameter.rules.max) {
        (Some(min), Some(max)) => facts.push(format!("[{min} to {max}]")),
        (Some(min), None) => facts.push(format!("[{min} at least]")),
        (None, Some(max)) => facts.push(format!("[{max} at most]")),
        (None, None) => {}
    }
    if !parameter.default.is_empty() {
        facts.push(format!("[default: {}]", parameter.default.join(", ")));
    }
    if parameter.required && parameter.form.flag().is_some() {
        facts.push("[required]".to_owned());
    }
    if parameter.secret {
        facts.push(format!("[secret: --secret {}=@FILE]", parameter.name));
    }
    facts.extend(relations(parameter, declared));
    if let Some(effect) = parameter.effect {
        facts.push(format!("[{}]", effect.as_str()));
    }
    facts.join(" ")
}

/// What it has to do with others, by their spelling.
fn relations(parameter: &Parameter, declared: &ScriptDescription) -> Vec<String> {
    let relations = &parameter.relations;
    let named = [
        ("not with", &relations.conflicts),
        ("needs", &relations.requires),
        ("required with", &relations.required_if),
        ("required without", &relations.required_unless),
    ];
    let spelled =
        |name: &String| declared.parameter(name).map_or(name.as_str(), Parameter::spelling).to_owned();
    let named = named.into_iter().filter(|(_, others)| !others.is_empty());
    named
        .map(|(how, others)| {
            let others: Vec<String> = others.iter().map(spelled).collect();
            format!("[{how} {}]", others.join(", "))
        })
        .collect()
}

fn output_facts(output: &Output) -> String {
    match output.value_type {
        ValueType::String => output.description.clone(),
        kind => format!("{} [{}]", output.description, kind.as_str()),
    }
}
