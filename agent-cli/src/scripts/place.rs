//! Whose scripts a service is asked for: its own, or those of its nodes.

use std::collections::BTreeMap;
use std::fmt;

use task_runners::{Target, Task};

use crate::args::Last;
use crate::client::segment;
use crate::terminal::escaped_line;

/// See the module.
#[derive(Debug)]
pub(super) enum Place {
    Own,
    Node(String),
    /// The nodes with these labels, each as `NAME=VALUE`. What is wrong with one the service says.
    Pool(Vec<String>),
}

impl Place {
    pub(super) fn of(args: &Last) -> Self {
        match (&args.node, args.node_labels.as_slice()) {
            (Some(node), _) => Self::Node(node.clone()),
            (None, []) => Self::Own,
            (None, labels) => Self::Pool(labels.to_vec()),
        }
    }

    /// What asks for its scripts, behind other parameters of a query.
    pub(super) fn of_scripts(&self) -> String {
        match self {
            Self::Own => String::new(),
            Self::Node(node) => format!("&node={}", segment(node)),
            Self::Pool(labels) => labels.iter().map(|label| format!("&label={}", segment(label))).collect(),
        }
    }

    /// What asks for its tasks, as far as that can be asked for.
    pub(super) fn of_tasks(&self) -> String {
        if let Self::Node(_) = self { self.of_scripts() } else { String::new() }
    }

    /// Whether a task that came by that is one of this place: of a pool those are that were meant for it.
    pub(super) fn has(&self, task: &Task) -> bool {
        let Self::Pool(labels) = self else { return true };
        let pairs = labels.iter().filter_map(|label| label.split_once('='));
        let wanted: BTreeMap<_, _> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        task.spec.target == Some(Target::Labels(wanted))
    }
}

impl fmt::Display for Place {
    /// As it stands before what it has.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => write!(f, "the service has"),
            Self::Node(node) => write!(f, "the node {} has", escaped_line(node)),
            Self::Pool(labels) => write!(f, "the nodes with {} have", escaped_line(&labels.join(","))),
        }
    }
}
