//! Nodes as lists show them.

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
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// Names of its runners.
    runners: Vec<String>,
    /// Most tasks that it runs at once; null where it has not connected since this agent was started.
    #[schema(required)]
    capacity: Option<u64>,
    /// The version of its agent.
    #[schema(required)]
    agent: Option<String>,
    /// The scripts that it offers, with their SHA-256.
    scripts: BTreeMap<String, String>,
}

/// All nodes that have ever connected.
#[derive(ToSchema)]
pub(crate) struct NodeList {
    nodes: Vec<Node>,
}
