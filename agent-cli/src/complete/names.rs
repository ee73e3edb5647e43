//! What the scripts folder offers: names, and what headers say. The folder is read as it lies there, without verifying
//! it: nothing comes of it but words on a command line, and what runs in the end is verified by the run.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_config::Settings;
use task_runners::catalogue::head;
use task_runners::header::{self, Header};
use task_runners::{ScriptDescription, ScriptName, script_names};

/// Most headers that are read for one press of the key; beyond, names are offered without a look into the files.
const MAX_HEADERS: usize = 300;

/// The folders of one agent.
#[derive(Debug)]
pub(super) struct Folder {
    scripts: PathBuf,
    workspaces: PathBuf,
}

impl Folder {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            scripts: settings.script_executor.script_dir_prefix.clone(),
            workspaces: settings.script_executor.work_dir_prefix.join("shared"),
        }
    }

    /// The scripts whose names begin so, with what they do; not those that are hidden or broken.
    pub(super) fn scripts(&self, beginning: &str) -> Vec<(String, String)> {
        let names = script_names(&self.scripts).unwrap_or_default();
        let names = names.into_iter().filter(|name| name.as_str().starts_with(beginning));
        let numbered = names.enumerate();
        numbered
            .filter_map(|(number, name)| {
                let help = if number < MAX_HEADERS { self.summary(&name)? } else { String::new() };
                Some((name.to_string(), help))
            })
            .collect()
    }

    /// What a script says of its parameters; none where it says nothing, or cannot be run.
    pub(super) fn declared(&self, script: &str) -> Option<Arc<ScriptDescription>> {
        self.header(&script.parse().ok()?)?.description.ok()?
    }

    /// The names of the shared workspaces.
    pub(super) fn workspaces(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.workspaces) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What a script does; none where it is not to be offered.
    fn summary(&self, name: &ScriptName) -> Option<String> {
        match self.header(name)?.description.ok()? {
            Some(declared) if declared.hidden => None,
            Some(declared) => Some(declared.description.clone().unwrap_or_default()),
            None => Some(String::new()),
        }
    }

    fn header(&self, name: &ScriptName) -> Option<Header> {
        let head = head(&self.scripts.join(Path::new(name.as_str()))).ok()?;
        head.starts_with(b"#!").then(|| header::read(&head))
    }
}
