//! The settings as plain data: what the programs get once every source was read and checked.
//!
//! Defaults are not here but in `etc/application.toml`, which is their only statement.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use executor_core::Leftovers;

use crate::hook::Hook;
use crate::token::Token;

/// Everything that can be set, section by section. Made by [`Settings::load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[app]`: this agent.
    pub app: App,
    /// `[http]`: the HTTP service.
    pub http: Http,
    /// `[tls]`: encryption between callers and the service.
    pub tls: Tls,
    /// `[script_executor]`: how scripts are found and run.
    pub script_executor: ScriptExecutor,
    /// `[limits]`: bounds on what the agent takes at one time.
    pub limits: Limits,
    /// `[retention]`: how long the service keeps things after a task ended, and how much of them.
    pub retention: Retention,
    /// `[audit]`: how much is kept of who asked for what.
    pub audit: Audit,
    /// `[log]`: what the service says while it runs.
    pub log: Log,
    /// `[auth]`: who may do what.
    pub auth: Auth,
    /// `[[hook]]`: what programs start by signed requests, in the order of the file. No two have the same name.
    pub hooks: Vec<Hook>,
    /// `[node]`: the API server that this agent takes tasks from.
    pub node: Node,
}

/// `[app]`: this agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// What scripts find in `TASK_NODE`: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
    pub name: String,
}

/// `[http]`: the HTTP service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// The address to listen on. Loopback, unless the service or a [proxy](Self::behind_tls_proxy) speaks TLS.
    pub host: IpAddr,
    /// The port to listen on; 0 lets the system choose a free one.
    pub port: u16,
    /// The Unix socket to listen on as well; absolute when the current folder is.
    pub socket: Option<PathBuf>,
    /// The mode of the socket's file: who may read and write it, so at most 0666. Whoever may write it may connect.
    pub socket_mode: u32,
    /// The group of the socket's file; none leaves it to the system.
    pub socket_group: Option<String>,
    /// A proxy in front of the service speaks TLS with the callers.
    pub behind_tls_proxy: bool,
    /// Accepted names in the `Host` header beside loopback names and IP addresses; in small letters, without port.
    pub hosts: Vec<String>,
    /// Accepted `Origin` headers beside the service's own, as browsers send them: in small letters, without a slash at
    /// the end and without the port that goes without saying.
    pub origins: Vec<String>,
    /// `/metrics` is served without a token.
    pub public_metrics: bool,
}

/// `[tls]`: encryption between callers and the service. The paths are absolute when the current folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The file with the service's certificate and those that lead to its CA, in PEM. None is plain HTTP.
    pub certificate: Option<PathBuf>,
    /// The file with the certificate's private key, in PEM. There is one exactly where there is a certificate.
    pub key: Option<PathBuf>,
    /// The file with the CAs of callers' certificates, in PEM. None asks nobody for a certificate.
    pub client_ca: Option<PathBuf>,
}

/// `[script_executor]`: how scripts are found and run. All folders are absolute when the current folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptExecutor {
    /// The folder for the working folders of tasks.
    pub work_dir_prefix: PathBuf,
    /// The folder with the scripts. It neither contains nor lies in the other two folders.
    pub script_dir_prefix: PathBuf,
    /// The folder for the agent's own records.
    pub state_dir: PathBuf,
    /// Whether scripts must match their manifest: always, never, or (none) when the folder has or once had one.
    pub is_verify_script_integrity: Option<bool>,
    /// Minisign public keys in base64. When there are any, the manifest must be signed by one of them.
    pub manifest_public_keys: Vec<String>,
    /// The `PATH` of scripts: absolute folders, separated by colons.
    pub path: String,
    /// How long a script may take when neither its header nor its caller says so.
    pub default_timeout: Duration,
    /// The longest time that a caller may ask for where the script's header names none.
    pub max_timeout: Duration,
    /// How long a script has between TERM and KILL.
    pub kill_grace: Duration,
    /// What becomes of processes that a script left behind.
    pub leftovers: Leftovers,
    /// How much of a script's output is kept in its log, in bytes.
    pub max_log_bytes: u64,
    /// Variables for every script of this site.
    pub env: SiteVariables,
}

/// Variables for every script of this site. Its `Debug` form shows the names only, since values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SiteVariables(BTreeMap<String, String>);

/// `[limits]`: bounds on what the agent takes at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How many tasks run at the same time; 0 is four for each core.
    pub concurrent: usize,
    /// How many tasks may wait.
    pub queue: usize,
    /// How many connections one peer may have; 0 leaves it to the service.
    pub connections_per_peer: usize,
    /// The largest body of an HTTP request, in bytes.
    pub body: u64,
    /// How long the service waits for running tasks when it is told to stop.
    pub drain: Duration,
}

/// `[retention]`: how long the service keeps things after a task ended, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Tasks in the history, and their records.
    pub tasks: Duration,
    /// Most tasks in the history; 0 sets no bound.
    pub max_tasks: u64,
    /// Most bytes of tasks in the history and in their records; 0 sets no bound.
    pub max_bytes: u64,
    /// Working folders that belong to one task.
    pub workspaces: Duration,
    /// Most of these folders, of tasks that have ended; 0 sets no bound.
    pub max_workspaces: u64,
    /// Most bytes that these folders take; 0 sets no bound.
    pub max_workspace_bytes: u64,
}

/// `[log]`: what the service says while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How it says it.
    pub format: LogFormat,
}

/// How the service says what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, for programs elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// A JSON object for each line.
    Json,
}

/// `[audit]`: how much is kept of who asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Size at which a file is put aside, in bytes.
    pub file_size: u64,
    /// How many files there are, with the one that is written; 1 at least.
    pub files: u32,
}

/// `[auth]`: who may do what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// `[[auth.token]]`: the tokens, in the order of the file. No two have the same name, digest, certificate,
    /// user or uid.
    pub tokens: Vec<Token>,
}

/// `[node]`: the API server that this agent takes tasks from. Without [one](Self::api_server) it takes none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `wss://` or, on this host, `ws://`, with host and port. With it there is a [`name`](Self::name), and a
    /// [`token_file`](Self::token_file), a [`certificate`](Self::certificate), or both.
    pub api_server: Option<String>,
    /// This node's name: that of its token.
    pub name: Option<String>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
    /// The file with the CAs of the API server's certificate, in PEM. There is one with `wss://`.
    pub ca: Option<PathBuf>,
    /// The file with the certificate that this node presents, and those that lead to its CA, in PEM.
    pub certificate: Option<PathBuf>,
    /// The file with the key of that certificate, in PEM. There is one with a certificate, and none without.
    pub key: Option<PathBuf>,
    /// `http://`, host and port of the proxy that leads to the API server.
    pub proxy: Option<String>,
    /// The file with what opens that proxy.
    pub proxy_credentials_file: Option<PathBuf>,
    /// Labels that targets of tasks may name.
    pub labels: BTreeMap<String, String>,
    /// The keys of API servers whose assignments are accepted. With none, the first one that is shown.
    pub assignment_public_keys: Vec<String>,
    /// Variables that tasks of the API server may set, besides those that the header of their script opens: names, and
    /// beginnings of names with a `*` behind.
    pub env: Vec<String>,
    /// The shared workspaces that they may use; none stands for any.
    pub work_dirs: Option<Vec<String>>,
}

impl SiteVariables {
    /// The variables with their values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }
}

impl fmt::Debug for SiteVariables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Settings {
    /// The sections in which these settings and others differ, in the order of the file.
    pub fn sections_that_differ(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("app", self.app == other.app),
            ("http", self.http == other.http),
            ("tls", self.tls == other.tls),
            ("script_executor", self.script_executor == other.script_executor),
            ("limits", self.limits == other.limits),
            ("retention", self.retention == other.retention),
            ("audit", self.audit == other.audit),
            ("log", self.log == other.log),
            ("auth", self.auth == other.auth),
            ("hook", self.hooks == other.hooks),
            ("node", self.node == other.node),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(section, _)| section).collect()
    }

    /// What the layers are written onto. None of these values is a default: the built-in file sets each key that has one.
    pub(crate) fn unset() -> Self {
        Self {
            app: App { name: String::new() },
            http: Http {
                host: IpAddr::V4(Ipv4Addr::LOCALHOST),
                port: 0,
                socket: None,
                socket_mode: 0,
                socket_group: None,
                behind_tls_proxy: false,
                hosts: Vec::new(),
                origins: Vec::new(),
                public_metrics: false,
            },
            tls: Tls { certificate: None, key: None, client_ca: None },
            script_executor: ScriptExecutor {
                work_dir_prefix: PathBuf::new(),
                script_dir_prefix: PathBuf::new(),
                state_dir: PathBuf::new(),
                is_verify_script_integrity: None,
                manifest_public_keys: Vec::new(),
                path: String::new(),
                default_timeout: Duration::ZERO,
                max_timeout: Duration::ZERO,
                kill_grace: Duration::ZERO,
                leftovers: Leftovers::Kill,
                max_log_bytes: 0,
                env: SiteVariables::default(),
            },
            limits: Limits {
                concurrent: 0,
                queue: 0,
                connections_per_peer: 0,
                body: 0,
                drain: Duration::ZERO,
            },
            retention: Retention {
                tasks: Duration::ZERO,
                max_tasks: 0,
                max_bytes: 0,
                workspaces: Duration::ZERO,
                max_workspaces: 0,
                max_workspace_bytes: 0,
            },
            audit: Audit { file_size: 0, files: 0 },
            log: Log { format: LogFormat::Auto },
            auth: Auth { tokens: Vec::new() },
            hooks: Vec::new(),
            node: Node {
                api_server: None,
                name: None,
                token_file: None,
                ca: None,
                certificate: None,
                key: None,
                proxy: None,
                proxy_credentials_file: None,
                labels: BTreeMap::new(),
                assignment_public_keys: Vec::new(),
                env: Vec::new(),
                work_dirs: None,
            },
        }
    }
}
