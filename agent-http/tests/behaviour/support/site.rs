//! The folder of a service, and the service itself.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use agent_config::{Settings, Sources, TokenDigest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::{Value, json};
use task_runners::ScriptExecutor;
use tempfile::TempDir;

use super::http::{Reply, exchange, request_text};
use super::{LONG, eventually};
use crate::trusted_folder;

/// The tokens of every site: name, and the rest of its section. A token's text is [`Site::token`] of its name.
const TOKENS: &[(&str, &str)] = &[
    ("admin", "scopes = [\"admin\"]"),
    ("all", "scopes = [\"run\", \"read\", \"cancel\"]\nscripts = [\"**\"]"),
    ("runner", "scopes = [\"run\"]\nscripts = [\"**\"]"),
    ("reader", "scopes = [\"read\"]\nscripts = [\"**\"]"),
    ("canceller", "scopes = [\"cancel\"]\nscripts = [\"**\"]"),
    ("node", "scopes = [\"node\"]"),
    ("expired", "scopes = [\"admin\"]\nexpires = \"2020-01-01T00:00:00Z\""),
    (
        "deployer",
        "scopes = [\"run\", \"read\", \"cancel\"]\nscripts = [\"deploy/*\"]\nwork_dirs = [\"web\"]\nenv = [\"DEPLOY_*\"]",
    ),
];

/// Scripts that every site has. `gate.sh` waits until the file that its first argument names is there.
const SCRIPTS: &[(&str, &str)] = &[
    ("hello.sh", "#!/bin/sh\necho hello \"$@\"\n"),
    ("fail.sh", "#!/bin/sh\nexit 3\n"),
    ("gate.sh", "#!/bin/sh\necho waiting\nuntil [ -e \"$1\" ]; do sleep 0.02; done\necho passed\n"),
    ("task_debug.sh", "#!/bin/sh\necho debug\n"),
    ("deploy/web.sh", "#!/bin/sh\necho web \"$DEPLOY_ENV\"\n"),
];

/// A folder with scripts and settings.
pub(crate) struct Site {
    folder: TempDir,
}

/// A service that runs on a site. Dropped, it is killed.
pub(crate) struct Service {
    pub(crate) at: SocketAddr,
    pub(crate) site: Site,
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Site {
    /// A site with the usual scripts and tokens, and further settings.
    pub(crate) fn new(settings: &str) -> Self {
        let tokens: String = TOKENS
            .iter()
            .map(|(name, section)| {
                let digest = Self::digest(name);
                format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\n{section}\n")
            })
            .collect();
        Self::bare(&format!("{settings}\n{tokens}"))
    }

    /// The same with its settings where they are found and trusted without being named, `etc/application.toml`.
    pub(crate) fn with_found_settings() -> Self {
        let usual = fs::read_to_string(Self::new("").path("application.toml")).unwrap();
        let site = Self::in_folder(trusted_folder::make(), &usual);
        fs::create_dir(site.path("etc")).unwrap();
        fs::rename(site.path("application.toml"), site.path("etc/application.toml")).unwrap();
        for (name, mode) in [("etc", 0o755), ("etc/application.toml", 0o644)] {
            fs::set_permissions(site.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        site
    }

    /// A site with the usual scripts and no tokens.
    pub(crate) fn bare(settings: &str) -> Self {
        Self::in_folder(tempfile::tempdir().unwrap(), settings)
    }

    fn in_folder(folder: TempDir, settings: &str) -> Self {
        let site = Self { folder };
        fs::write(site.path("application.toml"), settings).unwrap();
        fs::create_dir(site.path("scripts")).unwrap();
        for (name, text) in SCRIPTS {
            site.write_script(name, text);
        }
        site
    }

    /// The text of a usual token.
    pub(crate) fn token(name: &str) -> String {
        format!("dag_{name:x<32}")
    }

    /// Its digest, as settings have it.
    pub(crate) fn digest(name: &str) -> String {
        hex(TokenDigest::of_token(&Self::token(name)).as_bytes())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write_script(&self, name: &str, text: &str) {
        let path = self.path("scripts").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes a file that nobody else may read.
    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The service's program, on this site and a free port.
    pub(crate) fn command(&self) -> Command {
        self.command_at(0)
    }

    /// The same on this port.
    pub(crate) fn command_at(&self, port: u16) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent-http"));
        let named = self.path("application.toml");
        if named.exists() {
            command.arg("--config").arg(named);
        }
        command
            .args(["--port", &port.to_string()])
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .env("DEVOPS_AGENT__LOG__FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// The same, started by a shell that does something before, such as `ulimit -n 64`.
    pub(crate) fn command_after(&self, before: &str) -> Command {
        let program = self.command();
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Its settings, for an agent in the test's own process.
    pub(crate) fn settings(&self) -> Settings {
        let sources = Sources::new(self.folder().to_owned(), geteuid().as_raw());
        let named = Some(self.path("application.toml"));
        Settings::load(Sources { config_file: named, ..sources }).unwrap().settings
    }

    /// Starts the service and waits until it listens.
    pub(crate) fn start(self) -> Service {
        let command = self.command();
        self.start_by(command)
    }

    /// Starts the service by a command of the caller's.
    pub(crate) fn start_by(self, mut command: Command) -> Service {
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let listening = listen(child.stderr.take().unwrap(), said.clone());
        let at = listening.recv_timeout(LONG).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("it does not listen: {}", said.lock().unwrap())
        });
        Service { at, site: self, child, said }
    }

    /// The lines of a file of the audit log.
    pub(crate) fn audit_lines(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("state").join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Service {
    /// A service on a usual site.
    pub(crate) fn usual() -> Self {
        Site::new("").start()
    }

    /// Calls with a usual token.
    pub(crate) fn call(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let token = Site::token(token);
        exchange(self.at, request_text(method, path, Some(&token), body).as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("admin", "GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("admin", "POST", path, Some(body))
    }

    /// Submits a script with arguments, and gives the task's id.
    pub(crate) fn submit(&self, name: &str, args: &[&str]) -> String {
        let reply = self.post("/api/v1/tasks", &json!({ "name": name, "args": args }));
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.id()
    }

    /// The task once it has ended.
    pub(crate) fn ended(&self, id: &str) -> Value {
        let task = self.get(&format!("/api/v1/tasks/{id}?wait=60")).json();
        assert!(!task["ended_at"].is_null(), "it has not ended: {task}");
        task
    }

    /// How many tasks there are.
    pub(crate) fn count(&self) -> usize {
        self.get("/api/v1/tasks?limit=1000").json()["tasks"].as_array().unwrap().len()
    }

    /// Changes its settings, as a whole at once.
    pub(crate) fn change_settings(&self, edit: impl FnOnce(String) -> String) {
        let path = self.site.path("application.toml");
        let beside = self.site.path("application.toml.new");
        fs::write(&beside, edit(fs::read_to_string(&path).unwrap())).unwrap();
        fs::rename(beside, path).unwrap();
    }

    /// The lines of its audit log: those with a token that is accepted, then the others.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let mut lines = self.site.audit_lines("audit.jsonl");
        lines.extend(self.site.audit_lines("audit-refused.jsonl"));
        lines
    }

    /// Everything that it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Changes a limit of the running program, as `nofile=3:`: see prlimit(1).
    pub(crate) fn limit(&self, limit: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--{limit}")]).status();
        assert!(status.expect("this test needs prlimit").success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended, and gives its site back.
    pub(crate) fn ended_with(mut self) -> (ExitStatus, Site, String) {
        let status = eventually("the service's end", || self.child.try_wait().unwrap());
        let said = self.said();
        let Self { ref mut site, .. } = self;
        let site = std::mem::replace(site, Site { folder: tempfile::tempdir().unwrap() });
        (status, site, said)
    }

    /// Ends it without any order, and gives its site back.
    pub(crate) fn killed(self) -> Site {
        self.signal(Signal::SIGKILL);
        self.ended_with().1
    }

    /// Stops it in order, and gives its site back.
    pub(crate) fn stop(self) -> Site {
        self.signal(Signal::SIGTERM);
        let (status, site, said) = self.ended_with();
        assert!(status.success(), "{status}: {said}");
        site
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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

/// All tasks that a query finds, page by page.
pub(crate) fn tasks(service: &Service, query: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let reply = service.get(&format!("/api/v1/tasks?limit=1000{query}{cursor}"));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page = reply.json();
        found.extend(page["tasks"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// Settings without a token's section.
pub(crate) fn without(text: &str, name: &str) -> String {
    let mut parts = text.split("[[auth.token]]\n");
    let first = parts.next().unwrap_or_default().to_owned();
    let others = parts.filter(|section| !section.starts_with(&format!("name = \"{name}\"\n")));
    others.fold(first, |text, section| text + "[[auth.token]]\n" + section)
}

/// Settings with more lines in a token's section.
pub(crate) fn with(text: &str, name: &str, lines: &str) -> String {
    text.replacen(&format!("name = \"{name}\"\n"), &format!("name = \"{name}\"\n{lines}\n"), 1)
}

/// A number of kibibytes that the kernel tells of a process, such as `VmHWM`.
pub(crate) fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Collects what a service says, and tells the address as soon as it is announced.
fn listen(stderr: ChildStderr, said: Arc<Mutex<String>>) -> Receiver<SocketAddr> {
    let (told, listening) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said.lock().unwrap().push_str(&format!("{line}\n"));
            // A line of its own, or a member of an object.
            let listening = line.split_once("listening on http").map(|(_, rest)| rest);
            if let Some((_, at)) = listening.and_then(|rest| rest.split_once("://")) {
                let at = at.split('"').next().unwrap();
                // The test may have given up.
                let _ = told.send(at.parse().unwrap());
            }
        }
    });
    listening
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
