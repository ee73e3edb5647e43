//! How configuration is read, as a program that uses it sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on ends, in helpers too")]

mod arbitrary_text;
mod defaults;
mod environment;
mod file_choice;
mod hooks;
mod mistakes;
mod precedence;
mod tokens;
mod trusted_folder;
mod unreadable_files;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_config::{ConfigError, Loaded, Mistake, Settings, Sources};

/// A folder of its own with a current folder in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A place of which this user and root alone can write every folder above, as `/tmp` is not.
    fn trusted() -> Self {
        let place = Self { folder: trusted_folder::make() };
        place.allow("", 0o755);
        place
    }

    fn path(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    /// Writes a file with usual rights, and its folders.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let folder = path.parent().unwrap();
        if !folder.exists() {
            fs::create_dir_all(folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&path, text).unwrap();
        self.allow(name, 0o644);
        path
    }

    fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Sources with this as the current folder, and a file of the system that does not exist.
    fn sources(&self) -> Sources {
        Sources { system_file: self.path().join("system.toml"), ..Sources::new(self.path(), euid()) }
    }

    /// Loads with this text as the file that `--config` names.
    fn load(&self, text: &str) -> Result<Loaded, ConfigError> {
        let config_file = Some(self.write("given.toml", text));
        Settings::load(Sources { config_file, ..self.sources() })
    }

    /// What is printed for this text when it is wrong, without the name of the temporary folder.
    fn complaint(&self, text: &str) -> String {
        let error = self.load(text).expect_err("the text is wrong");
        self.nameless(&error.to_string())
    }

    fn nameless(&self, text: &str) -> String {
        text.replace(self.path().to_str().unwrap(), "[folder]")
    }
}

fn euid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn mistakes(result: Result<Loaded, ConfigError>) -> Vec<Mistake> {
    match result {
        Err(ConfigError::Mistakes { mistakes, .. }) => mistakes,
        other => panic!("expected mistakes, got {other:?}"),
    }
}

fn default_file() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../etc/application.toml");
    fs::read_to_string(path).unwrap()
}
