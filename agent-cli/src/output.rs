//! What the commands print: data on standard output, talk on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::terminal::{self, Style};

/// Takes the line away that the cursor stands in, and goes to its beginning (ECMA-48: CR, EL).
const WIPE: &str = "\r\x1b[2K";

/// Whether a status line stands on the terminal. It is changed under the lock of standard error only.
static STATUS_STANDS: AtomicBool = AtomicBool::new(false);

/// Prints data, a line. A reader that went away is no failure: it has what it wanted.
pub(crate) fn print(text: &str) {
    write(format!("{text}\n").as_bytes());
}

/// Prints data as it is; false when nobody reads any more.
pub(crate) fn write(bytes: &[u8]) -> bool {
    if is_terminal() {
        wipe_status(&mut io::stderr().lock());
    }
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Prints JSON, readable.
pub(crate) fn print_json(value: &Value) {
    print(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Says something to the person in front of it.
pub(crate) fn say(text: &str) {
    // Nobody listens: nothing to be done about it.
    let _ = Talk.write_all(format!("{text}\n").as_bytes());
}

/// Shows a line that goes away before anything else is written. Only where both outputs are a terminal: behind a pipe
/// stands a program that may draw on the same screen. It must not be wider than any terminal.
pub(crate) fn status(text: &str) {
    if !is_terminal() || !terminal::stderr_moves() {
        return;
    }
    let mut err = io::stderr().lock();
    let style = Style::of_stderr();
    STATUS_STANDS.store(true, Ordering::Relaxed);
    // As in `say`.
    let _ = write!(err, "{WIPE}{}", style.dim(text)).and_then(|()| err.flush());
}

/// Standard error for everybody who says something there: a status line goes first.
#[derive(Debug)]
pub(crate) struct Talk;

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        wipe_status(&mut err);
        // Whole lines at once: two that speak at the same time are not mixed.
        err.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Takes a status line away. The lock keeps others from drawing one in between.
fn wipe_status(err: &mut io::StderrLock<'_>) {
    if STATUS_STANDS.swap(false, Ordering::Relaxed) {
        // As in `say`.
        let _ = err.write_all(WIPE.as_bytes());
    }
}

/// Whether standard output is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether somebody is there to be asked and to answer.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a line; none where there is none.
pub(crate) fn ask(question: &str) -> Option<String> {
    say(question);
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// So many of something, such as `1 file` and `2 files`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Columns for people: each as wide as its widest cell, the last one as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}
