//! The order in which the sources are read, and what comes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::document::Text;
use crate::draft::Draft;
use crate::find::{REMEDY, find};
use crate::mistake::{Mistake, Origin};
use crate::settings::Settings;
use crate::sources::Sources;

/// The built-in file: the only statement of defaults.
const DEFAULTS: &str = include_str!("../../etc/application.toml");

/// The settings, and how they came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What was set.
    pub settings: Settings,
    /// The one file that was read, if any; absolute when the current folder is.
    pub file: Option<PathBuf>,
    /// Where each value comes from, by key: every key there is, and `script_executor.env.<name>`,
    /// `auth.token.<name>` and `hook.<name>` for those that were given.
    pub origins: BTreeMap<String, Origin>,
    /// What somebody should know who started this, such as a file that was left out.
    pub warnings: Vec<Warning>,
}

/// Something about a file that does not keep the program from starting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// What is the matter with it, and what would be right.
    pub message: String,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The sources contradict the rules. All mistakes are listed, a hundred at most.
    #[error("reading the configuration: {}", list(.mistakes, *.more))]
    Mistakes {
        /// The mistakes, in the order of their places.
        mistakes: Vec<Mistake>,
        /// How many more there are.
        more: usize,
    },
    /// The file cannot be opened or read.
    #[error("reading the configuration file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is the file of the system, and others than root and the caller may change it.
    #[error("reading the configuration file {}: not done, since {reason}; {REMEDY}", .path.display())]
    Distrusted {
        /// The file.
        path: PathBuf,
        /// What lets others change it.
        reason: String,
    },
    /// It is a folder, FIFO, device or socket.
    #[error("reading the configuration file {}: it is not a regular file", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The file is too large.
    #[error("reading the configuration file {}: it is larger than {limit} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The largest size in bytes.
        limit: u64,
    },
    /// The file is not text.
    #[error("reading the configuration file {}: byte {offset} is not UTF-8", .path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// How many bytes before the first wrong one are right.
        offset: usize,
    },
}

impl Settings {
    /// Reads the defaults, one file, the environment and the flags, in this order; a later one wins.
    ///
    /// ```
    /// use agent_config::{Flags, Settings, Sources};
    ///
    /// let folder = std::env::temp_dir();
    /// let sources = Sources {
    ///     environment: vec![("DEVOPS_AGENT__HTTP__PORT".into(), "9000".into())],
    ///     flags: Flags { state_dir: Some("records".into()), ..Flags::default() },
    ///     ..Sources::new(&folder, 1000)
    /// };
    /// # let sources = Sources { system_file: folder.join("no such file"), ..sources };
    /// let loaded = Settings::load(sources)?;
    /// assert_eq!(loaded.settings.http.port, 9000);
    /// assert_eq!(loaded.settings.script_executor.state_dir, folder.join("records"));
    /// # Ok::<(), agent_config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ConfigError::Mistakes`] with all mistakes of all sources; the others when the file that is to be read cannot be
    /// read whole as text, or must not be.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
        let mut warnings = Vec::new();
        let found = find(&sources, &mut warnings)?;
        let mut draft = Draft::new();
        Text::new(DEFAULTS, None).read_into(&mut draft);
        if let Some(found) = &found {
            Text::new(&found.text, Some(found.path.clone())).read_into(&mut draft);
        }
        draft.read_environment(sources.environment);
        draft.read_flags(&sources.flags);
        draft.join_paths_and_check(&sources.current_dir);
        if !draft.mistakes.is_empty() {
            let (mistakes, more) = draft.mistakes.into_parts();
            return Err(ConfigError::Mistakes { mistakes, more });
        }
        Ok(Loaded {
            settings: draft.settings,
            file: found.map(|found| found.path),
            origins: draft.origins,
            warnings,
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn list(mistakes: &[Mistake], more: usize) -> String {
    let mut text = match mistakes.len() + more {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    };
    for mistake in mistakes {
        text.push_str(&format!("\n  {mistake}"));
    }
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    text
}
