//! Parameters as JSON: of their own type, or as text.

use executor_core::Problem;
use serde_json::Value;

use crate::description::{Form, Parameter, ValueType};
use crate::validate::field;

/// The texts that a JSON value means for a parameter.
///
/// # Errors
/// What is of another type, each with its place.
pub(super) fn texts(parameter: &Parameter, value: &Value) -> Result<Vec<String>, Vec<Problem>> {
    let is_list = parameter.repeat.is_some() && !matches!(parameter.form, Form::Count(_));
    let Value::Array(items) = value else {
        return match text(parameter.value_type, value) {
            Some(text) => Ok(vec![text]),
            None if is_list => {
                let expected = format!("an array; each value is {}", parameter.value_type.rule().1);
                Err(vec![Problem::new(field(parameter), "array", expected)])
            }
            None => Err(vec![wrong_type(parameter, field(parameter))]),
        };
    };
    if !is_list {
        return Err(vec![wrong_type(parameter, field(parameter))]);
    }
    let mut texts = Vec::with_capacity(items.len());
    let mut problems = Vec::new();
    for (index, item) in items.iter().enumerate() {
        match text(parameter.value_type, item) {
            Some(text) => texts.push(text),
            None => problems.push(wrong_type(parameter, format!("{}[{index}]", field(parameter)))),
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

/// A scalar as text: text as it is, for numbers and truth values also their own JSON type.
fn text(value_type: ValueType, value: &Value) -> Option<String> {
    match (value, value_type) {
        (Value::String(text), _) => Some(text.clone()),
        (Value::Bool(truth), ValueType::Bool) => Some(truth.to_string()),
        (Value::Number(number), ValueType::Int | ValueType::Number) => Some(number.to_string()),
        _ => None,
    }
}

fn wrong_type(parameter: &Parameter, field: String) -> Problem {
    let (rule, expected) = parameter.value_type.rule();
    Problem::new(field, rule, expected)
}
