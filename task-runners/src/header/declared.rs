//! Arguments and flags as `usage` reads them. What is written with common keys only is taken from the nodes; the rest
//! goes through the parser of `usage`, all of it at once. That parser takes text only, so that each node would be
//! parsed twice by it, and once more by itself.

use std::collections::VecDeque;

use usage::kdl::{KdlNode, KdlValue};
use usage::{Spec, SpecArg, SpecChoices, SpecFlag};

/// One argument or flag.
#[derive(Debug)]
pub(super) enum Declaration {
    Arg(Box<SpecArg>),
    Flag(Box<SpecFlag>),
}

/// The arguments and flags of a block, each kind in its order; none where one has to be read by itself, so that its
/// mistake is told with its place.
#[derive(Default)]
pub(super) struct Declared {
    args: VecDeque<Option<SpecArg>>,
    flags: VecDeque<Option<SpecFlag>>,
}

impl Declared {
    /// Reads those among the nodes.
    pub(super) fn of<'a>(nodes: impl Iterator<Item = &'a KdlNode>) -> Self {
        let (mut declared, mut rest) = (Self::default(), String::new());
        for node in nodes {
            let is_read = match node.name().value() {
                "arg" => pushed(&mut declared.args, Keys::of(node).and_then(Keys::arg)),
                "flag" => pushed(&mut declared.flags, Keys::of(node).and_then(Keys::flag)),
                _ => true,
            };
            if !is_read {
                rest.push_str(&node.to_string());
                rest.push('\n');
            }
        }
        if let Ok(spec) = rest.parse::<Spec>() {
            fill(&mut declared.args, spec.cmd.args);
            fill(&mut declared.flags, spec.cmd.flags);
        }
        declared
    }

    /// What the next node declares, if that is known.
    pub(super) fn next(&mut self, node: &KdlNode) -> Option<Declaration> {
        match node.name().value() {
            "arg" => self.args.pop_front().flatten().map(|arg| Declaration::Arg(Box::new(arg))),
            "flag" => self.flags.pop_front().flatten().map(|flag| Declaration::Flag(Box::new(flag))),
            _ => None,
        }
    }
}

fn pushed<T>(queue: &mut VecDeque<Option<T>>, read: Option<T>) -> bool {
    let is_read = read.is_some();
    queue.push_back(read);
    is_read
}

/// Puts what was read into the gaps, if it is one for each.
fn fill<T>(queue: &mut VecDeque<Option<T>>, read: Vec<T>) {
    let gaps = queue.iter_mut().filter(|place| place.is_none());
    let gaps: Vec<&mut Option<T>> = gaps.collect();
    if gaps.len() == read.len() {
        gaps.into_iter().zip(read).for_each(|(gap, read)| *gap = Some(read));
    }
}

/// `choices "a" "b"`.
fn plain_choices(node: &KdlNode) -> Option<SpecChoices> {
    if node.name().value() != "choices" || node.children().is_some() || node.entries().is_empty() {
        return None;
    }
    let value = |entry: &usage::kdl::KdlEntry| {
        entry.name().is_none().then(|| entry.value().as_string().map(str::to_owned)).flatten()
    };
    node.entries().iter().map(value).collect::<Option<Vec<String>>>().map(SpecChoices::new)
}

/// The keys that nearly all declarations have.
#[derive(Default)]
struct Keys {
    spelling: String,
    default: Option<String>,
    help: Option<String>,
    hide: Option<bool>,
    required: Option<bool>,
    var: Option<bool>,
    choices: Option<SpecChoices>,
}

impl Keys {
    /// Those of a node that has no others, each of them once and with a value of its kind.
    fn of(node: &KdlNode) -> Option<Self> {
        let (spelling, properties) = node.entries().split_first()?;
        if node.entries().iter().any(|entry| entry.ty().is_some()) || spelling.name().is_some() {
            return None;
        }
        let mut keys = Self { spelling: spelling.value().as_string()?.to_owned(), ..Self::default() };
        for property in properties {
            keys.take(property.name()?.value(), property.value())?;
        }
        keys.choices = match node.children().map(|children| children.nodes()) {
            None => None,
            Some([node]) => Some(plain_choices(node)?),
            Some(_) => return None,
        };
        Some(keys)
    }

    fn take(&mut self, name: &str, value: &KdlValue) -> Option<()> {
        let text = || value.as_string().map(str::to_owned);
        match name {
            "default" => once(&mut self.default, text()),
            "help" => once(&mut self.help, text()),
            "hide" => once(&mut self.hide, value.as_bool()),
            "required" => once(&mut self.required, value.as_bool()),
            "var" => once(&mut self.var, value.as_bool()),
            _ => None,
        }
    }

    fn arg(self) -> Option<SpecArg> {
        // With several placeholders it takes that many values.
        if self.spelling.contains(char::is_whitespace) {
            return None;
        }
        let mut arg: SpecArg = self.spelling.parse().ok()?;
        arg.required = self.required.unwrap_or(arg.required) && self.default.is_none();
        arg.var = self.var.unwrap_or(arg.var);
        arg.hide = self.hide.unwrap_or(arg.hide);
        arg.help = self.help;
        arg.default = self.default.into_iter().collect();
        arg.choices = self.choices;
        Some(arg)
    }

    fn flag(self) -> Option<SpecFlag> {
        let mut flag: SpecFlag = self.spelling.parse().ok()?;
        flag.required = self.required.unwrap_or(flag.required) && self.default.is_none();
        flag.var = self.var.unwrap_or(flag.var);
        flag.hide = self.hide.unwrap_or(flag.hide);
        flag.help = self.help;
        flag.default = self.default.into_iter().collect();
        if self.choices.is_some() {
            flag.arg.as_mut()?.choices = self.choices;
        }
        Some(flag)
    }
}

fn once<T>(place: &mut Option<T>, value: Option<T>) -> Option<()> {
    (place.is_none() && value.is_some()).then(|| *place = value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use usage::kdl::KdlDocument;

    use super::*;

    fn declarations() -> impl Strategy<Value = String> {
        let spelling = prop_oneof![
            4 => "(-[a-z] )?--[a-z]{1,3}( <[a-z]{1,3}>)?(…)?",
            3 => "(<[a-z]{1,3}>|\\[[a-z]{1,3}\\])(…|\\.\\.\\.)?",
            1 => "(-- )?<[a-z]> (<[b-d]>|\\[[a-z]\\])",
            1 => "-[a-z]( \\[[a-z]\\]|=<[a-z]>|\\[=[a-z]\\])?",
            1 => "[-a-z<>\\[\\]=… .]{0,8}",
        ];
        let key = prop_oneof![
            4 => "help=\"[a-z ]{0,5}\"",
            3 => "default=\"[a-z -]{0,3}\"",
            4 => "(hide|required|var)=#(true|false)",
            1 => "(count=#true|effect=\"read\"|default=#true|default=1|negate=\"--no\"|var_min=1|help=\\(t\\)\"x\")",
        ];
        let below = prop_oneof![
            5 => Just(String::new()),
            3 => " \\{ choices( \"[a-z]{1,3}\"){0,3} \\}",
            1 => " \\{ (help \"h\"|default \"x\"|choices \"a\" \\{ choice \"b\" help=\"c\" \\}|) \\}",
        ];
        let keys = prop::collection::vec(key, 0..4).prop_map(|keys| keys.join(" "));
        ("(arg|flag)", spelling, keys, below)
            .prop_map(|(name, spelling, keys, below)| format!("{name} \"{spelling}\" {keys}{below}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        #[test]
        fn what_is_taken_from_a_node_usage_reads_as_the_same(text in declarations()) {
            let document: KdlDocument = text.parse().expect("it is KDL");
            let node = &document.nodes()[0];
            if node.name().value() == "arg" {
                if let Some(mut taken) = Keys::of(node).and_then(Keys::arg) {
                    let spec: Spec = text.parse().expect("it is a declaration");
                    taken.help_first_line = spec.cmd.args[0].help_first_line.clone();
                    taken.usage = spec.cmd.args[0].usage.clone();
                    prop_assert_eq!(format!("{taken:?}"), format!("{:?}", spec.cmd.args[0]), "{}", text);
                }
            } else if let Some(mut taken) = Keys::of(node).and_then(Keys::flag) {
                let spec: Spec = text.parse().expect("it is a declaration");
                taken.help_first_line = spec.cmd.flags[0].help_first_line.clone();
                taken.usage = spec.cmd.flags[0].usage.clone();
                prop_assert_eq!(format!("{taken:?}"), format!("{:?}", spec.cmd.flags[0]), "{}", text);
            }
        }
    }

    #[test]
    fn what_nearly_all_headers_have_is_taken_from_the_nodes() {
        for text in [
            r#"arg "<service>" help="Service name" { choices "web" "api" }"#,
            r#"arg "[file]…" default="-" hide=#false"#,
            r#"flag "-e --env <env>" help="Target" default="staging" { choices "staging" "prod" }"#,
            r#"flag "-v --verbose" var=#true required=#false"#,
        ] {
            let document: KdlDocument = text.parse().expect("it is KDL");
            assert!(Keys::of(&document.nodes()[0]).is_some(), "{text}");
        }
    }
}
