//! What the document says beyond what routes and types declare: rules that hold for a parameter wherever it stands, and
//! things of which the types of Rust have no notion.

use serde_json::{Map, Value, json};

const TASK_ID: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
const SCRIPT_NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*){0,7}$";
const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";
/// Most entries of a list or map in a spec.
const MAX_ENTRIES: u64 = 1024;

/// Makes the document as exact as the service is, so that a program that goes by it is refused nothing for its form.
pub(super) fn refined(mut document: Value) -> Value {
    for operation in operations(&mut document) {
        refine_operation(operation);
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        refine_spec(schemas);
    }
    document
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter();
    paths.flat_map(Map::values_mut).filter_map(Value::as_object_mut).flat_map(Map::values_mut)
}

/// An answer that a caller may have already has a tag, by which it asks.
fn add_condition(operation: &mut Value) {
    if operation.pointer("/responses/304").is_none() {
        return;
    }
    let tag = json!({
        "name": "If-None-Match", "in": "header", "schema": { "type": "string" },
        "description": "The `ETag` of an answer that is there already: if it is the same still, 304."
    });
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(parameters) => parameters.push(tag),
        None => operation["parameters"] = json!([tag]),
    }
    for status in ["200", "206"] {
        if let Some(response) = operation["responses"].get_mut(status) {
            response["headers"]["ETag"] =
                json!({ "schema": { "type": "string" }, "description": "Stands for exactly this answer." });
        }
    }
}

fn refine_operation(operation: &mut Value) {
    add_condition(operation);
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let rules = rules(&parameter["in"], &parameter["name"]);
        let Some(schema) = parameter.get_mut("schema") else { continue };
        // What may be left out is not null: a header or a query has only text.
        without_null(schema);
        let is_list = schema.get("items").is_some();
        extend(if is_list { &mut schema["items"] } else { schema }, rules);
    }
    // Likewise a body that may be left out: one that says `null` is no spec.
    if let Some(schema) = operation.pointer_mut("/requestBody/content/application~1json/schema") {
        without_null(schema);
    }
}

/// What holds for a parameter of this place and name on every path.
fn rules(place: &Value, name: &Value) -> Value {
    match (place.as_str(), name.as_str()) {
        (Some("path"), Some("id")) => json!({ "pattern": TASK_ID }),
        (Some("path"), Some("name")) => json!({ "pattern": SCRIPT_NAME, "maxLength": 255 }),
        (Some("query"), Some("limit")) => json!({ "minimum": 1, "maximum": 1000 }),
        (Some("query"), Some("wait")) => json!({ "maximum": 300 }),
        (Some("query"), Some("line")) => json!({ "minimum": 1 }),
        (Some("query"), Some("attempt")) => json!({ "minimum": 1, "maximum": u32::MAX }),
        (Some("query"), Some("since")) => json!({ "format": "date-time" }),
        (Some("query"), Some("label")) => json!({ "pattern": "^[^=]+=" }),
        (Some("query"), Some("cursor")) => json!({ "minLength": 1 }),
        _ => json!({}),
    }
}

/// The spec that is refused with fields that it does not know, and the one of a path that names the script: the same
/// without `name`.
fn refine_spec(schemas: &mut Map<String, Value>) {
    let Some(spec) = schemas.get_mut("TaskSpec") else { return };
    spec["additionalProperties"] = false.into();
    let properties = &mut spec["properties"];
    extend(&mut properties["name"], json!({ "pattern": SCRIPT_NAME }));
    extend(&mut properties["timeout"], json!({ "minLength": 2 }));
    extend(&mut properties["secrets"], json!({ "maxItems": MAX_ENTRIES }));
    for name in ["params", "env", "labels"] {
        extend(&mut properties[name], json!({ "maxProperties": MAX_ENTRIES }));
    }
    extend(&mut properties["env"], json!({ "propertyNames": { "pattern": VARIABLE } }));
    let mut run = spec.clone();
    run["description"] = "A task spec without `name`: the path names the script.".into();
    if let Some(properties) = run["properties"].as_object_mut() {
        properties.shift_remove("name");
    }
    if let Some(fields) = run.as_object_mut() {
        fields.shift_remove("required");
    }
    schemas.insert("RunSpec".to_owned(), run);
}

/// Takes "or null" out of a schema.
fn without_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|one| one["type"] != "null");
        if let [one] = choices.as_slice() {
            *schema = one.clone();
        }
    }
}

fn extend(schema: &mut Value, rules: Value) {
    if let (Some(schema), Value::Object(rules)) = (schema.as_object_mut(), rules) {
        schema.extend(rules);
    }
}
