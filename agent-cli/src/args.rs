//! The grammar of the command line, and its help.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

mod nodes;
mod scripts;
mod tasks;

pub(crate) use nodes::{DrainArgs, NodeArgs, NodeCommand, NodeListArgs, OneNode, RemoveArgs};
pub(crate) use scripts::{
    CompleteArgs, CompletionsArgs, Interpreter, Last, LintArgs, ListArgs, ManArgs, NewArgs, ShellKind,
    ShowArgs,
};
pub(crate) use tasks::{LogsArgs, OneTask, RerunArgs, SubmitArgs, TaskArgs, TaskCommand, TaskListArgs};

/// Runs vetted scripts, keeps their manifest, and talks to the agent's HTTP service.
#[derive(Debug, Parser)]
#[command(name = "agent-cli", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Configuration file [default: etc/application.toml here, else /etc/devops-agent/application.toml]
    #[arg(long, global = true, help_heading = "Settings", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder with the scripts, instead of the configured one
    #[arg(long, global = true, help_heading = "Settings", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) scripts: Option<PathBuf>,
    /// Folder for the agent's own records, instead of the configured one
    #[arg(long, global = true, help_heading = "Settings", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a script here, show its output while it is written, and exit with its code
    Run(Box<RunArgs>),
    /// List the scripts
    List(ListArgs),
    /// Show one script: where it is, its digest, whether it is verified, and what it says about itself
    Show(ShowArgs),
    /// Name what is wrong with scripts, as an editor or a pipeline reads it
    Lint(LintArgs),
    /// Make a new script from a template that describes itself
    New(NewArgs),
    /// Make, check and sign the list of digests that vouches for the scripts
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Submit, watch and cancel tasks of the HTTP service
    #[command(subcommand)]
    Task(Box<TaskCommand>),
    /// List and drain the nodes of the HTTP service
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make tokens for the HTTP service
    #[command(subcommand)]
    Token(TokenCommand),
    /// Copy the state folder: history, records, tokens; a service may work on it meanwhile
    Backup(BackupArgs),
    /// Make the state folder from a backup, where there is none or it is empty
    Restore(BackupArgs),
    /// Print what a shell needs to complete commands, scripts, and what stands behind a script's name
    Completions(CompletionsArgs),
    /// Print the manual page, or write all of them into a folder
    Man(ManArgs),
    #[command(name = "__complete", hide = true)]
    Complete(CompleteArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Everything behind the script's name is the script's, --help too.\n\nExit codes: the script's own; 124 \
    timed out, 125 the agent failed, 126 refused or not executable, 127 no such script, 128+n ended by signal n, 130 \
    cancelled.\n\nExamples:\n  agent-cli run deploy/web.sh --replicas 3\n  agent-cli run --timeout 10m --work-dir web \
    deploy/web.sh\n  agent-cli run --dry-run deploy/web.sh"
)]
pub(crate) struct RunArgs {
    /// Set a declared parameter
    #[arg(long = "param", value_name = "NAME=VALUE")]
    pub(crate) params: Vec<String>,
    /// Set a secret parameter from a file, or from standard input with @-
    #[arg(long = "secret", value_name = "NAME=@FILE")]
    pub(crate) secrets: Vec<String>,
    /// Set a variable for the script
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// End the script after this time, such as 30s or 10m
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<String>,
    /// Work in the shared workspace of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) work_dir: Option<String>,
    /// Leave a debug.sh in the record that reproduces the run by hand
    #[arg(long)]
    pub(crate) debug_script: bool,
    /// Print the task with its result as JSON instead of the script's output
    #[arg(long)]
    pub(crate) json: bool,
    /// Show what would run, and run nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run a destructive script without being asked
    #[arg(long)]
    pub(crate) yes: bool,
    /// The script's name, and behind it its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "SCRIPT [ARGS]",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(crate) words: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ManifestCommand {
    /// Write MANIFEST.sha256 for a scripts folder as it is now
    Create {
        /// The scripts folder [default: the configured one]
        #[arg(value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
        /// When the manifest stops being accepted, such as 2027-01-01T00:00:00Z
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// The lowest version that it gets, where a newer one than the one there was accepted before
        #[arg(long, value_name = "VERSION", default_value_t = 0, hide_default_value = true)]
        at_least: u64,
    },
    /// Check a scripts folder against its manifest, and name everything that is wrong
    Verify {
        /// The scripts folder [default: the configured one]
        #[arg(value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
        /// Insist on a signature by one of these minisign keys [default: the configured ones]
        #[arg(long = "public-key", value_name = "KEY")]
        public_keys: Vec<String>,
    },
    /// Sign the manifest of a scripts folder, as minisign does
    Sign {
        /// The scripts folder [default: the configured one]
        #[arg(value_hint = ValueHint::DirPath)]
        folder: Option<PathBuf>,
        /// The secret key's file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Read the key's password from this file, or from standard input with -
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Make a pair of keys for signing
    Keygen {
        /// Where the secret key goes
        #[arg(long, value_name = "FILE", default_value = "minisign.key")]
        secret: PathBuf,
        /// Where the public key goes
        #[arg(long, value_name = "FILE", default_value = "minisign.pub")]
        public: PathBuf,
        /// Lock the secret key with the password in this file, or on standard input with -
        #[arg(long, value_name = "FILE", required_unless_present = "no_password")]
        password_file: Option<PathBuf>,
        /// Do not lock the secret key
        #[arg(long, conflicts_with = "password_file")]
        no_password: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Server {
    /// The service's address, or unix:PATH of its socket [default: the configured one on this host]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File with the token [default: the file that the service on this host made]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: Trust,
}

/// Whom the client trusts over TLS, and what it presents.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Trust {
    /// File with the CA that signed the service's certificate, in PEM [default: the CAs of the web]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// File with a certificate to present, in PEM; then a token is sent only with --token-file
    #[arg(long, value_name = "FILE", requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// File with that certificate's private key, in PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token: prints it once, and what goes into the configuration
    Create(TokenArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The backup's folder
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Who it is for; tasks carry this name
    #[arg(long)]
    pub(crate) name: String,
    /// What it permits: run, read, cancel, admin or node
    #[arg(long = "scope", required = true, value_name = "SCOPE")]
    pub(crate) scopes: Vec<String>,
    /// Scripts that it sees: * within a folder, ** across folders
    #[arg(long = "script", value_name = "PATTERN")]
    pub(crate) patterns: Vec<String>,
    /// Shared workspaces that it may name
    #[arg(long = "work-dir", value_name = "NAME")]
    pub(crate) work_dirs: Vec<String>,
    /// Variables that it may set, such as DEPLOY_*
    #[arg(long = "env", value_name = "PATTERN")]
    pub(crate) env: Vec<String>,
    /// From when on it is not accepted, such as 2027-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
