//! What the commands print: data on standard output, talk on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::terminal::{self, PLAIN, Style, escaped_line, steers};

/// Takes the line away that the cursor stands in, and goes to its beginning (ECMA-48: CR, EL).
const WIPE: &str = "\r\x1b[2K";

/// Whether a colour of a script's output may hold on the terminal.
static COLOUR_HOLDS: AtomicBool = AtomicBool::new(false);
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

/// Prints a piece of a log that was made safe for the terminal; `is_coloured` says whether its last colour still holds.
/// False when nobody reads any more.
pub(crate) fn write_shown(text: &str, is_coloured: bool) -> bool {
    // Before and after: what is said meanwhile must not get a colour of the log's either.
    COLOUR_HOLDS.fetch_or(is_coloured || text.contains('\x1b'), Ordering::Relaxed);
    let is_read = write(text.as_bytes());
    COLOUR_HOLDS.fetch_and(is_coloured, Ordering::Relaxed);
    is_read
}

/// Prints JSON, readable. Its own escapes leave DEL, the control characters of eight bits, and Unicode's bidirectional
/// ones, which stand in strings only.
pub(crate) fn print_json(value: &Value) {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) && c != '\n' { safe.push_str(&format!("\\u{:04x}", u32::from(c))) } else { safe.push(c) }
    }
    print(&safe);
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
    let _ = end_colour(&mut err)
        .and_then(|()| write!(err, "{WIPE}{}", style.dim(text)))
        .and_then(|()| err.flush());
}

/// Standard error for everybody who says something there: a status line goes first.
#[derive(Debug)]
pub(crate) struct Talk;

impl Write for Talk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut err = io::stderr().lock();
        end_colour(&mut err)?;
        wipe_status(&mut err);
        // Whole lines at once: two that speak at the same time are not mixed.
        err.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Ends a colour that the script's output left on the terminal, also for the line that is wiped next.
fn end_colour(err: &mut io::StderrLock<'_>) -> io::Result<()> {
    let holds = err.is_terminal() && COLOUR_HOLDS.swap(false, Ordering::Relaxed);
    if holds { err.write_all(PLAIN.as_bytes()) } else { Ok(()) }
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

/// Asks for a line in a line of its own; none where there is none.
pub(crate) fn ask(question: &str) -> Option<String> {
    prompt(&format!("{question}\n"))
}

/// Asks for what is typed behind the question; none where there is no more to read.
pub(crate) fn prompt(question: &str) -> Option<String> {
    show_question(question);
    let mut line = String::new();
    let read = io::stdin().read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Shows a question behind which somebody types.
pub(crate) fn show_question(question: &str) {
    // As in `say`.
    let _ = Talk.write_all(question.as_bytes()).and_then(|()| Talk.flush());
}

/// So many of something, such as `1 file` and `2 files`.
pub(crate) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Columns for people: each as wide as its widest cell, the last one as it is. What is in them steers no terminal.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    padded(rows).iter().map(|row| row.join("  ").trim_end().to_owned()).collect()
}

/// The cells of such columns.
pub(crate) fn padded(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| escaped_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let pad =
        |row: &Vec<String>| row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
    rows.iter().map(pad).collect()
}
