//! What the commands have in common: the settings, and the scripts that they are about.

use std::path::PathBuf;
use std::sync::Arc;

use agent_config::{ConfigError, Flags, Loaded, Settings, Sources};
use task_runners::{ScriptRunner, Scripts, error_chain};

use crate::args::Global;
use crate::failure::Failure;
use crate::output::say;
use crate::terminal::escaped_line;

/// Reads the settings as they hold in the current folder, and says what should be otherwise in them.
pub(crate) fn settings(global: &Global) -> Result<Settings, Failure> {
    let loaded = load(global)?;
    for warning in &loaded.warnings {
        say(&format!("note: {}", escaped_line(&warning.to_string())));
    }
    Ok(loaded.settings)
}

/// Reads them and says nothing.
pub(crate) fn quiet_settings(global: &Global) -> Result<Settings, Failure> {
    load(global).map(|loaded| loaded.settings)
}

fn load(global: &Global) -> Result<Loaded, Failure> {
    let current_dir = std::env::current_dir()
        .map_err(|error| Failure::agent(format!("cannot find the current folder: {error}")))?;
    let mut sources = Sources::new(current_dir, effective_user());
    sources.config_file = global.config.clone();
    sources.environment = std::env::vars_os().collect();
    sources.flags =
        Flags { script_dir: global.scripts.clone(), state_dir: global.state.clone(), ..Flags::default() };
    Settings::load(sources).map_err(|error| bad_settings(&error))
}

/// Opens the scripts folder, and verifies it where that is asked for.
pub(crate) fn scripts(settings: &Settings) -> Result<Arc<Scripts>, Failure> {
    let scripts = Scripts::open(settings.scripts()).map_err(|error| Failure::agent(error_chain(&error)))?;
    Ok(Arc::new(scripts))
}

/// A runner of scripts that is an engine of its own.
pub(crate) fn runner(settings: &Settings) -> Result<ScriptRunner, Failure> {
    let executor = settings.executor().build().map_err(|error| Failure::agent(error_chain(&error)))?;
    Ok(ScriptRunner::new(executor, scripts(settings)?))
}

/// The scripts folder that a command is about: the one that it names, else the configured one.
pub(crate) fn folder(global: &Global, named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match named {
        Some(folder) => Ok(folder),
        None => Ok(settings(global)?.script_executor.script_dir_prefix),
    }
}

fn effective_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn bad_settings(error: &ConfigError) -> Failure {
    match error {
        ConfigError::Mistakes { mistakes, more } => {
            let mut details: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            if *more > 0 {
                details.push(format!("and {more} more"));
            }
            Failure::agent("the configuration has mistakes").with_details(details)
        }
        other => Failure::agent(error_chain(other)),
    }
}
