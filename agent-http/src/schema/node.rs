//! Nodes as lists show them, and how tasks name them.

use std::collections::BTreeMap;

use utoipa::ToSchema;

/// An agent that takes tasks from this one.
#[derive(ToSchema)]
pub(crate) struct Node {
    /// Its name: that of its token.
    name: String,
    /// Whether it is connected.
    connected: bool,
    /// Since when, where it is.
    #[schema(required, format = DateTime)]
    since: Option<String>,
    /// Whether it takes no new tasks.
    draining: bool,
    /// Tasks that were handed to it and have not ended here.
    running: u64,
    /// Its labels, as it said last.
    labels: BTreeMap<String, String>,
    /// Names of its runners.
    runners: Vec<String>,
    /// Most tasks that it runs at once, as it said last.
    #[schema(required)]
    capacity: Option<u64>,
    /// The version of its agent.
    #[schema(required)]
    agent: Option<String>,
    /// The scripts that it offers, with their SHA-256.
    scripts: BTreeMap<String, String>,
}

/// What is to be done with a node.
#[derive(ToSchema)]
pub(crate) struct Drain {
    /// Whether it is to take no new tasks; true when left out.
    enabled: Option<bool>,
}

/// A page of nodes, by name.
#[derive(ToSchema)]
pub(crate) struct NodePage {
    nodes: Vec<Node>,
    /// The `cursor` of the next page; null when this is the last one.
    #[schema(required)]
    next: Option<String>,
}

/// Where a task is to run: on a node, by its name, or on the least loaded one of those that have some labels. Exactly one of
/// both is given.
#[derive(ToSchema)]
pub(crate) struct Target {
    /// The node's name.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    node: Option<String>,
    /// Labels that the node must have all of, one at least.
    labels: Option<BTreeMap<String, String>>,
}
