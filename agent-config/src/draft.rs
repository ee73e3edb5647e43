//! The settings while layer after layer is written onto them, with what was wrong on the way.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

use crate::grammar;
use crate::input::{Checked, Input, Wrong};
use crate::keys::{self, KEYS, TOKENS, UNSUPPORTED, VARIABLES};
use crate::mistake::{Mistake, Mistakes, Origin};
use crate::nearest::nearest;
use crate::settings::Settings;
use crate::sources::Flags;
use crate::token::Claim;

/// What every variable of the environment begins with that this program reads.
const PREFIX: &str = "DEVOPS_AGENT__";

/// The settings while they are read.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) settings: Settings,
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) mistakes: Mistakes,
    /// What each token has for itself, and the token's name.
    pub(crate) claimed: HashMap<Claim, String>,
}

impl Draft {
    pub(crate) fn new() -> Self {
        let unset = KEYS.iter().map(|key| (key.name.to_owned(), Origin::Unset));
        let (mistakes, claimed) = Default::default();
        Self { settings: Settings::unset(), origins: unset.collect(), mistakes, claimed }
    }

    /// Writes one value, or says what is wrong with it at the place that `locate` gives.
    pub(crate) fn take(
        &mut self,
        key: &str,
        locate: impl Fn(Option<usize>) -> Origin,
        set: impl FnOnce(&mut Settings) -> Checked<()>,
    ) {
        match set(&mut self.settings) {
            Ok(()) => {
                self.origins.insert(key.to_owned(), locate(None));
            }
            Err(wrongs) => self.refuse(key, locate, wrongs),
        }
    }

    pub(crate) fn refuse(&mut self, key: &str, locate: impl Fn(Option<usize>) -> Origin, wrongs: Vec<Wrong>) {
        for wrong in wrongs {
            self.mistakes.add(|| Mistake {
                origin: locate(wrong.offset),
                key: key.to_owned(),
                problem: wrong.problem,
                remedy: wrong.remedy,
            });
        }
    }

    /// Writes what the environment sets.
    pub(crate) fn read_environment(&mut self, environment: Vec<(OsString, OsString)>) {
        for (name, value) in environment {
            if !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                continue;
            }
            let name = name.to_string_lossy();
            match value.to_str() {
                Some(value) => self.read_variable(&name, value),
                None => self.mistakes.add(|| Mistake {
                    origin: environment_origin(&name),
                    key: key_of(&name),
                    problem: "found bytes that are not UTF-8".to_owned(),
                    remedy: "expected UTF-8".to_owned(),
                }),
            }
        }
    }

    /// Writes what the command line sets.
    pub(crate) fn read_flags(&mut self, flags: &Flags) {
        let port = flags.port.map(|port| port.to_string());
        let given = [
            ("--host", "http.host", flags.host.as_deref().map(Input::Text)),
            ("--port", "http.port", port.as_deref().map(Input::Text)),
            ("--scripts", "script_executor.script_dir_prefix", flags.script_dir.as_deref().map(Input::Path)),
            ("--state", "script_executor.state_dir", flags.state_dir.as_deref().map(Input::Path)),
        ];
        for (name, key, input) in given {
            if let (Some(key), Some(input)) = (keys::find(key), input) {
                self.take(key.name, |_| Origin::Flag { name }, |settings| (key.set)(settings, input));
            }
        }
    }

    fn read_variable(&mut self, name: &str, value: &str) {
        let origin = |_| environment_origin(name);
        let variables = variable_of(VARIABLES) + "__";
        if let Some(key) = KEYS.iter().find(|key| variable_of(key.name) == name) {
            self.take(key.name, origin, |settings| (key.set)(settings, Input::Text(value)));
        } else if let Some(variable) =
            name.strip_prefix(&variables).filter(|variable| grammar::is_variable(variable))
        {
            self.take(&format!("{VARIABLES}.{variable}"), origin, |settings| {
                keys::set_variable(settings, variable, Input::Text(value))
            });
        } else {
            self.mistakes.add(|| unknown_variable(name));
        }
    }
}

/// The mistake of a variable that sets nothing.
fn unknown_variable(name: &str) -> Mistake {
    let key = key_of(name);
    let section = key.split('.').next().unwrap_or_default();
    let (problem, remedy) = if UNSUPPORTED.contains(&section) {
        ("not supported by this version", format!("unset {}", name.escape_debug()))
    } else if key.starts_with(TOKENS) {
        (
            "tokens cannot be given through the environment",
            format!("write a section [[{TOKENS}]] into the configuration file"),
        )
    } else if key.starts_with(VARIABLES) {
        (
            "not a name of a variable",
            "expected letters, digits and `_`, not beginning with a digit".to_owned(),
        )
    } else {
        let remedy = match nearest(&key).filter(|near| keys::find(near).is_some()) {
            Some(near) => format!("did you mean {}?", variable_of(&near)),
            None => "expected DEVOPS_AGENT__, the section, two underscores and the key".to_owned(),
        };
        ("unknown key", remedy)
    };
    Mistake {
        origin: environment_origin(&name.escape_debug().to_string()),
        key,
        problem: problem.to_owned(),
        remedy,
    }
}

fn environment_origin(name: &str) -> Origin {
    Origin::Environment { name: name.to_owned() }
}

/// The variable that sets a key.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// The key that a variable's name means, known or not.
fn key_of(variable: &str) -> String {
    let rest = variable.strip_prefix(PREFIX).unwrap_or(variable);
    rest.to_ascii_lowercase().replace("__", ".")
}
