//! Which lines of a script are its header. Bytes in, texts with the numbers of their lines out; nothing is parsed
//! here.

use crate::header::{BrokenReason, HEAD_BYTES, Warning};

/// Lines of a file that can be header.
const MAX_LINES: usize = 200;
/// Longest header in bytes. Longer ones say more than a person reads, and cost time at each look.
const MAX_BYTES: usize = 64 << 10;
/// How a comment begins in the languages of scripts.
const COMMENTS: [&str; 3] = ["#", "//", "::"];

/// Text of a header that is parsed as one, and which line of the file each of its lines was.
#[derive(Debug, Default, Clone)]
pub(super) struct Block {
    pub(super) text: String,
    lines: Vec<u64>,
}

/// The header of a script, taken but not read.
#[derive(Debug, Default)]
pub(super) struct HeaderLines {
    /// All `#USAGE` lines.
    pub(super) usage: Block,
    /// The `#TASK` lines, one block for each statement.
    pub(super) tasks: Vec<Block>,
    pub(super) broken: Vec<BrokenReason>,
    pub(super) warnings: Vec<Warning>,
    bytes: usize,
    /// The line that ended the `#USAGE` lines for other tools.
    torn_at: Option<u64>,
}

/// What a line of the file is to the header.
enum Line<'a> {
    Usage(&'a str),
    Task(&'a str),
    BlankComment,
    Other(&'a str),
}

impl Block {
    fn push(&mut self, number: u64, text: &str) {
        if !self.lines.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(text);
        self.lines.push(number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The block in pieces that could be statements: lines, joined while a block or a text of several lines seems
    /// open in them. Good enough to tell mistakes apart, not to read what is right.
    pub(super) fn statements(&self) -> Vec<Self> {
        let mut statements: Vec<Self> = Vec::new();
        let mut open = false;
        for (line, number) in self.text.split('\n').zip(&self.lines) {
            match statements.last_mut() {
                Some(last) if open => last.push(*number, line),
                _ => {
                    let mut statement = Self::default();
                    statement.push(*number, line);
                    statements.push(statement);
                }
            }
            let text = statements.last().map(|statement| statement.text.as_str()).unwrap_or_default();
            let count = |what: &str| text.matches(what).count();
            open = count("{") > count("}") || count("\"\"\"") % 2 == 1;
        }
        statements
    }

    /// The line of the file that this byte of the text stood in.
    pub(super) fn line_at(&self, offset: usize) -> u64 {
        let before = self.text.as_bytes().iter().take(offset).filter(|&&b| b == b'\n').count();
        self.lines.get(before).or(self.lines.last()).copied().unwrap_or(1)
    }
}

impl HeaderLines {
    /// Takes the header from the first lines of a file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut taken = Self::default();
        let lines = bytes.iter().filter(|&&b| b == b'\n').take(MAX_LINES).count();
        if bytes.starts_with(b"#!") && bytes.len() >= HEAD_BYTES && lines < MAX_LINES {
            // What says how to confine a script must not stand where nobody looks.
            let reason = format!(
                "its first {MAX_LINES} lines are longer than {HEAD_BYTES} bytes, so that its header cannot be seen"
            );
            taken.broken.push(BrokenReason { line: None, reason });
            return taken;
        }
        for (number, line) in (1u64..).zip(bytes.split(|&b| b == b'\n')).take(MAX_LINES) {
            taken.take(number, line.strip_suffix(b"\r").unwrap_or(line));
        }
        if taken.bytes > MAX_BYTES {
            let reason = format!("the header has {} bytes; {MAX_BYTES} is the most", taken.bytes);
            return Self { broken: vec![BrokenReason { line: None, reason }], ..Self::default() };
        }
        taken
    }

    fn take(&mut self, number: u64, line: &[u8]) {
        let Ok(text) = std::str::from_utf8(line) else {
            self.take_bytes(number, line);
            return;
        };
        match Line::of(text) {
            Line::Usage(content) => {
                self.bytes += text.len();
                self.warn_if_torn(number);
                self.usage.push(number, content.trim());
            }
            Line::Task(content) => {
                self.bytes += text.len();
                self.end_usage(number);
                self.take_task(number, content);
            }
            Line::BlankComment => {}
            Line::Other(text) => {
                self.end_usage(number);
                self.warn_of_blank(number, text);
            }
        }
    }

    /// A line that is no text can be part of a script, but not of its header.
    fn take_bytes(&mut self, number: u64, line: &[u8]) {
        let lossy = String::from_utf8_lossy(line);
        match Line::of(&lossy) {
            Line::Usage(_) | Line::Task(_) => {
                let reason = "a line of the header is UTF-8 text; this one is not".to_owned();
                self.broken.push(BrokenReason { line: Some(number), reason });
            }
            Line::BlankComment | Line::Other(_) => self.end_usage(number),
        }
    }

    /// A statement goes on in the next line while a text of several lines is open in it.
    fn take_task(&mut self, number: u64, content: &str) {
        match self.tasks.last_mut() {
            Some(last) if last.text.matches("\"\"\"").count() % 2 == 1 => last.push(number, content),
            _ => {
                let mut block = Block::default();
                block.push(number, &format!("task {content}"));
                self.tasks.push(block);
            }
        }
    }

    fn end_usage(&mut self, number: u64) {
        if !self.usage.is_empty() && self.torn_at.is_none() {
            self.torn_at = Some(number);
        }
    }

    fn warn_if_torn(&mut self, number: u64) {
        if let Some(torn_at) = self.torn_at {
            let reason = format!(
                "other tools stop reading #USAGE lines at line {torn_at}; keep them together, with nothing but \
                 empty comments in between"
            );
            self.warnings.push(Warning { line: Some(number), reason });
            // Told once for each tear.
            self.torn_at = None;
        }
    }

    /// `# USAGE` looks like a header and is none.
    fn warn_of_blank(&mut self, number: u64, text: &str) {
        let Some(rest) = COMMENTS.iter().find_map(|comment| text.strip_prefix(comment)) else { return };
        let trimmed = rest.trim_start();
        let is_apart = trimmed.len() < rest.len();
        let means_usage = trimmed.strip_prefix("USAGE").is_some_and(|rest| {
            let word = rest.split_whitespace().next().unwrap_or_default();
            rest.starts_with([' ', '\t']) && super::guard::ROOT.iter().any(|(name, _)| *name == word)
        });
        let means_task = trimmed
            .strip_prefix("TASK")
            .is_some_and(|rest| rest.starts_with([' ', '\t']) && rest.contains('='));
        if is_apart && (means_usage || means_task) {
            let reason =
                "this is a comment and no header line: leave out the blank before USAGE or TASK".to_owned();
            self.warnings.push(Warning { line: Some(number), reason });
        }
    }
}

/// The lines that are header, among those that may be.
pub(super) fn of_header(bytes: &[u8]) -> String {
    let lines =
        bytes.split(|&b| b == b'\n').take(MAX_LINES).filter_map(|line| std::str::from_utf8(line).ok());
    let is_header = |line: &&str| matches!(Line::of(line), Line::Usage(_) | Line::Task(_));
    let mut header: Vec<&str> = lines.map(|line| line.trim_end_matches('\r')).filter(is_header).collect();
    header.push("");
    header.join("\n")
}

impl<'a> Line<'a> {
    fn of(line: &'a str) -> Self {
        let Some(rest) = COMMENTS.iter().find_map(|comment| line.strip_prefix(comment)) else {
            return Self::Other(line);
        };
        // What `usage` takes, to the letter: `#USAGE`, `#[USAGE]`, `# [USAGE]`.
        let bracketed = rest.strip_prefix(' ').unwrap_or(rest).strip_prefix("[USAGE]");
        if let Some(content) = rest.strip_prefix("USAGE").or(bracketed) {
            return Self::Usage(content);
        }
        match rest.strip_prefix("TASK") {
            Some("") => Self::Task(""),
            Some(content) if content.starts_with([' ', '\t']) => Self::Task(&content[1..]),
            _ if rest.trim().is_empty() => Self::BlankComment,
            _ => Self::Other(line),
        }
    }
}
