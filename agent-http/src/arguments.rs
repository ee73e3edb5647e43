//! The flags of the command line, and the settings that come of them.

use std::path::PathBuf;

use agent_config::{ConfigError, Flags, Loaded, Settings, Sources};
use clap::Parser;

/// Serve the agent's HTTP API
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// Configuration file [default: etc/application.toml here, else /etc/devops-agent/application.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, as http.host
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// Port to listen on, as http.port; 0 lets the system choose
    #[arg(long)]
    port: Option<u16>,
    /// Folder with the scripts, as script_executor.script_dir_prefix
    #[arg(long, value_name = "FOLDER")]
    scripts: Option<PathBuf>,
    /// Folder for the agent's records, as script_executor.state_dir
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    /// Read the settings, say whether they are right, and start nothing
    #[arg(long)]
    pub(crate) check_config: bool,
}

impl Arguments {
    /// Reads the settings: defaults, one file, the environment, then these flags.
    pub(crate) fn settings(&self) -> Result<Loaded, ConfigError> {
        // Without a current folder relative paths mean nothing; the root makes that visible in every message.
        let current_dir = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Settings::load(Sources {
            config_file: self.config.clone(),
            environment: std::env::vars_os().collect(),
            flags: Flags {
                host: self.host.clone(),
                port: self.port,
                script_dir: self.scripts.clone(),
                state_dir: self.state.clone(),
            },
            ..Sources::new(current_dir, nix::unistd::geteuid().as_raw())
        })
    }
}
