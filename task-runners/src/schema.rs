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
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    let relations = relations(description);
    if !relations.is_empty() {
        schema["allOf"] = relations.into();
    }
    schema
}

/// What parameters have to do with others, one schema each. A schema knows only whether a property is there: relations of
/// switches and counts, which may be there and off, are left to the validator.
fn relations(description: &ScriptDescription) -> Vec<Value> {
    let is_told =
        |name: &String| description.parameter(name).is_some_and(|parameter| parameter.form.takes_value());
    let has_default = |name: &String| description.parameter(name).is_some_and(Parameter::has_default);
    let mut schemas = Vec::new();
    for parameter in description.parameters.iter().filter(|parameter| parameter.form.takes_value()) {
        let (name, relations) = (parameter.name.as_str(), &parameter.relations);
        for other in relations.conflicts.iter().filter(|other| is_told(other)) {
            schemas.push(json!({"not": {"required": [name, other]}}));
        }
        let required = relations.requires.iter().filter(|other| is_told(other) && !has_default(other));
        for other in required {
            schemas.push(json!({"dependentRequired": {name: [other]}}));
        }
        if parameter.required || parameter.has_default() {
            continue;
        }
        for other in relations.required_if.iter().filter(|other| is_told(other)) {
            schemas.push(json!({"dependentRequired": {other: [name]}}));
        }
        let unless = &relations.required_unless;
        if !unless.is_empty() && unless.iter().all(is_told) {
            let any: Vec<Value> = unless
                .iter()
                .map(String::as_str)
                .chain([name])
                .map(|name| json!({"required": [name]}))
                .collect();
            schemas.push(json!({"anyOf": any}));
        }
    }
    schemas
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
    if parameter.secret {
        schema["writeOnly"] = true.into();
    }
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
