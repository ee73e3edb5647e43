//! The commands of the page about nodes, executed as they stand: on one machine; and between two hosts, for which network
//! namespaces stand, with a line between them that is cut.

mod line;

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::documentation::{commands, shell_in};
use crate::examples::{blocks_of, chapter, examples, page};
use crate::support::{LONG, eventually, free_port};

const PAGE: &str = "docs/nodes.md";
/// Where the page has the API server, and its name between hosts.
const ADDRESS: &str = "127.0.0.1:8848";
const NAME: &str = "api.example.com";
/// What starts an agent by the page.
const START: &str = "agent-http --config application.toml";

/// Programs that go on when the shell that started them has ended. Dropped, they are killed.
struct Running(Child);

impl Running {
    /// Executes a block that leaves programs running; what they say goes into a file.
    fn start(folder: &Path, before: &[&str], block: &str, said: &Path) -> Self {
        let said = File::options().create(true).append(true).open(said).unwrap();
        let words = [&["exec \"$0\" \"$@\""], before, &["sh", "-ec", block]].concat();
        let child = shell_in(folder)
            .arg("-c")
            .args(words)
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

/// The page, with its API server at another address.
fn page_at(address: &str) -> String {
    page(PAGE).replace(ADDRESS, address)
}

#[test]
fn an_api_server_and_two_nodes_run_on_one_machine_and_every_example_prints_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let page = page_at(&format!("127.0.0.1:{port}"));
    let [prepare, api, nodes, service] =
        blocks_of(chapter(&page, "On one machine"), "sh").try_into().expect("four blocks");
    commands(folder.path(), &prepare);
    let said = folder.path().join("said");
    let _api =
        Running::start(folder.path(), &[], &api.replace(START, &format!("{START} --port {port}")), &said);
    let _nodes = Running::start(folder.path(), &[], &nodes, &said);
    eventually("two nodes", || {
        let text = fs::read_to_string(&said).unwrap();
        (text.matches("a node has connected").count() == 2).then_some(())
    });
    let show = format!("{service}\nfor node in db-1 db-2; do agent-cli node show $AGENT $node; done");
    eventually("their scripts", || {
        (commands(folder.path(), &show).matches("hello.sh").count() == 2).then_some(())
    });
    let (_, named) = service.trim_end().trim_end_matches('"').split_once("AGENT=\"").expect("a variable");
    let examples = examples(&page);
    assert!(examples.len() > 20, "the page has {} examples", examples.len());
    for example in examples {
        example.prints_what_the_page_says(shell_in(folder.path()).env("AGENT", named));
    }
}
