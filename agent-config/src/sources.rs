//! What settings are made from. The library reads neither the environment nor the arguments of its process; its caller
//! hands them over.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The file of the whole system, read when no other is.
const SYSTEM_FILE: &str = "/etc/devops-agent/application.toml";

/// Everything that settings are made from.
#[derive(Clone)]
pub struct Sources {
    /// The file that `--config` names. When it is given, no other is looked for.
    pub config_file: Option<PathBuf>,
    /// The environment, as `std::env::vars_os()` gives it. Other variables than `DEVOPS_AGENT__...` are not looked at.
    pub environment: Vec<(OsString, OsString)>,
    /// Settings of the command line.
    pub flags: Flags,
    /// The absolute path of the current folder: relative paths count from it.
    pub current_dir: PathBuf,
    /// The effective user of the process, who may own the configuration in the current folder, as root may.
    pub euid: u32,
    /// The file that is read when no other is: `/etc/devops-agent/application.toml`, unless set otherwise.
    pub system_file: PathBuf,
}

/// Settings of the command line.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--host`, as `http.host`.
    pub host: Option<String>,
    /// `--port`, as `http.port`.
    pub port: Option<u16>,
    /// `--scripts`, as `script_executor.script_dir_prefix`.
    pub script_dir: Option<PathBuf>,
    /// `--state`, as `script_executor.state_dir`.
    pub state_dir: Option<PathBuf>,
}

impl Sources {
    /// Nothing but the defaults and the usual files.
    pub fn new(current_dir: impl Into<PathBuf>, euid: u32) -> Self {
        Self {
            config_file: None,
            environment: Vec::new(),
            flags: Flags::default(),
            current_dir: current_dir.into(),
            euid,
            system_file: PathBuf::from(SYSTEM_FILE),
        }
    }
}

impl fmt::Debug for Sources {
    /// Leaves the environment out, which is full of secrets of others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("config_file", &self.config_file)
            .field("flags", &self.flags)
            .field("current_dir", &self.current_dir)
            .field("euid", &self.euid)
            .field("system_file", &self.system_file)
            .finish_non_exhaustive()
    }
}
