//! What of a `#USAGE` block is taken. Everything else breaks the script: `usage` runs commands, reads files and
//! the environment for some of its keys, and a key that is not checked would be a promise that nobody keeps.

use usage::kdl::KdlNode;

use crate::header::BrokenReason;
use crate::header::lines::Block;

/// What may stand below a node or among its properties, by name.
type Keys = &'static [(&'static str, Below)];

/// What may stand in a node of some name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Below {
    /// Values only.
    Nothing,
    /// Words as nodes without anything, as in `default { "a"; "b" }`.
    Words,
    /// These keys.
    These(Keys),
}

/// Nodes of the block itself.
pub(super) const ROOT: Keys = &[
    ("about", Below::Nothing),
    ("about_md", Below::Nothing),
    ("after_help", Below::Nothing),
    ("after_long_help", Below::Nothing),
    ("arg", Below::These(ARG)),
    ("author", Below::Nothing),
    ("before_help", Below::Nothing),
    ("before_long_help", Below::Nothing),
    ("bin", Below::Nothing),
    ("flag", Below::These(FLAG)),
    ("license", Below::Nothing),
    ("long_about", Below::Nothing),
    ("min_usage_version", Below::Nothing),
    ("name", Below::Nothing),
    ("unknown_flags", Below::Nothing),
    ("version", Below::Nothing),
];

const ARG: Keys = &[
    ("allow_negative_numbers", Below::Nothing),
    ("choices", Below::These(CHOICES)),
    ("conflicts", Below::Nothing),
    ("default", Below::Words),
    ("display_order", Below::Nothing),
    ("double_dash", Below::Nothing),
    ("effect", Below::Nothing),
    ("help", Below::Nothing),
    ("help_heading", Below::Nothing),
    ("help_long", Below::Nothing),
    ("help_md", Below::Nothing),
    ("hide", Below::Nothing),
    ("long_help", Below::Nothing),
    ("required", Below::Nothing),
    ("required_if", Below::Nothing),
    ("required_unless", Below::Nothing),
    ("requires", Below::Nothing),
    ("var", Below::Nothing),
    ("var_max", Below::Nothing),
    ("var_min", Below::Nothing),
];

const FLAG: Keys = &[
    ("alias", Below::These(&[("hide", Below::Nothing)])),
    ("allow_hyphen_values", Below::Nothing),
    ("arg", Below::These(ARG)),
    ("choices", Below::These(CHOICES)),
    ("conflicts", Below::Nothing),
    ("count", Below::Nothing),
    ("default", Below::Words),
    ("display_order", Below::Nothing),
    ("effect", Below::Nothing),
    ("help", Below::Nothing),
    ("help_heading", Below::Nothing),
    ("help_long", Below::Nothing),
    ("help_md", Below::Nothing),
    ("hide", Below::Nothing),
    ("long_help", Below::Nothing),
    ("negate", Below::Nothing),
    ("require_equals", Below::Nothing),
    ("required", Below::Nothing),
    ("required_if", Below::Nothing),
    ("required_unless", Below::Nothing),
    ("requires", Below::Nothing),
    ("var", Below::Nothing),
    ("var_max", Below::Nothing),
    ("var_min", Below::Nothing),
];

const CHOICES: Keys = &[("choice", Below::These(&[("help", Below::Nothing), ("hide", Below::Nothing)]))];

/// Keys of `usage` that reach out of the header, and why each is refused.
const REACHES_OUT: &[(&str, &str)] = &[
    ("cmd", "a script is one command; make each subcommand a script"),
    ("complete", "it runs a command for completion"),
    ("config", "it reads configuration files"),
    ("config_file", "it reads configuration files"),
    ("delegate", "it runs a command for completion"),
    ("deprecated_env", "it reads the environment of the agent"),
    ("env", "it reads the environment of the agent; use `default`, or let callers set it by #TASK env"),
    ("env_fallback", "it reads the environment of the agent"),
    ("include", "it reads another file, which nobody verified with this one"),
    ("mount", "it runs a command to learn about the script"),
    ("output", "it reads a schema from a file; declare outputs by #TASK output.NAME"),
    ("run", "it runs a command to learn about the script"),
    ("validate", "it is not checked by this agent; use #TASK pattern.NAME"),
];

/// Everything in a node of the block that is not taken.
pub(super) fn refused(block: &Block, node: &KdlNode) -> Vec<BrokenReason> {
    let mut broken = Vec::new();
    check_keys(block, node, "a #USAGE block", ROOT, &mut broken);
    broken
}

/// Checks a node, which is to be one of these keys, and all that stands in it.
fn check_keys(block: &Block, node: &KdlNode, place: &str, keys: Keys, broken: &mut Vec<BrokenReason>) {
    let name = node.name().value();
    let refuse = |offset: usize, reason: String, broken: &mut Vec<BrokenReason>| {
        broken.push(BrokenReason { line: Some(block.line_at(offset)), reason });
    };
    let Some(below) = below(keys, name) else {
        refuse(node.name().span().offset(), refusal(name, place, keys), broken);
        return;
    };
    let place = format!("`{name}`");
    for property in node.entries().iter().filter_map(|entry| entry.name()) {
        let allowed = if let Below::These(keys) = below { keys } else { &[] };
        if self::below(allowed, property.value()).is_none() {
            refuse(property.span().offset(), refusal(property.value(), &place, allowed), broken);
        }
    }
    for child in node.children().map(|children| children.nodes()).unwrap_or_default() {
        match below {
            Below::These(keys) => check_keys(block, child, &place, keys, broken),
            Below::Words if child.entries().is_empty() && child.children().is_none() => {}
            Below::Words | Below::Nothing => {
                refuse(
                    child.name().span().offset(),
                    format!("{place} holds values, and no nodes like this"),
                    broken,
                );
            }
        }
    }
}

fn below(keys: Keys, name: &str) -> Option<Below> {
    keys.iter().find(|(known, _)| *known == name).map(|(_, below)| *below)
}

fn refusal(name: &str, place: &str, keys: Keys) -> String {
    let shown = name.escape_debug();
    if let Some((_, why)) = REACHES_OUT.iter().find(|(refused, _)| *refused == name) {
        return format!("`{shown}` is refused: {why}");
    }
    let known: Vec<&str> = keys.iter().map(|(name, _)| *name).collect();
    if known.is_empty() {
        return format!("`{shown}` is nothing that {place} takes; it takes values only");
    }
    format!("`{shown}` is nothing that {place} takes; it takes {}", known.join(", "))
}
