//! The examples of the pages about the command line and about scripts, executed one after the other on one site each.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::service::Service;
use crate::support::{Ended, Site};

/// What stands for a text that differs each time.
const ANY: &str = "…";

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The text of the page's blocks of one kind.
fn blocks(page: &str, kind: &str) -> Vec<String> {
    let opening = format!("```{kind}\n");
    let parts = page.split(opening.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A command of the page, and what it prints.
struct Example {
    command: String,
    output: String,
}

fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks(page, "console") {
        for line in block.lines() {
            match line.strip_prefix("$ ") {
                Some(command) => {
                    examples.push(Example { command: command.to_owned(), output: String::new() });
                }
                None => examples.last_mut().unwrap().output.push_str(&format!("{line}\n")),
            }
        }
    }
    examples
}

/// Whether a text is the expected one, in which a mark stands for any text.
fn is_as_expected(text: &str, expected: &str) -> bool {
    let pieces: Vec<&str> = expected.split(ANY).collect();
    let [first, between @ .., last] = pieces.as_slice() else { return text == expected };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for piece in between {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn every_example_of_the_page_prints_what_the_page_says() {
    let page = page("cli.md");
    let (site, service) = Service::on_a_free_port();
    site.script("deploy/web.sh", &blocks(&page, "sh")[0]);
    let examples = examples(&page);
    assert!(examples.len() > 20, "the page has {} examples", examples.len());
    execute(examples, &site, service.port);
}

#[test]
fn every_example_of_the_page_about_scripts_prints_what_the_page_says() {
    let page = page("scripts.md");
    let site = Site::new();
    site.script("deploy.sh", &blocks(&page, "sh")[0]);
    let examples = examples(&page);
    assert!(examples.len() > 5, "the page has {} examples", examples.len());
    execute(examples, &site, 0);
}

#[test]
fn the_page_about_scripts_names_every_key() {
    let page = page("scripts.md");
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

fn execute(examples: Vec<Example>, site: &Site, port: u16) {
    let program = Path::new(env!("CARGO_BIN_EXE_agent-cli")).parent().unwrap();
    for Example { command, output } in examples {
        let mut shell = Command::new("sh");
        let line = format!("exec 2>&1; {command}\ncode=$?; [ $code = 0 ] || echo \"[exit code $code]\"");
        shell.args(["-c", &line]).current_dir(site.path("")).env_clear();
        shell.env("PATH", format!("{}:/usr/bin:/bin", program.display()));
        shell.env("DEVOPS_AGENT__HTTP__PORT", port.to_string());
        let text = Ended::of(&mut shell).text();
        let lines: Vec<&str> = text.lines().collect();
        let expected: Vec<&str> = output.lines().collect();
        let fits = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(line, expected)| is_as_expected(line, expected));
        assert!(fits, "$ {command}\nprints\n{text}\nand the page says\n{output}");
    }
}

#[test]
fn every_command_has_an_example() {
    let examples = examples(&page("cli.md"));
    for command in [
        "run",
        "list",
        "show",
        "lint",
        "new",
        "completions",
        "man",
        "manifest create",
        "manifest verify",
        "manifest sign",
        "manifest keygen",
        "task submit",
        "task list",
        "task show",
        "task logs",
        "task cancel",
        "task rerun",
        "task debug-script",
        "token create",
        "backup",
        "restore",
    ] {
        let line = format!("agent-cli {command} ");
        let is_used = |example: &Example| format!("{} ", example.command).contains(&line);
        assert!(examples.iter().any(is_used), "{command}");
    }
}

#[test]
fn a_page_that_says_something_else_is_noticed() {
    assert!(is_as_expected("a b c", "a … c") && is_as_expected("a", "a") && is_as_expected("", "…"));
    for (text, expected) in [("a b c", "a … d"), ("a", "b"), ("ab", "a"), ("b a", "a…"), ("a", "a…a")] {
        assert!(!is_as_expected(text, expected), "{text} {expected}");
    }
}
