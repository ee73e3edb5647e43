//! A site to work on: scripts, configuration and folders of its own, and the agent's command line on them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;
use task_runners::ScriptExecutor;
use tempfile::TempDir;

/// Long enough for any machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A temporary folder with `scripts`, and a configuration that names nothing but that folder.
pub(crate) struct Site {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; one that a signal ended has none.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::with_settings("")
    }

    /// A site whose configuration has these lines.
    pub(crate) fn with_settings(settings: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let site = Self { folder };
        make_folder(&site.path("scripts"));
        fs::write(site.path("application.toml"), settings).unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes an executable script, and the folders above it.
    pub(crate) fn script(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("scripts").join(name);
        write(&path, text, 0o755);
        path
    }

    /// A pipe by name.
    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The agent's command line with the site's configuration.
    pub(crate) fn agent<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Command {
        let mut command = self.without_configuration(["--config"]);
        command.arg(self.path("application.toml")).args(args);
        command
    }

    /// The agent's command line, with the site's folder as the current one and an environment from nothing.
    pub(crate) fn without_configuration<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-cli"));
        command.current_dir(self.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the command line to its end.
    pub(crate) fn ended<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Ended {
        Ended::of(&mut self.agent(args))
    }

    /// Starts the command line, with its outputs to be read while it runs.
    pub(crate) fn live<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Live {
        Live::start(&mut self.agent(args))
    }

    /// The task that `run --json` prints.
    pub(crate) fn task(&self, args: &[&str]) -> Value {
        self.ended([&["run", "--json"], args].concat()).json()
    }

    /// The folders of the records that there are.
    pub(crate) fn records(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state/tasks")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// A text without what differs from site to site and from run to run.
    pub(crate) fn plain(&self, text: &str) -> String {
        let text = text.replace(self.folder.path().to_str().unwrap(), "[site]");
        let mut plain = String::new();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            plain.push_str(stand_in(word).unwrap_or(word));
            let next = behind.find(is_of_word).unwrap_or(behind.len());
            plain.push_str(&behind[..next]);
            rest = &behind[next..];
        }
        plain
    }
}

impl Drop for Site {
    /// An agent that a test killed left scratch and a cgroup, which no temporary folder holds: the next one cleans up.
    fn drop(&mut self) {
        let instances = fs::read_dir(self.path("state/instances"));
        if instances.is_ok_and(|mut left| left.next().is_some()) {
            let folder = |name: &str| self.path(name);
            let next = ScriptExecutor::builder().script_dir(folder("scripts")).work_dir(folder("workspace"));
            drop(next.state_dir(folder("state")).build());
        }
    }
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-'
}

/// What stands for a word that is another one each time.
fn stand_in(word: &str) -> Option<&'static str> {
    let is_hex = |c: char| c.is_ascii_hexdigit();
    match word.len() {
        36 if word.chars().filter(|&c| c == '-').count() == 4
            && word.chars().all(|c| is_hex(c) || c == '-') =>
        {
            Some("[id]")
        }
        64 if word.chars().all(is_hex) => Some("[sha256]"),
        _ => None,
    }
}

impl Ended {
    pub(crate) fn of(command: &mut Command) -> Self {
        Self::new(command.output().expect("the program can be started"))
    }

    fn new(output: Output) -> Self {
        let stderr = String::from_utf8(output.stderr).expect("talk is text");
        Self { code: output.status.code(), stdout: output.stdout, stderr }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("it should be text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// A command under way; killed when it is dropped.
pub(crate) struct Live {
    pub(crate) child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    pub(crate) stderr: BufReader<ChildStderr>,
}

impl Live {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Self { child, stdout: Some(stdout), stderr }
    }

    /// The next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout().read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn stdout(&mut self) -> &mut BufReader<ChildStdout> {
        self.stdout.as_mut().expect("it was not hung up")
    }

    /// Closes this end of its standard output.
    pub(crate) fn hang_up(&mut self) {
        self.stdout = None;
    }

    /// The next line of standard error that holds `text`.
    pub(crate) fn talk(&mut self, text: &str) -> String {
        let mut heard = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stderr.read_line(&mut line).unwrap() > 0, "no {text:?} in {heard:?}");
            if line.contains(text) {
                return line;
            }
            heard.push_str(&line);
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Reads what is left and waits for the end.
    pub(crate) fn ended(mut self) -> Ended {
        let (mut stdout, mut stderr) = (Vec::new(), String::new());
        if let Some(mut rest) = self.stdout.take() {
            rest.read_to_end(&mut stdout).unwrap();
        }
        self.stderr.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.code().is_some() || status.signal() == Some(9), "{status}");
        Ended { code: status.code(), stdout, stderr }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what no event tells.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process of that number lives; one that nobody has waited for yet does not.
pub(crate) fn is_alive(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with(['Z', 'X']))
}

pub(crate) fn make_folder(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Writes a file with exactly this mode, whatever the umask.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    make_folder(path.parent().unwrap());
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs a program that must be installed.
pub(crate) fn program(command: &mut Command, package: &str) -> Ended {
    match command.output() {
        Ok(output) => Ended::new(output),
        Err(error) => {
            panic!("{:?} cannot be run ({error}): apt-get install {package}", command.get_program())
        }
    }
}
