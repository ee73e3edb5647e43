//! The examples of the pages about the command line and about scripts, executed one after the other on one site each.

use std::path::Path;
use std::process::Command;

use crate::examples::{Example, blocks_of, chapter, examples, is_as_expected, page};
use crate::nodes::Scene;
use crate::service::Service;
use crate::support::Site;

/// The chapter of the page about the command line whose service has a node.
const OF_NODES: &str = "node";

#[test]
fn every_example_of_the_page_prints_what_the_page_says() {
    let page = page("docs/cli.md");
    let page = page.replace(chapter(&page, OF_NODES), "");
    let (site, service) = Service::on_a_free_port();
    let [script] = blocks_of(&page, "sh").try_into().expect("one block");
    site.script("deploy/web.sh", &script);
    let examples = examples(&page);
    assert!(examples.len() > 20, "the page has {} examples", examples.len());
    execute(&examples, &site, &[("DEVOPS_AGENT__HTTP__PORT", &service.port.to_string())]);
}

#[test]
fn every_example_with_a_node_prints_what_the_page_says() {
    let page = page("docs/cli.md");
    let chapter = chapter(&page, OF_NODES);
    let [service] = blocks_of(chapter, "sh").try_into().expect("one block");
    let scene = Scene::new();
    scene.node.0.script("wait.sh", "#!/bin/sh\nexec sleep 600\n");
    scene.offers("wait.sh");
    // Named here as in a shell of the reader's, at another address.
    let (_, named) = service.trim_end().trim_end_matches('"').split_once("AGENT=\"").expect("a variable");
    let named = named.replace("https://api.example.com:8848", &scene.url).replace("admin.token", "boss");
    execute(&examples(chapter), &scene.caller, &[("AGENT", &named)]);
}

#[test]
fn every_example_of_the_page_about_scripts_prints_what_the_page_says() {
    let page = page("docs/scripts.md");
    let site = Site::new();
    let [script] = blocks_of(&page, "sh").try_into().expect("one block");
    site.script("deploy.sh", &script);
    let examples = examples(&page);
    assert!(examples.len() > 5, "the page has {} examples", examples.len());
    execute(&examples, &site, &[]);
}

#[test]
fn the_page_about_scripts_names_every_key() {
    let page = page("docs/scripts.md");
    // What a reader is told who writes a key that there is not.
    let told = |header: &str| {
        let header = task_runners::header::read(format!("#!/bin/sh\n{header}\n").as_bytes());
        header.description.unwrap_err().remove(0).reason
    };
    let mut keys = Vec::new();
    for header in
        ["#USAGE nothing", "#USAGE arg \"<x>\" nothing=1", "#USAGE flag \"-x\" nothing=1", "#TASK nothing=1"]
    {
        let reason = told(header);
        let list = reason
            .rsplit_once(if header.starts_with("#TASK") { "they are " } else { "it takes " })
            .unwrap()
            .1;
        keys.extend(list.split(", ").map(str::to_owned));
    }
    assert!(keys.len() > 60, "{keys:?}");
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let words: Vec<&str> = page.split(|c| !is_of_word(c)).map(|word| word.trim_end_matches('.')).collect();
    let unnamed: Vec<&String> = keys.iter().filter(|key| !words.contains(&key.as_str())).collect();
    assert_eq!(unnamed, Vec::<&String>::new());
}

fn execute(examples: &[Example], site: &Site, variables: &[(&str, &str)]) {
    let program = Path::new(env!("CARGO_BIN_EXE_agent-cli")).parent().unwrap();
    for example in examples {
        let mut shell = Command::new("sh");
        shell.current_dir(site.path("")).env_clear().envs(variables.iter().copied());
        shell.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
        example.prints_what_the_page_says(&mut shell);
    }
}

/// The commands that do something, as the program's own help names them.
fn commands_of(words: &[String]) -> Vec<Vec<String>> {
    let help = Site::new().ended(words.iter().map(String::as_str).chain(["--help"])).text();
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![words.to_vec()] };
    // What is indented further goes on with the line above.
    let lines = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names = lines.filter_map(|line| line.split(' ').next()).filter(|name| !["", "help"].contains(name));
    names.flat_map(|name| commands_of(&[words, &[name.to_owned()]].concat())).collect()
}

#[test]
fn every_command_has_an_example() {
    let examples = examples(&page("docs/cli.md"));
    let commands = commands_of(&[]);
    assert!(commands.len() > 25, "{commands:?}");
    for command in commands {
        let line = format!("agent-cli {} ", command.join(" "));
        let is_used = |example: &Example| format!("{} ", example.command).contains(&line);
        assert!(examples.iter().any(is_used), "{line}");
    }
}

#[test]
fn a_page_that_says_something_else_is_noticed() {
    assert!(is_as_expected("a b c", "a … c") && is_as_expected("a", "a") && is_as_expected("", "…"));
    for (text, expected) in [("a b c", "a … d"), ("a", "b"), ("ab", "a"), ("b a", "a…"), ("a", "a…a")] {
        assert!(!is_as_expected(text, expected), "{text} {expected}");
    }
}
