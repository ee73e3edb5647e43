//! The commands of the README's chapter about the service, and of the pages about TLS and about getting started, executed
//! as they stand.

mod pages;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::examples::{blocks_of, chapter, page};
use crate::support::{Service, Site, eventually};

/// Where the README has the service listen, and how it calls the programs.
const ADDRESS: &str = "127.0.0.1:8848";
/// Where the page about the socket has it, and whom it lists.
const SOCKET: &str = "/run/devops-agent/agent.sock";
const USER: &str = "peer_users = [\"deploy\"]";
const SERVICE: &str = "cargo run --release --bin agent-http";
const CLI: &str = "cargo run --release --bin agent-cli -- ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The shell blocks of a chapter of the README.
fn blocks(title: &str) -> Vec<String> {
    blocks_of(chapter(&page("README.md"), title), "sh")
}

/// A site with the scripts of the repository, without configuration, as the README has it.
fn site() -> Site {
    let site = Site::bare("");
    fs::remove_dir_all(site.path("scripts")).unwrap();
    let copied = Command::new("cp").arg("-r").arg(root().join("scripts")).arg(site.folder()).status();
    assert!(copied.unwrap().success());
    site
}

fn cli() -> PathBuf {
    let cli = Path::new(env!("CARGO_BIN_EXE_agent-http")).with_file_name("agent-cli");
    assert!(cli.exists(), "{} is not built: cargo build --bin agent-cli", cli.display());
    cli
}

fn shell(service: &Service, block: &str) -> Output {
    let cli = cli();
    let commands =
        block.replace(ADDRESS, &service.at.to_string()).replace(CLI, &format!("{} ", cli.display()));
    Command::new("sh")
        .args(["-ec", &commands])
        .current_dir(service.site.folder())
        .env("DEVOPS_AGENT__HTTP__PORT", service.at.port().to_string())
        .output()
        .unwrap()
}

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let [start, by_curl, by_command_line] = blocks("Run the service").try_into().expect("three blocks");
    assert_eq!(start.trim(), SERVICE);
    let service = site().start();

    let output = shell(&service, &by_curl);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    let [task, tasks, scripts, ready] = answers.try_into().expect("four answers");
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(tasks["tasks"][0]["id"], task["id"]);
    assert_eq!(scripts["verification"]["problems"], serde_json::json!([]), "{scripts}");
    assert_eq!(ready["status"], "ready");

    let output = shell(&service, &by_command_line);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.matches("system_info.sh").count(), 2, "{text}");
}

#[test]
fn the_readme_s_commands_without_a_service_run_as_they_stand() {
    let (site, cli) = (site(), format!("{} ", cli().display()));
    let chapters = ["Run a script", "Write a script", "Vouch for the scripts"].map(blocks);
    let mut count = 0;
    for line in chapters.iter().flatten().flat_map(|block| block.lines()) {
        let command = line.replace(CLI, &cli);
        assert_ne!(command, line, "a command of the command line");
        let output = Command::new("sh").args(["-ec", &command]).current_dir(site.folder()).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{line}");
        count += 1;
    }
    assert!(count >= 8, "{count} commands");
    let mut run = Command::new(cli.trim());
    let ran =
        run.args(["run", "--dry-run", "hello.sh", "world"]).current_dir(site.folder()).output().unwrap();
    assert!(ran.status.success(), "what was made and vouched for can be run: {ran:?}");
}

/// Executes a block of the page about TLS, and gives what it prints.
fn tls_commands(folder: &Path, port: Option<u16>, block: &str) -> String {
    let address = port.map_or(ADDRESS.to_owned(), |port| format!("127.0.0.1:{port}"));
    commands(folder, &block.replace(ADDRESS, &address))
}

/// A shell in a folder, which finds the programs of this build.
pub(crate) fn shell_in(folder: &Path) -> Command {
    let programs = cli().parent().unwrap().display().to_string();
    let mut shell = Command::new("sh");
    shell.current_dir(folder).env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()));
    shell
}

/// Executes a block with the programs of this build, and gives what it prints.
pub(crate) fn commands(folder: &Path, block: &str) -> String {
    let output = shell_in(folder).args(["-ec", block]).output().unwrap();
    assert!(output.status.success(), "{block}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_commands_of_the_page_about_tls_do_what_it_says() {
    let page = page("docs/tls.md");
    let [make, call, make_client, call_as_client] = blocks_of(&page, "sh").try_into().expect("four blocks");
    let site = Site::bare(&blocks_of(&page, "toml")[0]);
    tls_commands(site.folder(), None, &make);
    let service = site.start();
    let (folder, port) = (service.site.folder(), service.at.port());
    let is_right = |printed: &str| printed.contains("\"hello.sh\"") && printed.contains("no such tasks");
    let printed = tls_commands(folder, Some(port), &format!("exec 2>&1\n{call}"));
    assert!(is_right(&printed), "{printed}");
    tls_commands(folder, None, &make_client);
    eventually("the new section", || service.said().contains("settings read again").then_some(()));
    let printed = tls_commands(folder, Some(port), &format!("exec 2>&1\n{call_as_client}"));
    assert!(is_right(&printed), "{printed}");
}

#[test]
fn the_commands_of_the_page_about_the_socket_do_what_it_says() {
    let page = page("docs/socket.md");
    let [settings] = blocks_of(&page, "toml").try_into().expect("one block");
    let [calls] = blocks_of(&page, "sh").try_into().expect("one block");
    let user = format!("peer_uids = [{}]", nix::unistd::geteuid());
    assert!(settings.contains(SOCKET) && settings.contains(USER), "{settings}");
    let service = Site::bare(&settings.replace(SOCKET, "agent.sock").replace(USER, &user)).start();
    let socket = service.site.path("agent.sock").display().to_string();
    let printed = commands(service.site.folder(), &format!("exec 2>&1\n{}", calls.replace(SOCKET, &socket)));
    assert!(printed.contains("\"hello.sh\"") && printed.contains("no such tasks"), "{printed}");
}

#[test]
fn whoever_gets_started_by_the_page_has_tls_and_tokens_for_two_people() {
    let page = page("docs/getting-started.md");
    let [build, write, mistaken, vouch, certify, configure, start, deploy, read, audit] =
        blocks_of(&page, "sh").try_into().expect("ten blocks");
    // These programs are those of this build.
    assert!(build.starts_with("cargo build --release --bin agent-http --bin agent-cli\n"), "{build}");
    let site = Site::bare("");
    fs::remove_dir_all(site.path("scripts")).unwrap();
    let here = |block: &str| commands(site.folder(), block);
    assert!(here(&write).ends_with("deploying 1.2.3 to prod\n"));
    let said = here(&format!("exec 2>&1\n{mistaken}"));
    assert!(said.contains("staging") && said.contains("prod"), "{said}");
    here(&vouch);
    here(&certify);
    let said = here(&format!("exec 2>&1\n{configure}"));
    assert!(said.contains("the settings are right"), "{said}");
    assert_eq!(start, "agent-http --config application.toml\n");

    let service = site.start();
    let (folder, port) = (service.site.folder(), Some(service.at.port()));
    let seen = tls_commands(folder, port, &deploy);
    assert!(seen.contains("deploy/web.sh") && seen.contains("deploying 1.2.3 to prod"), "{seen}");
    assert!(!seen.contains("uptime.sh"), "{seen}");
    let seen = tls_commands(folder, port, &format!("exec 2>&1\n{read}"));
    assert!(seen.contains("deploy/web.sh") && seen.contains("lacks the scope 'run'"), "{seen}");
    assert_eq!(tls_commands(folder, port, &audit).lines().count(), 1);
}
