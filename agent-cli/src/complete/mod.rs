//! `agent-cli completions` and what the shells ask then: what may stand at the cursor. Nothing is run for it, nothing is
//! verified, and whatever goes wrong is an empty answer: somebody is typing.
//!
//! The functions of the shells are small and do no thinking; they ask this program with each press of the key.

mod behind;
mod line;
mod names;
mod tasks;
mod walk;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::{CompleteArgs, CompletionsArgs, ShellKind};
use crate::complete::line::Word;
use crate::complete::names::Folder;
use crate::output;
use crate::terminal::{escaped_line, steers};

/// Most that is offered at once.
const MAX_OFFERED: usize = 2000;
/// Characters of a help text that are shown beside a word.
const MAX_HELP_CHARS: usize = 120;

/// What may stand at the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    words: Vec<Candidate>,
    kind: Kind,
}

/// A word that may stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    text: String,
    help: String,
}

/// What the shell does beside offering words.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A blank behind the word.
    #[default]
    Word,
    /// Something else goes on right behind it.
    More,
    /// It offers paths instead.
    Files,
    /// It offers folders instead.
    Folders,
}

/// Prints the functions of a shell.
pub(crate) fn print_functions(args: &CompletionsArgs) -> ExitCode {
    let functions = match args.shell {
        ShellKind::Bash => include_str!("agent-cli.bash"),
        ShellKind::Zsh => include_str!("agent-cli.zsh"),
        ShellKind::Fish => include_str!("agent-cli.fish"),
    };
    output::write(functions.as_bytes());
    ExitCode::SUCCESS
}

/// Answers a shell: how the words are to be taken, and the words, one to a line, with their help behind a tab. Never
/// fails.
pub(crate) fn answer(args: &CompleteArgs) -> ExitCode {
    let words: Vec<String> = args.words.iter().map(text).collect();
    let (words, current) = match (args.shell, words.as_slice()) {
        (ShellKind::Bash, [line, breaks]) => line::split(line, breaks),
        (ShellKind::Zsh, [words @ .., current]) => (words.to_vec(), Word::plain(current)),
        // What stands at the cursor comes as it was typed, with its quotes.
        (ShellKind::Fish, [words @ .., current]) => (words.to_vec(), line::split(current, "").1.whole()),
        _ => return ExitCode::SUCCESS,
    };
    // The first word is this program's name, however it was written.
    let offer = walk::offer(words.get(1..).unwrap_or_default(), &current.value);
    print(args.shell, &offer, &current);
    ExitCode::SUCCESS
}

fn print(shell: ShellKind, offer: &Offer, current: &Word) {
    output::print(match offer.kind {
        Kind::Word => "words",
        Kind::More => "more",
        Kind::Files => "files",
        Kind::Folders => "folders",
    });
    // What holds a control character cannot be typed, and would steer the terminal that shows it.
    let typeable = offer.words.iter().filter(|word| !word.text.chars().any(steers));
    for word in typeable.take(MAX_OFFERED) {
        match shell {
            // It shows no help, and neither quotes nor chooses by itself.
            ShellKind::Bash => current.completed(&word.text).iter().for_each(|text| output::print(text)),
            ShellKind::Zsh | ShellKind::Fish if word.help.is_empty() => output::print(&word.text),
            ShellKind::Zsh | ShellKind::Fish => output::print(&format!("{}\t{}", word.text, word.help)),
        }
    }
}

fn text(word: &OsString) -> String {
    word.to_string_lossy().into_owned()
}

impl Candidate {
    fn new(text: impl Into<String>, help: &str) -> Self {
        let line = help.lines().next().unwrap_or_default();
        let short: String = line.chars().take(MAX_HELP_CHARS).collect();
        Self { text: text.into(), help: escaped_line(&short) }
    }
}

impl Offer {
    fn words(words: impl IntoIterator<Item = Candidate>) -> Self {
        Self { words: words.into_iter().collect(), kind: Kind::Word }
    }

    fn paths(kind: Kind) -> Self {
        Self { words: Vec::new(), kind }
    }

    /// The same where all that stands before the value is part of the word.
    fn behind(mut self, before: &str) -> Self {
        for word in &mut self.words {
            word.text.insert_str(0, before);
        }
        self
    }
}

/// The scripts of a folder, by names and headers alone.
fn scripts(folder: &Folder, current: &str) -> Offer {
    Offer::words(folder.scripts(current).into_iter().map(|(name, help)| Candidate::new(name, &help)))
}
