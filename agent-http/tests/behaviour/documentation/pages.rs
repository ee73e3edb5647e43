//! All pages at once: their commands are run by some test, and their settings are accepted.

use std::fs;

use super::{SOCKET, USER, root, tls_commands};
use crate::examples::{blocks_of, page};
use crate::support::Site;

/// What blocks of a page hold, by the word behind their fence; without one it is a drawing.
const KINDS: [&str; 8] = ["", "console", "json", "mermaid", "rust", "sh", "toml", "yaml"];
/// The pages whose commands are run, and how many blocks of them there are. Their tests take all blocks of a page or a
/// chapter by their number, so that one more is noticed there; so is a page or a chapter that no test takes, here.
const RUN: [(&str, usize); 8] = [
    // The tests of `agent-cli` run these two.
    ("docs/cli.md", 23),
    ("docs/scripts.md", 2),
    ("docs/getting-started.md", 10),
    ("docs/hooks.md", 8),
    ("docs/nodes.md", 13),
    ("docs/socket.md", 1),
    ("docs/tls.md", 4),
    ("README.md", 8),
];
/// The blocks among these that are not run, by their first line, and why.
const NOT_RUN: [(&str, &str, &str); 2] = [
    ("README.md", "cargo xtask test", "it runs these tests"),
    (
        "docs/getting-started.md",
        "cargo build --release --bin agent-http --bin agent-cli",
        "the programs are those of this build",
    ),
];

/// The paths of all pages.
fn pages() -> Vec<String> {
    let folders = ["", "docs", "docs/design"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = files.map(|file| file.unwrap().path());
    let pages = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    pages.map(|path| path.strip_prefix(root()).unwrap().display().to_string()).collect()
}

#[test]
fn every_command_of_every_page_is_run_or_there_is_a_reason() {
    let mut found = Vec::new();
    for path in pages() {
        let page = page(&path);
        let fences = page.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        let kinds: Vec<&str> = fences.step_by(2).collect();
        assert!(kinds.iter().all(|kind| KINDS.contains(kind)), "{path}: {kinds:?}");
        let commands = [blocks_of(&page, "sh"), blocks_of(&page, "console")].concat();
        assert_eq!(commands.len(), kinds.iter().filter(|kind| ["sh", "console"].contains(kind)).count());
        if !commands.is_empty() {
            found.push((path.clone(), commands.len()));
        }
        for (_, first, why) in NOT_RUN.iter().filter(|(of, ..)| *of == path) {
            assert!(commands.iter().any(|block| block.starts_with(first)), "{path}: {first} ({why})");
        }
    }
    let mut known = RUN.map(|(path, count)| (path.to_owned(), count));
    known.sort();
    found.sort();
    assert_eq!(found, known, "have a test run the new ones, or say in NOT_RUN why none does");
}

/// The files that settings of the pages name.
fn write_files(site: &Site) {
    tls_commands(site.folder(), None, &blocks_of(&page("docs/tls.md"), "sh")[0]);
    for name in ["deploy-web.secret", "billing.secret", "db-1.token"] {
        site.write_secret(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    }
    site.write_secret("proxy.credentials", "Aladdin:open sesame\n");
    for (from, to) in [("ca.pem", "ca.pem"), ("chain.pem", "db-2.pem"), ("key.pem", "db-2.key")] {
        fs::copy(site.path("tls").join(from), site.path(to)).unwrap();
    }
}

/// A block of settings as a whole file: what names no section is for a node's, after the page's first one.
fn whole(block: &str) -> String {
    let users = block.replace(USER, &format!("peer_uids = [{}]", nix::unistd::geteuid()));
    match users.starts_with('[') {
        true => users,
        false => format!("{}{users}", blocks_of(&page("docs/nodes.md"), "toml")[0]),
    }
}

/// What `--check-config` says of these settings, when it has something against them.
fn complaint(site: &Site, settings: &str) -> Option<String> {
    fs::write(site.path("application.toml"), settings).unwrap();
    let checked = site.command().arg("--check-config").output().unwrap();
    (!checked.status.success()).then(|| String::from_utf8(checked.stderr).unwrap())
}

#[test]
fn the_settings_of_every_page_are_accepted() {
    let site = Site::bare("");
    write_files(&site);
    let mut count = 0;
    for path in pages() {
        for block in blocks_of(&page(&path), "toml") {
            let settings = whole(&block).replace(SOCKET, &site.path("agent.sock").display().to_string());
            assert_eq!(complaint(&site, &settings), None, "{path}:\n{block}");
            // The twin: a key that there is not, in the block's last section.
            let told = complaint(&site, &format!("{settings}\nno_such_key = 1\n")).expect("it is no key");
            assert!(told.contains("no_such_key"), "{path}: {told}");
            count += 1;
        }
    }
    assert!(count > 7, "{count} blocks");
}
