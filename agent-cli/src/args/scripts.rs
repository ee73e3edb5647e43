//! The grammar of commands about scripts, and of those by which shells and manuals know this program.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{Server, Trust};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) last: Last,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The script's name
    #[arg(value_hint = ValueHint::CommandName)]
    pub(crate) script: String,
    #[command(flatten)]
    pub(crate) last: Last,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which service, and which of its nodes, is asked for scripts and how they ended last.
#[derive(Debug, Default, Args)]
pub(crate) struct Last {
    /// Ask the service at this address instead, and show how a script ended last there
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with the token [default: the file that the service on this host made]
    #[arg(long, value_name = "FILE", requires = "server")]
    pub(crate) token_file: Option<PathBuf>,
    /// The scripts of this node of the service
    #[arg(long, value_name = "NAME", requires = "server", conflicts_with = "node_labels")]
    pub(crate) node: Option<String>,
    /// The scripts of the nodes with this label; repeated, with all of them
    #[arg(long = "node-label", value_name = "NAME=VALUE", requires = "server")]
    pub(crate) node_labels: Vec<String>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

impl Last {
    /// The same as every other command names a service.
    pub(crate) fn to_server(&self) -> Server {
        let Self { server, token_file, trust, .. } = self;
        Server { server: server.clone(), token_file: token_file.clone(), trust: trust.clone() }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing is broken, 1 something is; with --strict, a warning too. Nothing is run.\n\n\
    Examples:\n  agent-cli lint\n  agent-cli lint deploy/web.sh\n  agent-cli lint ./not-yet-in-the-folder.sh"
)]
pub(crate) struct LintArgs {
    /// Names of scripts, or paths of files elsewhere, with a '/' in them [default: the whole scripts folder]
    #[arg(value_name = "SCRIPT", value_hint = ValueHint::CommandName)]
    pub(crate) names: Vec<PathBuf>,
    /// Fail for warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The new script's name, such as deploy/web.sh
    pub(crate) script: String,
    /// What runs it [default: what the name's ending says, else bash]
    #[arg(long, value_enum)]
    pub(crate) interpreter: Option<Interpreter>,
}

/// Languages that there are templates for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interpreter {
    Bash,
    Sh,
    Python,
}

#[derive(Debug, Args)]
#[command(
    after_help = "To have it in each new shell:\n  bash  echo 'source <(agent-cli completions bash)' >>~/.bashrc\n  zsh   \
    echo 'source <(agent-cli completions zsh)' >>~/.zshrc, behind compinit\n  fish  agent-cli completions fish \
    >~/.config/fish/completions/agent-cli.fish"
)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: ShellKind,
}

/// Shells that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShellKind {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Write the pages of all commands into this folder instead
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) dir: Option<PathBuf>,
}

/// What the shells' own functions ask with: for bash the line up to the cursor and its COMP_WORDBREAKS, for the others
/// the words before the cursor and what there is of the one at it.
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    #[arg(value_enum)]
    pub(crate) shell: ShellKind,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<OsString>,
}
