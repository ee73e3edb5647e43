//! Whether values are what their parameter takes.

use executor_core::Problem;

use crate::description::{Form, Parameter, Rules};
use crate::validate::field;

/// Longest argument or `NAME=value` that execve(2) takes (MAX_ARG_STRLEN), bytes.
const MAX_STRING_BYTES: usize = 128 << 10;
/// Longest that a flag's or variable's name makes a value beside its own bytes.
const NAME_BYTES: usize = 1 << 10;

/// Everything that is wrong with the values given for a parameter.
pub(super) fn all_problems(parameter: &Parameter, values: &[String]) -> Vec<Problem> {
    let mut found = count_problem(parameter, values);
    let is_list = parameter.repeat.is_some() && values.len() > 1;
    for (index, value) in values.iter().enumerate() {
        let field = if is_list { format!("{}[{index}]", field(parameter)) } else { field(parameter) };
        found.extend(problems(parameter, &field, value));
    }
    found
}

/// Whether there are as many as there may be.
fn count_problem(parameter: &Parameter, values: &[String]) -> Vec<Problem> {
    let Some(repeat) = parameter.repeat else { return Vec::new() };
    if let Form::Count(_) = parameter.form {
        // What is no number is told as that.
        let Some(count) = values.first().and_then(|count| count.parse::<i64>().ok()) else {
            return Vec::new();
        };
        let (min, max) = (repeat.min, parameter.max_values());
        let problem = |rule, expected: String| vec![Problem::new(field(parameter), rule, expected)];
        return match usize::try_from(count) {
            Ok(count) if count > max => problem("maximum", format!("{max} at most")),
            Ok(count) if count >= min => Vec::new(),
            _ => problem("minimum", format!("{min} at least")),
        };
    }
    let max = parameter.max_values();
    let problem = |rule, expected: String| vec![Problem::new(field(parameter), rule, expected)];
    if values.len() < repeat.min {
        return problem("min_items", format!("{} values at least", repeat.min));
    }
    if values.len() > max {
        return problem("max_items", format!("{max} values at most"));
    }
    Vec::new()
}

/// Everything that is wrong with one value.
pub(crate) fn problems(parameter: &Parameter, field: &str, value: &str) -> Vec<Problem> {
    if value.contains('\0') {
        return vec![Problem::new(field, "no_nul", "text without a null byte")];
    }
    if value.len() + NAME_BYTES > MAX_STRING_BYTES {
        return vec![Problem::new(field, "length", "less than 127 KiB")];
    }
    if !parameter.choices.is_empty() {
        return choice_problem(parameter, field, value).into_iter().collect();
    }
    let found = rule_problems(parameter, value);
    found.into_iter().map(|problem| Problem { field: field.to_owned(), ..problem }).collect()
}

fn choice_problem(parameter: &Parameter, field: &str, value: &str) -> Option<Problem> {
    if parameter.choices.iter().any(|choice| choice.value == value) {
        return None;
    }
    Some(Problem::new(field, "choice", expected(parameter)))
}

/// What of its type and rules a value breaks, the choices aside.
pub(crate) fn rule_problems(parameter: &Parameter, value: &str) -> Vec<Problem> {
    let field = field(parameter);
    if !parameter.value_type.reads(value) {
        let (rule, expected) = parameter.value_type.rule();
        return vec![Problem::new(field, rule, expected)];
    }
    let Rules { min, max, min_length, max_length, pattern } = &parameter.rules;
    let length = value.chars().count();
    let mut broken = Vec::new();
    let mut push = |rule: &str, expected: String| broken.push(Problem::new(field.clone(), rule, expected));
    if let Some(min) = min.filter(|min| min.is_above(value)) {
        push("minimum", format!("{min} at least"));
    }
    if let Some(max) = max.filter(|max| max.is_below(value)) {
        push("maximum", format!("{max} at most"));
    }
    if let Some(least) = min_length.filter(|least| length < *least) {
        push("min_length", format!("{least} characters at least"));
    }
    if let Some(most) = max_length.filter(|most| length > *most) {
        push("max_length", format!("{most} characters at most"));
    }
    if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.matches(value)) {
        push("pattern", format!("text that matches {} as a whole", pattern.as_str()));
    }
    broken
}

/// What a value of the parameter would be, for messages.
pub(super) fn expected(parameter: &Parameter) -> String {
    let spelling = parameter.spelling();
    if parameter.choices.is_empty() {
        return format!("{} for {spelling}", parameter.value_type.rule().1);
    }
    let choices: Vec<String> = parameter.choices.iter().map(|choice| format!("{:?}", choice.value)).collect();
    format!("one of {} for {spelling}", choices.join(", "))
}
