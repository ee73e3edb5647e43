//! Relations between parameters: whom a selector of `#USAGE` means, and which relations contradict themselves.

use crate::description::{Parameter, Relations, ScriptDescription};
use crate::header::BrokenReason;
use crate::header::usage::{parameter_name, spellings};

/// Replaces the selectors of all relations, flags with their hyphens or names of arguments, by names of parameters.
pub(super) fn settle(
    declared_at: &[u64],
    description: &mut ScriptDescription,
    broken: &mut Vec<BrokenReason>,
) {
    let declared = description.parameters.clone();
    for (parameter, line) in description.parameters.iter_mut().zip(declared_at) {
        let mut reasons = Vec::new();
        let name = parameter.name.clone();
        for (key, selectors) in lists(&mut parameter.relations) {
            for selector in selectors {
                match meant(selector, &declared) {
                    Some(other) if other.name != name => selector.clone_from(&other.name),
                    Some(_) => reasons.push(format!("`{key}` of {name} names {name} itself")),
                    None => reasons.push(format!(
                        "`{key}` of {name} names {}, which no #USAGE line declares",
                        selector.escape_debug()
                    )),
                }
            }
        }
        reasons.extend(contradictions(parameter));
        broken.extend(reasons.into_iter().map(|reason| BrokenReason { line: Some(*line), reason }));
    }
}

fn lists(relations: &mut Relations) -> [(&'static str, &mut Vec<String>); 4] {
    let Relations { conflicts, requires, required_if, required_unless } = relations;
    [
        ("conflicts", conflicts),
        ("requires", requires),
        ("required_if", required_if),
        ("required_unless", required_unless),
    ]
}

fn meant<'a>(selector: &str, declared: &'a [Parameter]) -> Option<&'a Parameter> {
    let is_spelled = |parameter: &&Parameter| spellings(parameter).any(|spelling| spelling == selector);
    if selector.starts_with('-') {
        return declared.iter().find(is_spelled);
    }
    let name = parameter_name(selector).ok()?;
    declared.iter().find(|parameter| parameter.name == name)
}

/// Relations by which the parameter could never be given, or never be left out.
fn contradictions(parameter: &Parameter) -> impl Iterator<Item = String> {
    let Relations { conflicts, requires, required_if, .. } = &parameter.relations;
    let wanted = requires.iter().map(|other| (other, "requires"));
    let wanted = wanted.chain(required_if.iter().map(|other| (other, "is required with")));
    wanted
        .filter(|(other, _)| conflicts.contains(other))
        .map(|(other, wants)| format!("{} {wants} {other}, and conflicts with it", parameter.name))
}
