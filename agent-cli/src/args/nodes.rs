//! The grammar of commands about nodes.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the nodes that have ever connected
    List(NodeListArgs),
    /// Show one node, with the scripts that it offers
    Show(NodeArgs),
    /// Have a node take no new tasks; what it has goes on
    Drain(DrainArgs),
    /// Have the service forget a node that is away and has no tasks: its key, labels and scripts
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(crate) struct NodeListArgs {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A node of a service.
#[derive(Debug, Args)]
pub(crate) struct OneNode {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The node's name
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) one: OneNode,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Have it take new tasks again
    #[arg(long)]
    pub(crate) undo: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) one: OneNode,
    /// Do so without being asked
    #[arg(long)]
    pub(crate) yes: bool,
}
