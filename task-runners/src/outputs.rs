//! Whether a script wrote the output parameters that it declares.

use std::sync::Arc;

use executor_core::{Outcome, OutputCheck, OutputParams};

use crate::description::{Output, ScriptDescription};

/// What looks at the output parameters of such a script; none where it declares none.
///
/// What was declared and written is of its type, or the file counts as one that breaks a rule, and gives nothing: what is
/// there can be relied on. What was declared is there, where the script says by its exit code that it did its work; one
/// that is missing takes nothing from the others. What was not declared is nobody's business.
pub(crate) fn check(description: &ScriptDescription) -> Option<OutputCheck> {
    if description.outputs.is_empty() {
        return None;
    }
    let declared = description.outputs.clone();
    Some(Arc::new(move |written, outcome| {
        let mut told = mistyped(&declared, written);
        let is_bad = !told.is_empty();
        if *outcome == (Outcome::Exited { code: 0 }) {
            told.extend(missing(&declared, written));
        }
        if is_bad {
            written.clear();
        }
        (!told.is_empty()).then(|| format!("output.env: {}", told.join("; ")))
    }))
}

fn mistyped(declared: &[Output], written: &OutputParams) -> Vec<String> {
    let is_wrong =
        |output: &&Output| written.get(&output.name).is_some_and(|value| !output.value_type.reads(value));
    let told = |output: &Output| {
        format!("{} is not {}, as the script declares", output.name, output.value_type.rule().1)
    };
    declared.iter().filter(is_wrong).map(told).collect()
}

fn missing(declared: &[Output], written: &OutputParams) -> Vec<String> {
    let is_missing = |output: &&Output| !written.contains_key(&output.name);
    let told = |output: &Output| format!("{} is missing, which the script declares", output.name);
    declared.iter().filter(is_missing).map(told).collect()
}
