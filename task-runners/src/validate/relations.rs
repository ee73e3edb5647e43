//! Relations between parameters: what cannot be given together, and what must be. Read as `usage` reads them, which a test
//! compares: only what was given counts against a parameter, and a default satisfies a requirement.

use executor_core::Problem;

use crate::description::{Form, Parameter, ScriptDescription};
use crate::validate::{Given, field, values};

/// Every relation that the given values break.
pub(super) fn problems(description: &ScriptDescription, given: &Given) -> Vec<Problem> {
    let look = Look { description, given };
    description
        .parameters
        .iter()
        .zip(given)
        .flat_map(|(parameter, values)| look.at(parameter, values))
        .collect()
}

struct Look<'a> {
    description: &'a ScriptDescription,
    given: &'a Given,
}

impl Look<'_> {
    fn at(&self, parameter: &Parameter, values: &Option<Vec<String>>) -> Vec<Problem> {
        if is_given(parameter, values.as_ref()) {
            self.of_given(parameter)
        } else {
            self.of_missing(parameter).into_iter().collect()
        }
    }

    fn of_given(&self, parameter: &Parameter) -> Vec<Problem> {
        let relations = &parameter.relations;
        let problem = |rule, expected: String| Problem::new(field(parameter), rule, expected);
        let conflicts = relations.conflicts.iter().filter(|other| self.has(other));
        let conflicts =
            conflicts.map(|other| problem("conflict", format!("not given with {}", self.spelled(other))));
        let missing = relations.requires.iter().filter(|other| !self.has(other) && !self.has_default(other));
        let missing = missing.map(|other| problem("requires", format!("given with {}", self.spelled(other))));
        conflicts.chain(missing).collect()
    }

    /// What is required whatever else is given was told before.
    fn of_missing(&self, parameter: &Parameter) -> Option<Problem> {
        let relations = &parameter.relations;
        if parameter.required || parameter.has_default() {
            return None;
        }
        let unless = &relations.required_unless;
        let why = if let Some(other) = relations.required_if.iter().find(|other| self.has(other)) {
            format!("it is required with {}", self.spelled(other))
        } else if !unless.is_empty() && !unless.iter().any(|other| self.has(other)) {
            let others: Vec<&str> = unless.iter().map(|other| self.spelled(other)).collect();
            format!("it is required without {}", others.join(", "))
        } else {
            return None;
        };
        let expected = format!("{}: {why}", values::expected(parameter));
        Some(Problem::new(field(parameter), "required", expected))
    }

    /// Whether a parameter was given.
    fn has(&self, name: &str) -> bool {
        let mut parameters = self.description.parameters.iter().zip(self.given);
        parameters.any(|(parameter, values)| parameter.name == name && is_given(parameter, values.as_ref()))
    }

    fn has_default(&self, name: &str) -> bool {
        self.description.parameter(name).is_some_and(Parameter::has_default)
    }

    fn spelled<'a>(&'a self, name: &'a str) -> &'a str {
        self.description.parameter(name).map_or(name, Parameter::spelling)
    }
}

/// Whether a parameter stands, or would stand, among the arguments: a switch that is off without a spelling for that does
/// not, nor does a count of none.
fn is_given(parameter: &Parameter, values: Option<&Vec<String>>) -> bool {
    let Some(values) = values else { return false };
    let value = values.first().map(String::as_str);
    match &parameter.form {
        Form::Switch { negate: None, .. } => value != Some("false"),
        Form::Count(_) => value != Some("0"),
        _ => true,
    }
}
