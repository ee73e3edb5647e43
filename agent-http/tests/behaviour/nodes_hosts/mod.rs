//! The commands of the page about nodes, executed as they stand: on one machine; and between two hosts, for which network
//! namespaces stand, with a line between them that is cut.

mod line;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::documentation::{blocks_of, commands, root};
use crate::support::{LONG, eventually, free_port};

/// Where the page has the API server, and its name between hosts.
const ADDRESS: &str = "127.0.0.1:8848";
const NAME: &str = "api.example.com";
/// What starts an agent by the page.
const START: &str = "agent-http --config application.toml";

/// The page's blocks of one kind.
fn blocks(kind: &str) -> Vec<String> {
    blocks_of(&fs::read_to_string(root().join("docs/nodes.md")).unwrap(), kind)
}

/// Programs that go on when the shell that started them has ended. Dropped, they are killed.
struct Running(Child);

impl Running {
    /// Executes a block that leaves programs running; what they say goes into a file.
    fn start(folder: &Path, before: &[&str], block: &str, said: &Path) -> Self {
        let programs = Path::new(env!("CARGO_BIN_EXE_agent-http")).parent().unwrap().display().to_string();
        let said = File::options().create(true).append(true).open(said).unwrap();
        let words = [before, &["sh", "-ec", block]].concat();
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(folder)
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .process_group(0)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.0.id().try_into().unwrap());
        // In order, so that nothing of theirs is left; they may have ended already.
        let _ = killpg(group, Signal::SIGTERM);
        let began = Instant::now();
        while killpg(group, None).is_ok() && began.elapsed() < LONG {
            let _ = self.0.try_wait();
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

#[test]
fn an_api_server_and_two_nodes_run_on_one_machine_by_three_commands() {
    let folder = tempfile::tempdir().unwrap();
    let here = format!("127.0.0.1:{}", free_port());
    let [prepare, api, nodes, look, _, _, _] = blocks("sh").try_into().expect("seven blocks");
    let at = |block: &str| block.replace(ADDRESS, &here);
    commands(folder.path(), &at(&prepare));
    let said = folder.path().join("said");
    let start = api.replace(START, &format!("{START} --port {}", here.rsplit_once(':').unwrap().1));
    let _api = Running::start(folder.path(), &[], &start, &said);
    let _nodes = Running::start(folder.path(), &[], &at(&nodes), &said);
    eventually("two nodes", || {
        let text = fs::read_to_string(&said).unwrap();
        (text.matches("a node has connected").count() == 2).then_some(())
    });
    let printed = commands(folder.path(), &at(&look));
    for words in ["hello from db-1\n", "hello from db-2\n", "\"connected\":true"] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
}
