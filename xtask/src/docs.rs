//! `cargo xtask docs`: makes `docs/configuration.md` from the comments of `etc/application.toml`, so that what a user reads
//! and what the program does have one source.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

const SOURCE: &str = "etc/application.toml";
const PAGE: &str = "docs/configuration.md";
const HEAD: &str =
    "# Configuration\n\n<!-- Made by `cargo xtask docs` from etc/application.toml: change that file. -->\n";

/// Makes the page, or with `--check` looks whether it is up to date.
pub(crate) fn run(folder: &Path, arguments: &[String]) -> Result<(), Failure> {
    match arguments {
        [] => write(folder),
        [flag] if flag == "--check" => check(folder),
        _ => Err(Failure::Usage { help: "docs takes nothing or --check".to_owned() }),
    }
}

/// Fails when the page is not what would be made now.
pub(crate) fn check(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(PAGE);
    if read(&path)? == render(&read(&folder.join(SOURCE))?) { Ok(()) } else { Err(Failure::Stale { path }) }
}

fn write(folder: &Path) -> Result<(), Failure> {
    let page = render(&read(&folder.join(SOURCE))?);
    let path = folder.join(PAGE);
    fs::write(&path, page).map_err(|source| Failure::File { operation: "writing", path, source })
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|source| Failure::File {
        operation: "reading",
        path: path.clone(),
        source,
    })
}

/// The page for a configuration file. Comments before a section or key are its text; a key behind `#` is an example of
/// one that has no default.
fn render(file: &str) -> String {
    let mut page = HEAD.to_owned();
    let mut section = String::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in file.lines() {
        if let Some(text) = line.strip_prefix("# ").or_else(|| (line == "#").then_some("")) {
            comment.push(text);
            continue;
        }
        let (code, is_example) = match line.strip_prefix('#') {
            Some(code) => (code, true),
            None => (line, false),
        };
        if code.starts_with('[') {
            section = code.trim_matches(['[', ']']).to_owned();
            page += &format!("\n## `{code}`\n");
        } else if let Some((key, value)) = code.split_once(" = ") {
            page += &format!("\n### `{key}`\n");
            let kind = if is_example { "No default; for example" } else { "Default:" };
            page += &paragraphs(&std::mem::take(&mut comment));
            page += &format!("\n{kind} `{value}`{}\n", variable(&section, key));
            continue;
        }
        page += &paragraphs(&std::mem::take(&mut comment));
    }
    page
}

/// The comment as text of its own, after a blank line.
fn paragraphs(comment: &[&str]) -> String {
    if comment.is_empty() { String::new() } else { format!("\n{}\n", comment.join("\n").trim_start()) }
}

/// How the environment says it. Lists of sections, and labels, whose names are free, cannot be given there.
fn variable(section: &str, key: &str) -> String {
    if matches!(section, "auth.token" | "hook") || (section, key) == ("node", "labels") {
        return ".".to_owned();
    }
    let section = section.replace('.', "__").to_ascii_uppercase();
    let key = key.to_ascii_uppercase();
    format!(". Environment: `DEVOPS_AGENT__{section}__{key}`.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_text_and_keys_become_headings() {
        let file = "# Intro.\n#\n# More.\n\n# The service.\n[http]\n# The port.\nport = 8848\n# A switch.\n#on = true\n\n\
                    # A token.\n#[[auth.token]]\n# Who.\n#name = \"ci\"\n";
        let expected = [
            HEAD,
            "Intro.\n\nMore.\n",
            "## `[http]`\n\nThe service.\n",
            "### `port`\n\nThe port.\n\nDefault: `8848`. Environment: `DEVOPS_AGENT__HTTP__PORT`.\n",
            "### `on`\n\nA switch.\n\nNo default; for example `true`. Environment: `DEVOPS_AGENT__HTTP__ON`.\n",
            "## `[[auth.token]]`\n\nA token.\n",
            "### `name`\n\nWho.\n\nNo default; for example `\"ci\"`.\n",
        ];
        let expected = expected.join("\n");
        assert_eq!(render(file), expected);
    }

    #[test]
    fn a_page_is_out_of_date_as_soon_as_its_source_changes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        fs::create_dir_all(folder.join("etc")).unwrap();
        fs::create_dir_all(folder.join("docs")).unwrap();
        fs::write(folder.join(SOURCE), "[http]\n# The port.\nport = 1\n").unwrap();
        assert!(matches!(check(folder), Err(Failure::File { .. })));
        run(folder, &[]).unwrap();
        check(folder).unwrap();
        fs::write(folder.join(SOURCE), "[http]\n# The port.\nport = 2\n").unwrap();
        assert!(matches!(check(folder), Err(Failure::Stale { .. })));
    }
}
