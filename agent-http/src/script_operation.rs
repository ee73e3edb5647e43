//! A script as an operation of the API's description: `POST /api/v1/scripts/{its name}/run`, with what it takes.

use std::fmt::Write;

use serde_json::{Value, json};
use task_runners::ScriptEntry;
use task_runners::description::{Effect, ScriptDescription};
use task_runners::schema;

/// The group of scripts that name none, as that of the other operations on scripts.
const TAG: &str = "scripts";

/// The path of a script's operation. A script's name has no other character that a path must not have.
pub(crate) fn path(name: &str) -> String {
    format!("/api/v1/scripts/{}/run", name.replace('/', "%2F"))
}

/// The operation of a script, by that for scripts in general.
pub(crate) fn operation(entry: &ScriptEntry, general: &Value) -> Value {
    let mut operation = general.clone();
    operation["tags"] = json!([entry.group.as_deref().unwrap_or(TAG)]);
    operation["summary"] = match &entry.description {
        Some(description) => format!("{}: {description}", entry.name).into(),
        None => entry.name.as_str().into(),
    };
    operation["description"] = about(entry).into();
    operation["operationId"] = operation_id(&entry.name).into();
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.retain(|parameter| parameter["in"] != "path");
    }
    operation["requestBody"] = body(entry);
    if let Some(effect) = entry.effect {
        operation["x-effect"] = effect.as_str().into();
    }
    operation
}

/// A name of the operation's own, the same for as long as the script's: what is no letter or digit is `_` and two
/// hexadecimal digits, so that no two scripts share one.
fn operation_id(name: &str) -> String {
    let mut id = "run_script_".to_owned();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() {
            id.push(byte.into());
        } else {
            // Writing to a text does not fail.
            let _ = write!(id, "_{byte:02X}");
        }
    }
    id
}

fn about(entry: &ScriptEntry) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(entry.declared.as_ref().and_then(|declared| declared.help.clone()));
    parts.extend(entry.effect.map(|effect| format!("Effect: `{}`.", effect.as_str())));
    let confirm = format!("`\"confirm\": {:?}`", entry.name);
    match &entry.declared {
        Some(_) if entry.effect == Some(Effect::Destructive) => {
            parts.push(format!("What it does cannot be undone: it needs {confirm}."));
        }
        Some(declared) => {
            let destructive = destructive_parameters(declared);
            if !destructive.is_empty() {
                parts
                    .push(format!("What it does with {destructive} cannot be undone: that needs {confirm}."));
            }
        }
        None => parts.push("It does not say what it takes: `args` are passed as they are.".to_owned()),
    }
    if !entry.outputs.is_empty() {
        let outputs =
            entry.outputs.iter().map(|output| format!("- `{}`: {}", output.name, output.description));
        parts.push(format!("Output parameters:\n{}", outputs.collect::<Vec<_>>().join("\n")));
    }
    if entry.described {
        parts.push("Values stand in `params` or in `args`, each in one of them.".to_owned());
    }
    parts.push("Scope `run`.".to_owned());
    parts.join("\n\n")
}

fn destructive_parameters(declared: &ScriptDescription) -> String {
    let destructive = declared.parameters.iter().filter(|one| one.effect == Some(Effect::Destructive));
    destructive.map(|one| format!("`{}`", one.name)).collect::<Vec<_>>().join(", ")
}

/// A task spec without a name, whose `params` are those of the script.
fn body(entry: &ScriptEntry) -> Value {
    let params = match &entry.declared {
        Some(declared) => {
            let mut params = schema::parameters(declared);
            // It belongs to a document of its own.
            params.as_object_mut().map(|params| params.shift_remove("$schema"));
            params
        }
        None => json!({"type": "object", "maxProperties": 0}),
    };
    let mut properties = json!({"params": params});
    let mut required: Vec<&str> = Vec::new();
    if entry.effect == Some(Effect::Destructive) {
        properties["confirm"] =
            json!({"const": entry.name, "description": "The script's name: what it does cannot be undone."});
        required.push("confirm");
    }
    let own = json!({"type": "object", "properties": properties, "required": required});
    let schema = json!({"allOf": [{"$ref": "#/components/schemas/RunSpec"}, own]});
    let is_required = !required.is_empty() || params_are_required(&own);
    json!({"required": is_required, "content": {"application/json": {"schema": schema}}})
}

fn params_are_required(own: &Value) -> bool {
    own["properties"]["params"]["required"].as_array().is_some_and(|names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_names_share_an_operation() {
        let names = ["a-b", "a_b", "a.b", "a/b", "a__b", "a_2Eb", "a_5F2Eb"];
        let mut ids: Vec<String> = names.iter().map(|name| operation_id(name)).collect();
        assert_eq!(ids[3], "run_script_a_2Fb");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), names.len());
    }
}
