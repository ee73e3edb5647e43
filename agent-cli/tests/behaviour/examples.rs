//! The commands of the documentation, with what they print.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What stands for a text that differs each time.
const ANY: &str = "…";

/// A page, by its path from the repository's folder on.
pub(crate) fn page(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The chapter of a page under that heading.
pub(crate) fn chapter<'a>(page: &'a str, title: &str) -> &'a str {
    let beginning = format!("{title}\n");
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with(&beginning));
    chapter.unwrap_or_else(|| panic!("there is no chapter {title:?}"))
}

/// The text of a page's blocks of one kind.
pub(crate) fn blocks_of(page: &str, kind: &str) -> Vec<String> {
    let opening = format!("```{kind}\n");
    let parts = page.split(opening.as_str()).skip(1);
    parts.map(|part| part.split("```").next().unwrap().to_owned()).collect()
}

/// A command of a page, and what it prints.
pub(crate) struct Example {
    pub(crate) command: String,
    pub(crate) output: String,
}

/// The commands of a page's blocks that show what they print.
pub(crate) fn examples(page: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    for block in blocks_of(page, "console") {
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

impl Example {
    /// Executes it in a shell whose folder and environment are the caller's; it must print what the page says.
    pub(crate) fn prints_what_the_page_says(&self, shell: &mut Command) {
        let Self { command, output } = self;
        let line = format!("exec 2>&1; {command}\ncode=$?; [ $code = 0 ] || echo \"[exit code $code]\"");
        let printed = shell.args(["-c", &line]).output().unwrap().stdout;
        let text = String::from_utf8(printed).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let expected: Vec<&str> = output.lines().collect();
        let fits = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(line, expected)| is_as_expected(line, expected));
        assert!(fits, "$ {command}\nprints\n{text}\nand the page says\n{output}");
    }
}

/// Whether a text is the expected one, in which a mark stands for any text.
pub(crate) fn is_as_expected(text: &str, expected: &str) -> bool {
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
