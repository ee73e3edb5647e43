//! The grammar of commands about tasks of a service.

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueHint};

use super::Server;

#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// Submit a task; prints its id
    Submit(SubmitArgs),
    /// List tasks, newest first
    List(TaskListArgs),
    /// Show one task
    Show(TaskArgs),
    /// Print a task's log
    Logs(LogsArgs),
    /// Cancel a task; a second time kills it at once
    Cancel(TaskArgs),
    /// Run a task again as it was asked for, under a new id; prints that
    Rerun(RerunArgs),
    /// Give up a task whose node does not come back; it ends as lost
    Abandon(TaskArgs),
    /// Print the script that reproduces a task by hand
    DebugScript(OneTask),
}

/// A task of a service.
#[derive(Debug, Args)]
pub(crate) struct OneTask {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The task's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    pub(crate) one: OneTask,
    /// Print the task as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is said of any task that is made.
#[derive(Debug, Args)]
pub(crate) struct NewTaskArgs {
    /// Repeat the name of a destructive script
    #[arg(long, value_name = "NAME")]
    pub(crate) confirm: Option<String>,
    /// Follow the log until the task ends, and exit with the script's code
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Print the task as JSON instead of its id
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RerunArgs {
    #[command(flatten)]
    pub(crate) one: OneTask,
    #[command(flatten)]
    pub(crate) new: NewTaskArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    pub(crate) server: Server,
    /// The wanted id; the same id and task twice run once
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Set a parameter
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// Set a secret parameter from a file, or from standard input with @-
    #[arg(long = "secret", value_name = "NAME=@FILE")]
    pub(crate) secrets: Vec<String>,
    /// Set a variable for the script
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Add a label
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// End the script after this time, such as 30s or 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Work in the shared workspace of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) work_dir: Option<String>,
    /// What to do while that workspace is in use: wait, or refuse
    #[arg(long, value_name = "WHAT", value_parser = ["wait", "refuse"])]
    pub(crate) on_busy: Option<String>,
    /// Try again so many times when it fails; a script's own number is the most
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// Leave a script that reproduces the run by hand
    #[arg(long)]
    pub(crate) debug_script: bool,
    /// Run it on this node
    #[arg(long, value_name = "NAME", conflicts_with = "node_labels")]
    pub(crate) node: Option<String>,
    /// Run it on the least loaded of the nodes with this label; repeated, with all of them
    #[arg(long = "node-label", value_name = "NAME=VALUE")]
    pub(crate) node_labels: Vec<String>,
    /// Give it up when its node has been away for this time, such as 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) unreachable_after: Option<String>,
    #[command(flatten)]
    pub(crate) new: NewTaskArgs,
    /// The script's or runner's name, and behind it its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "NAME [ARGS]",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) one: OneTask,
    /// Follow it until the task ends, and exit with the script's code
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// With the lines that the agent writes before and behind
    #[arg(long)]
    pub(crate) banner: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TaskListArgs {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Only tasks in this state
    #[arg(long)]
    pub(crate) status: Option<String>,
    /// Only tasks of this script or runner
    #[arg(long, value_hint = ValueHint::CommandName)]
    pub(crate) name: Option<String>,
    /// Only tasks with this label
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(crate) labels: Vec<String>,
    /// Only tasks since then, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only tasks of this node
    #[arg(long)]
    pub(crate) node: Option<String>,
    /// Only tasks with all these words; the last may be the beginning of one
    #[arg(long, value_name = "WORDS")]
    pub(crate) search: Option<String>,
    /// How many at most
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
