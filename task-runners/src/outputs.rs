//! Whether a script wrote the output parameters that it declares.

use std::sync::Arc;

use executor_core::{Outcome, OutputCheck, OutputParams};

use crate::description::{Output, ScriptDescription};

/// What looks at the output parameters of such a script; none where it declares none.
///
/// What was declared and written is of its type. What was declared is there, where the script says by its exit code that
/// it did its work. What was not declared is nobody's business.
pub(crate) fn check(description: &ScriptDescription) -> Option<OutputCheck> {
    if description.outputs.is_empty() {
        return None;
    }
    let declared = description.outputs.clone();
    Some(Arc::new(move |written, outcome| {
        let succeeded = *outcome == Outcome::Exited { code: 0 };
        let wrong: Vec<String> =
            declared.iter().filter_map(|output| problem(output, written, succeeded)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(format!("output.env: {}", wrong.join("; "))) }
    }))
}

fn problem(output: &Output, written: &OutputParams, succeeded: bool) -> Option<String> {
    let Output { name, value_type, .. } = output;
    match written.get(name) {
        Some(value) if value_type.reads(value) => None,
        Some(_) => Some(format!("{name} is not {}, as the script declares", value_type.rule().1)),
        None if succeeded => Some(format!("{name} is missing, which the script declares")),
        None => None,
    }
}
