//! An agent under test.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_config::TokenDigest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;

/// Time that an agent has to listen, a node to connect, and an agent to stop.
const WITHIN: Duration = Duration::from_secs(60);

/// An agent; stopped when dropped.
pub(crate) struct Agent {
    pub(crate) at: SocketAddr,
    child: Child,
}

/// The text of a token.
pub(crate) fn token(name: &str) -> String {
    format!("dag_{name:x<32}")
}

/// Its section in the settings.
pub(crate) fn section(name: &str, scope: &str) -> String {
    let digest = TokenDigest::of_token(&token(name));
    let digest: String = digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("[[auth.token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [\"{scope}\"]\n")
}

/// An API server with these scripts and further settings.
pub(crate) fn api_server(place: &Path, scripts: &[(&str, &str)], settings: &str) -> Result<Agent> {
    let folder = folder(place, "server", scripts)?;
    let admin = section("admin", "admin");
    fs::write(folder.join("application.toml"), format!("{settings}\n{admin}"))?;
    Agent::start(&folder)
}

/// Looks until something is so.
pub(crate) fn until(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !look()? {
        if Instant::now() > deadline {
            return Err(format!("waited in vain for {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

impl Agent {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let at = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(env!("CARGO_BIN_EXE_agent-http"))
            .arg("--config")
            .arg(folder.join("application.toml"))
            .args(["--port", &at.port().to_string()])
            .env("RUST_LOG", "error")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let agent = Self { at, child };
        until("an agent that listens", || Ok(TcpStream::connect(at).is_ok()))?;
        Ok(agent)
    }

    /// A number of KiB that the kernel tells of it, such as `VmRSS`.
    pub(crate) fn memory(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
        Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
    }

    /// Has `VmHWM` begin again.
    pub(crate) fn forget_peak(&self) -> Result<()> {
        Ok(fs::write(self.proc("clear_refs"), "5")?)
    }

    /// A file that the kernel keeps about it.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Agent {
    /// In order, so that nothing of it is left anywhere.
    fn drop(&mut self) {
        let pid = self.child.id().try_into().map(Pid::from_raw);
        if pid.is_ok_and(|pid| kill(pid, Signal::SIGTERM).is_ok())
            && until("its end", || Ok(self.child.try_wait()?.is_some())).is_ok()
        {
            return;
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes the folder of an agent, with its scripts.
pub(crate) fn folder(place: &Path, name: &str, scripts: &[(&str, &str)]) -> Result<PathBuf> {
    let folder = place.join(name);
    fs::create_dir_all(folder.join("scripts"))?;
    for (script, text) in scripts {
        let path = folder.join("scripts").join(script);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(folder)
}
