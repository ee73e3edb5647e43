//! One script: what keeps it from running, in the words of the run, and what it leaves unsaid.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use task_runners::catalogue::head;
use task_runners::header::{self, Header};
use task_runners::{NameError, ScriptDescription, ScriptName, inspect};

use super::{Finding, Level};
use crate::scripts::without_name;

/// What is to be said of a script at this path.
pub(super) fn look(path: &Path, shown: &str, name: &ScriptName) -> Vec<Finding> {
    let mut found = Vec::new();
    let error = |line, text: String| Finding::new(shown, line, Level::Error, text);
    // A pipe that lies there must not hold anybody up.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let head = opened.and_then(|file| Ok((file, head(path)?)));
    match head {
        Ok((mut file, head)) => {
            let fault = inspect(&mut file, name).err().map(|fault| fault.to_string());
            found.extend(fault.map(|fault| error(None, without_name(&fault, name.as_str()).to_owned())));
            found.extend(of_header(&header::read(&head), shown));
        }
        Err(why) if why.raw_os_error() == Some(nix::Error::ELOOP as i32) => {
            found.push(error(None, "it is a symbolic link, which is not followed".to_owned()));
        }
        Err(why) => found.push(error(None, format!("it cannot be read: {why}"))),
    }
    found
}

/// A file that lies elsewhere; its name must be one that it could have in the folder.
pub(super) fn look_outside(path: &Path, shown: &str) -> Vec<Finding> {
    let file_name = path.file_name().unwrap_or_default().to_string_lossy();
    match file_name.parse::<ScriptName>() {
        Ok(name) => look(path, shown, &name),
        Err(NameError(problem)) => {
            let text = format!("no script can have this name; expected {}", problem.expected);
            vec![Finding::new(shown, None, Level::Error, text)]
        }
    }
}

fn of_header(header: &Header, shown: &str) -> Vec<Finding> {
    let mut found: Vec<Finding> = header
        .warnings
        .iter()
        .map(|warning| Finding::new(shown, warning.line, Level::Warning, &warning.reason))
        .collect();
    match &header.description {
        Err(reasons) => found.extend(
            reasons.iter().map(|broken| Finding::new(shown, broken.line, Level::Error, &broken.reason)),
        ),
        Ok(None) => found.push(Finding::new(
            shown,
            None,
            Level::Warning,
            "it does not describe itself, so nobody checks its arguments: #USAGE and #TASK lines say what it takes",
        )),
        Ok(Some(declared)) => found.extend(
            unsaid(declared).into_iter().map(|text| Finding::new(shown, None, Level::Warning, text)),
        ),
    }
    found
}

/// What people would like to know, too.
fn unsaid(declared: &ScriptDescription) -> Vec<String> {
    let mut unsaid = Vec::new();
    if declared.description.is_none() {
        unsaid.push("it has no description: #TASK description=\"...\"".to_owned());
    }
    let silent = declared.parameters.iter().filter(|known| known.help.is_none() && !known.hidden);
    unsaid.extend(silent.map(|known| format!("{} has no help: help=\"...\"", known.spelling())));
    unsaid
}
