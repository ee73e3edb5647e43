//! `#USAGE` lines: arguments and flags become parameters.

use usage::kdl::{KdlDocument, KdlNode};
use usage::spec::arg::SpecDoubleDashChoices;
use usage::{Spec, SpecArg, SpecChoices, SpecCommandEffect, SpecFlag, UnknownFlags};

use crate::description::{
    Choice, DoubleDash, Effect, Flag, Form, Parameter, Relations, Repeat, Rules, ScriptDescription, ValueType,
};
use crate::header::declared::{Declaration, Declared};
use crate::header::lines::Block;
use crate::header::{BrokenReason, guard, kdl};

/// Reads the block into the description, and says in which line each parameter was declared. Node by node, so that
/// one mistake hides no other.
pub(super) fn read(
    block: &Block,
    description: &mut ScriptDescription,
    broken: &mut Vec<BrokenReason>,
) -> Vec<u64> {
    let mut lines = Vec::new();
    for (block, document) in documents(block, broken) {
        let checked: Vec<(&KdlNode, Vec<BrokenReason>)> =
            document.nodes().iter().map(|node| (node, guard::refused(&block, node))).collect();
        let passed = checked.iter().filter(|(_, refused)| refused.is_empty()).map(|(node, _)| *node);
        let mut declared = Declared::of(passed);
        for (node, mut refused) in checked {
            let line = block.line_at(node.name().span().offset());
            if refused.is_empty()
                && let Err(reason) = read_node(node, &mut declared, description)
            {
                refused.push(BrokenReason { line: Some(line), reason });
            }
            broken.append(&mut refused);
            lines.resize(description.parameters.len(), line);
        }
    }
    lines
}

/// The block as one document. One that cannot be parsed is taken apart, so that what is wrong in other places is told
/// too.
fn documents(block: &Block, broken: &mut Vec<BrokenReason>) -> Vec<(Block, KdlDocument)> {
    let whole = match kdl::document(block) {
        Ok(document) => return vec![(block.clone(), document)],
        Err(reasons) => reasons,
    };
    let mut parsed = Vec::new();
    let mut found = Vec::new();
    for statement in block.statements() {
        match kdl::document(&statement) {
            Ok(document) => parsed.push((statement, document)),
            Err(reasons) => found.extend(reasons),
        }
    }
    broken.extend(if found.is_empty() { whole } else { found });
    parsed
}

/// Reads one node that the guard let pass.
fn read_node(
    node: &KdlNode,
    declared: &mut Declared,
    description: &mut ScriptDescription,
) -> Result<(), String> {
    if let Some(declaration) = declared.next(node) {
        let parameter = match declaration {
            Declaration::Arg(arg) => positional(&arg),
            Declaration::Flag(flag) => option(&flag),
        };
        return add(description, parameter?);
    }
    let text = node.to_string();
    let spec: Spec = text.parse().map_err(|error| reason_of(&error))?;
    if let Some(about) = spec.about {
        description.description = Some(about);
    }
    if let Some(help) = spec.about_md.or(spec.about_long) {
        description.help = Some(help);
    }
    if node.name().value() == "unknown_flags" {
        description.takes_unknown_flags = spec.unknown_flags == Some(UnknownFlags::Value);
    }
    for arg in &spec.cmd.args {
        add(description, positional(arg)?)?;
    }
    for flag in &spec.cmd.flags {
        add(description, option(flag)?)?;
    }
    Ok(())
}

/// What the parser said, without its drawing of the place: the line is told beside it.
fn reason_of(error: &usage::error::UsageErr) -> String {
    match error {
        usage::error::UsageErr::InvalidInput(message, ..) => message.clone(),
        other => other.to_string(),
    }
}

fn add(description: &mut ScriptDescription, parameter: Parameter) -> Result<(), String> {
    let name = &parameter.name;
    if description.parameter(name).is_some() {
        return Err(format!(
            "there is a parameter named {name} already; its variable would be usage_{name} too"
        ));
    }
    let spelled = |known: &Parameter, spelling: &String| spellings(known).any(|other| other == spelling);
    for spelling in spellings(&parameter) {
        if description.parameters.iter().any(|known| spelled(known, spelling)) {
            return Err(format!("{spelling} is the spelling of another flag already"));
        }
    }
    description.parameters.push(parameter);
    Ok(())
}

pub(super) fn spellings(parameter: &Parameter) -> impl Iterator<Item = &String> {
    let negate = if let Form::Switch { negate, .. } = &parameter.form { negate.as_ref() } else { None };
    parameter.form.flag().map(|flag| flag.0.as_slice()).unwrap_or_default().iter().chain(negate)
}

fn positional(arg: &SpecArg) -> Result<Parameter, String> {
    let double_dash = match arg.double_dash {
        SpecDoubleDashChoices::Optional => DoubleDash::Optional,
        SpecDoubleDashChoices::Required => DoubleDash::Required,
        SpecDoubleDashChoices::Automatic => DoubleDash::Automatic,
        SpecDoubleDashChoices::Preserve => return Err("`double_dash=\"preserve\"` is not taken".to_owned()),
    };
    Ok(Parameter {
        name: parameter_name(&arg.name)?,
        form: Form::Positional(double_dash),
        value_type: ValueType::String,
        required: arg.required,
        repeat: repeat(arg.var, (arg.var_min, arg.var_max))?,
        default: arg.default.clone(),
        choices: choices(arg.choices.as_ref()),
        rules: Rules::default(),
        secret: false,
        relations: Relations {
            conflicts: arg.conflicts.clone(),
            requires: arg.requires.clone(),
            required_if: arg.required_if.clone(),
            required_unless: arg.required_unless.clone(),
        },
        effect: arg.effect.map(effect),
        help: help(arg),
        hidden: arg.hide,
    })
}

fn option(flag: &SpecFlag) -> Result<Parameter, String> {
    let long = flag.long.iter().map(|name| format!("--{name}"));
    let spelled = Flag(long.chain(flag.short.iter().map(|name| format!("-{name}"))).collect());
    if let Some(bad) = spelled.0.iter().find(|spelling| !is_spelling(spelling)) {
        return Err(format!(
            "`{}` is no flag: `-x`, or `--` with letters, digits and '-'",
            bad.escape_debug()
        ));
    }
    let form = form(flag, spelled)?;
    let is_list = flag.var || matches!(form, Form::Count(_));
    let value = flag.arg.as_ref();
    Ok(Parameter {
        name: parameter_name(&flag.name)?,
        value_type: match form {
            Form::Switch { .. } => ValueType::Bool,
            Form::Count(_) => ValueType::Int,
            Form::Value { .. } | Form::Positional(_) => ValueType::String,
        },
        form,
        required: flag.required && flag.default.is_empty(),
        repeat: repeat(is_list, (flag.var_min, flag.var_max))?,
        default: if flag.default.is_empty() {
            value.map(|arg| arg.default.clone()).unwrap_or_default()
        } else {
            flag.default.clone()
        },
        choices: choices(value.and_then(|arg| arg.choices.as_ref())),
        rules: Rules::default(),
        secret: false,
        relations: Relations {
            conflicts: flag.conflicts.clone(),
            requires: flag.requires.clone(),
            required_if: flag.required_if.clone(),
            required_unless: flag.required_unless.clone(),
        },
        effect: flag.effect.map(effect),
        help: flag.help.clone().or_else(|| flag.help_long.clone()).or_else(|| flag.help_md.clone()),
        hidden: flag.hide,
    })
}

fn form(flag: &SpecFlag, spelled: Flag) -> Result<Form, String> {
    let Some(value) = &flag.arg else {
        if !(flag.count || flag.var) {
            return Ok(Form::Switch { flag: spelled, negate: negate(flag)? });
        }
        if !flag.default.is_empty() {
            return Err(
                "a flag that is counted has no `default`: not given is how it counts nothing".to_owned()
            );
        }
        return Ok(Form::Count(spelled));
    };
    if !value.required && value.default.is_empty() {
        return Err("a flag's value is `<required>`: one that can be left out is not taken".to_owned());
    }
    if value.var {
        return Err("a flag takes one value each time; let it be given repeatedly by `var=#true`".to_owned());
    }
    if flag.count || flag.negate.is_some() {
        return Err("a flag that takes a value is neither counted nor negated".to_owned());
    }
    Ok(Form::Value {
        flag: spelled,
        require_equals: flag.require_equals,
        hyphen_values: flag.allow_hyphen_values(),
    })
}

fn negate(flag: &SpecFlag) -> Result<Option<String>, String> {
    match flag.negate.as_ref() {
        Some(negate) if !(negate.starts_with("--") && is_spelling(negate)) => {
            Err("`negate` is a long flag, such as `--no-color`".to_owned())
        }
        negate => Ok(negate.cloned()),
    }
}

/// `-x` or `--name`; nothing that a shell, or the `=` before a value, could be mistaken for.
fn is_spelling(text: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    match text.strip_prefix("--") {
        Some(long) => long.bytes().all(is_name) && long.starts_with(|c: char| c.is_ascii_alphanumeric()),
        None => text.len() == 2 && text.as_bytes()[1].is_ascii_alphanumeric(),
    }
}

/// The name of a parameter as `usage` makes it: words in lower case, divided by '_'. Names in mixed case are
/// refused, since tools differ in where their words end.
pub(super) fn parameter_name(declared: &str) -> Result<String, String> {
    let shown = declared.escape_debug();
    let fits = declared.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let words: Vec<String> = declared
        .split(['-', '_', '.'])
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    if !fits || words.is_empty() {
        return Err(format!("`{shown}` is no parameter's name: letters, digits, '-' and '_'"));
    }
    let has = |is: fn(&u8) -> bool| declared.as_bytes().iter().any(is);
    if has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) {
        return Err(format!("`{shown}` mixes capital and small letters; divide its words by '-' or '_'"));
    }
    Ok(words.join("_"))
}

fn repeat(is_list: bool, (min, max): (Option<usize>, Option<usize>)) -> Result<Option<Repeat>, String> {
    if !is_list {
        let is_bounded = min.is_some() || max.is_some();
        let refused = || Err("`var_min` and `var_max` go with `var=#true` or `…`".to_owned());
        return if is_bounded { refused() } else { Ok(None) };
    }
    let repeat = Repeat { min: min.unwrap_or(0), max };
    if max.is_some_and(|max| max < repeat.min || max == 0) {
        return Err("`var_max` is at least 1 and at least `var_min`".to_owned());
    }
    Ok(Some(repeat))
}

fn choices(declared: Option<&SpecChoices>) -> Vec<Choice> {
    let Some(declared) = declared else { return Vec::new() };
    let help = |value: &String| declared.details.iter().find(|detail| detail.value == *value)?.help.clone();
    declared.choices.iter().map(|value| Choice { value: value.clone(), help: help(value) }).collect()
}

fn effect(declared: SpecCommandEffect) -> Effect {
    match declared {
        SpecCommandEffect::Read => Effect::Read,
        SpecCommandEffect::Write => Effect::Write,
        // One that a later version adds is taken for the worst.
        _ => Effect::Destructive,
    }
}

fn help(arg: &SpecArg) -> Option<String> {
    arg.help.clone().or_else(|| arg.help_long.clone()).or_else(|| arg.help_md.clone())
}
