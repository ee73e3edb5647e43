//! Terminals: colour where it is wanted, and logs without the sequences that would let a script's output write
//! anywhere on the screen or into the terminal's own settings.

use std::io::{self, IsTerminal};

use terminal_size::{Width, terminal_size_of};

/// Whether messages are coloured: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(crate) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && is_colour_wanted()
}

/// Whether a terminal there is would show colours, and may.
fn is_colour_wanted() -> bool {
    has_moving_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard error is a terminal that understands more than plain lines.
pub(crate) fn stderr_moves() -> bool {
    io::stderr().is_terminal() && has_moving_terminal()
}

/// Columns of the terminal that standard output is; none where it is none, or does not say.
pub(crate) fn width() -> Option<usize> {
    terminal_size_of(io::stdout()).map(|(Width(columns), _)| columns.into())
}

/// As much of a text as stands in so many columns, with a mark where there is more of it.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let kept = text.chars().take(columns.saturating_sub(1)).collect::<String>();
    if columns == 0 { kept } else { kept + "…" }
}

fn has_moving_terminal() -> bool {
    std::env::var_os("TERM").is_some_and(|kind| kind != "dumb")
}

/// Colours text, or leaves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style(bool);

impl Style {
    /// As standard error wants it.
    pub(crate) fn of_stderr() -> Self {
        Self(stderr_has_colour())
    }

    /// As standard output wants it.
    pub(crate) fn of_stdout() -> Self {
        Self(io::stdout().is_terminal() && is_colour_wanted())
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.sgr("31;1", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.sgr("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.sgr("33", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.sgr("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.sgr("2", text)
    }

    fn sgr(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Makes a log safe to show on a terminal: text, newlines, tabs and colours pass; every other control character is
/// shown as an escape. Bytes that are no UTF-8 become replacement characters. Works on pieces of any size.
#[derive(Debug, Default)]
pub(crate) struct TerminalFilter {
    /// The beginning of a character or of a colour whose rest has not come yet.
    held: Vec<u8>,
    /// Whether the last colour that passed still holds.
    is_coloured: bool,
}

/// Ends every colour and style (ECMA-48, SGR).
pub(crate) const PLAIN: &str = "\x1b[0m";
/// Longest colour sequence that passes, bytes: both colours in full, and some styles.
const MAX_SEQUENCE_BYTES: usize = 64;

impl TerminalFilter {
    /// The next piece, safe.
    pub(crate) fn filter(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let held = std::mem::take(&mut self.held);
        let (text, rest) = decode(&held);
        let (shown, kept) = self.show(&text);
        self.held.extend_from_slice(kept.as_bytes());
        self.held.extend_from_slice(rest);
        shown
    }

    /// What was held back, at the end.
    pub(crate) fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&held).chars().map(in_log).collect()
    }

    /// Whether what comes next would have a colour of the log's.
    pub(crate) fn is_coloured(&self) -> bool {
        self.is_coloured
    }

    /// The shown form of some text, and what stands at its end that may become a colour.
    fn show<'a>(&mut self, text: &'a str) -> (String, &'a str) {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if c == '\x1b' {
                match colour(rest) {
                    Colour::Whole(length) => {
                        self.is_coloured = !matches!(&rest[..length], "\x1b[m" | PLAIN);
                        shown.push_str(&rest[..length]);
                        rest = &rest[length..];
                        continue;
                    }
                    Colour::Beginning => return (shown, rest),
                    Colour::None => {}
                }
            }
            shown.push_str(&in_log(c));
            rest = &rest[c.len_utf8()..];
        }
        (shown, "")
    }
}

/// The text of some bytes, and the bytes of a character at their end that is not whole.
fn decode(bytes: &[u8]) -> (String, &[u8]) {
    let mut text = String::new();
    let mut rest = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return (text, &[]);
            }
            Err(error) => {
                let (valid, behind) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &behind[length..];
                    }
                    None => return (text, behind),
                }
            }
        }
    }
}

enum Colour {
    Whole(usize),
    Beginning,
    None,
}

/// Whether a text begins with a colour (ECMA-48, SGR): ESC `[`, numbers with `;` between, `m`. Of the styles only those
/// pass that leave the text readable: concealed text would hide what is said afterwards.
fn colour(text: &str) -> Colour {
    let bytes = text.as_bytes();
    if bytes.len() > 1 && bytes[1] != b'[' {
        return Colour::None;
    }
    let end = bytes.iter().skip(2).position(|b| !b.is_ascii_digit() && *b != b';');
    match end {
        Some(at)
            if bytes[at + 2] == b'm' && at + 3 <= MAX_SEQUENCE_BYTES && is_readable(&text[2..at + 2]) =>
        {
            Colour::Whole(at + 3)
        }
        None if bytes.len() < MAX_SEQUENCE_BYTES => Colour::Beginning,
        _ => Colour::None,
    }
}

/// Whether the numbers of a colour sequence are known ones: none, bold to underlined, reverse, struck out, their ends,
/// and colours by name, from the table of 256, or in full.
fn is_readable(numbers: &str) -> bool {
    let numbers: Option<Vec<u8>> = numbers
        .split(';')
        .map(|number| if number.is_empty() { Some(0) } else { number.parse().ok() })
        .collect();
    let Some(numbers) = numbers else { return false };
    let mut rest = numbers.as_slice();
    while let [number, behind @ ..] = rest {
        rest = match (number, behind) {
            (38 | 48, [5, _, behind @ ..] | [2, _, _, _, behind @ ..]) => behind,
            (0..=4 | 7 | 9 | 21..=25 | 27..=37 | 39..=47 | 49 | 90..=97 | 100..=107, _) => behind,
            _ => return false,
        };
    }
    true
}

/// A character of a log: lines and tabs are kept.
fn in_log(c: char) -> String {
    match c {
        '\n' | '\t' => c.to_string(),
        // Progress bars: a line each is readable, and hides nothing.
        '\r' => "\n".to_owned(),
        c => escaped(c),
    }
}

/// A line without what steers a terminal.
pub(crate) fn escaped_line(line: &str) -> String {
    line.chars().map(escaped).collect()
}

/// Whether a character steers a terminal, or turns around what is read (Unicode's bidirectional controls).
pub(crate) fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A character of a line; escaped where it steers.
fn escaped(c: char) -> String {
    if steers(c) { c.escape_default().to_string() } else { c.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> String {
        let mut filter = TerminalFilter::default();
        let mut shown = filter.filter(bytes);
        shown.push_str(&filter.finish());
        shown
    }

    #[test]
    fn colours_pass_and_everything_else_is_shown() {
        assert_eq!(whole(b"a\x1b[31mred\x1b[0m\n"), "a\x1b[31mred\x1b[0m\n");
        assert_eq!(whole(b"\x1b]0;title\x07"), "\\u{1b}]0;title\\u{7}");
        assert_eq!(whole(b"\x1b[2J\x1b[1;1H"), "\\u{1b}[2J\\u{1b}[1;1H");
        assert_eq!(whole("\u{9b}31m".as_bytes()), "\\u{9b}31m");
        assert_eq!(whole(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn colours_of_every_kind_pass_and_numbers_that_hide_text_do_not() {
        for passes in
            ["", "0", ";", "1;31", "4", "7;9", "22;39;49", "97;107", "38;5;8", "38;2;8;8;8;48;5;208;1"]
        {
            let colour = format!("\x1b[{passes}m");
            assert_eq!(whole(colour.as_bytes()), colour);
        }
        for hidden in
            ["8", "1;8", "08", "31;8;32", "264", "5", "6", "38", "38;5", "38;2;1;2", "38;8;1", "10", "1;;8"]
        {
            assert_eq!(whole(format!("\x1b[{hidden}m").as_bytes()), format!("\\u{{1b}}[{hidden}m"));
        }
        let long = format!("\x1b[{}1m", "0;".repeat(40));
        assert!(!whole(long.as_bytes()).contains('\x1b'));
    }

    #[test]
    fn a_colour_holds_until_the_log_ends_it() {
        let mut filter = TerminalFilter::default();
        for (piece, is_coloured) in [
            ("a", false),
            ("\x1b[31", false),
            ("m", true),
            ("text\n", true),
            ("\x1b[8m", true),
            ("\x1b[m", false),
        ] {
            filter.filter(piece.as_bytes());
            assert_eq!(filter.is_coloured(), is_coloured, "{piece:?}");
        }
    }

    proptest! {
        #[test]
        fn no_control_character_but_newline_tab_and_colours_passes(bytes: Vec<u8>) {
            let shown = whole(&bytes);
            let mut rest = shown.as_str();
            while let Some(at) = rest.find('\x1b') {
                let Colour::Whole(length) = colour(&rest[at..]) else {
                    return Err(TestCaseError::fail("an escape that is no colour"));
                };
                prop_assert!(!rest[..at].chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
                rest = &rest[at + length..];
            }
            prop_assert!(!rest.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        }

        #[test]
        fn pieces_show_what_the_whole_shows(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                "(\\x1b\\[[0-9;]{0,70}m?){1,3}".prop_map(String::into_bytes),
            ],
            cut in 0usize..140,
        ) {
            let cut = cut.min(bytes.len());
            let mut filter = TerminalFilter::default();
            let mut shown = filter.filter(&bytes[..cut]);
            shown.push_str(&filter.filter(&bytes[cut..]));
            shown.push_str(&filter.finish());
            prop_assert_eq!(shown, whole(&bytes));
        }
    }
}
