//! The parameters of a script as JSON Schema (2020-12), for forms and programs. The validator decides; the schema says
//! the same as far as a schema can.

use serde_json::{Map, Value, json};

use crate::description::{Form, Limit, Parameter, ScriptDescription, ValueType};

/// The schema of `params` of a task that runs this script. Numbers and truth values are taken as strings too.
pub fn parameters(description: &ScriptDescription) -> Value {
    let properties: Map<String, Value> =
        description.parameters.iter().map(|parameter| (parameter.name.clone(), schema(parameter))).collect();
    let is_required = |parameter: &&Parameter| parameter.required && parameter.default.is_empty();
    let required: Vec<&str> =
        description.parameters.iter().filter(is_required).map(|parameter| parameter.name.as_str()).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn schema(parameter: &Parameter) -> Value {
    let mut schema = match (&parameter.form, parameter.repeat) {
        (Form::Count(_), repeat) => {
            let mut count = json!({"type": "integer", "minimum": repeat.map_or(0, |repeat| repeat.min)});
            count["maximum"] = parameter.max_values().into();
            count
        }
        (_, Some(repeat)) => {
            let mut list = json!({"type": "array", "items": value_schema(parameter)});
            list["minItems"] = repeat.min.into();
            if let Some(max) = repeat.max {
                list["maxItems"] = max.into();
            }
            list
        }
        (_, None) => value_schema(parameter),
    };
    if let Some(help) = &parameter.help {
        schema["description"] = help.as_str().into();
    }
    match (parameter.repeat, parameter.default.as_slice()) {
        (_, []) => {}
        (None, [value, ..]) => schema["default"] = typed(parameter.value_type, value),
        (Some(_), values) => {
            schema["default"] = values.iter().map(|value| typed(parameter.value_type, value)).collect();
        }
    }
    schema
}

fn value_schema(parameter: &Parameter) -> Value {
    let rules = &parameter.rules;
    let mut schema = Map::new();
    let mut set = |name: &str, value: Value| drop(schema.insert(name.to_owned(), value));
    set("type", type_name(parameter.value_type).into());
    if !parameter.choices.is_empty() {
        let values = parameter.choices.iter().map(|choice| typed(parameter.value_type, &choice.value));
        set("enum", values.collect());
    }
    for (name, limit) in [("minimum", rules.min), ("maximum", rules.max)] {
        match limit {
            Some(Limit::Int(limit)) => set(name, limit.into()),
            Some(Limit::Number(limit)) => set(name, limit.into()),
            None => {}
        }
    }
    let least =
        if parameter.value_type == ValueType::Path { rules.min_length.or(Some(1)) } else { rules.min_length };
    for (name, length) in [("minLength", least), ("maxLength", rules.max_length)] {
        if let Some(length) = length {
            set(name, length.into());
        }
    }
    if let Some(pattern) = &rules.pattern {
        set("pattern", format!("^(?:{})$", pattern.as_str()).into());
    }
    schema.into()
}

fn type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::String | ValueType::Duration | ValueType::Path => "string",
        ValueType::Int => "integer",
        ValueType::Number => "number",
        ValueType::Bool => "boolean",
    }
}

/// A text as JSON of its type.
fn typed(value_type: ValueType, text: &str) -> Value {
    match value_type {
        ValueType::Int | ValueType::Number | ValueType::Bool => {
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        ValueType::String | ValueType::Duration | ValueType::Path => text.into(),
    }
}
