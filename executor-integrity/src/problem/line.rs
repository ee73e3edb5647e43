//! What can be wrong with one line of the manifest.

/// What is wrong with a line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LineFault {
    /// It is neither a comment nor a digest, two blanks and a name.
    Malformed,
    /// Its name stands in an earlier line already.
    Duplicate {
        /// The number of the earlier line.
        first: usize,
    },
    /// It is the first of some lines that end in a carriage return.
    CarriageReturn {
        /// How many lines do.
        lines: usize,
    },
    /// Its name is outside the grammar of names, or the manifest's own.
    BadName {
        /// Which rule it breaks.
        rule: String,
    },
    /// It looks like a version, created or expires line and is none.
    BadHeader {
        /// What would be read.
        expected: &'static str,
    },
    /// It is the last line and does not end in a newline: something may have been cut off.
    Unterminated,
}

impl LineFault {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Malformed => "bad_line",
            Self::Duplicate { .. } => "duplicate_line",
            Self::CarriageReturn { .. } => "carriage_return",
            Self::BadName { .. } => "bad_line_name",
            Self::BadHeader { .. } => "bad_header",
            Self::Unterminated => "unterminated_line",
        }
    }

    pub(super) fn wrong(&self) -> String {
        match self {
            Self::Malformed => "the line is neither a comment nor a digest with a name".to_owned(),
            Self::Duplicate { first } => format!("the line lists what line {first} lists already"),
            Self::CarriageReturn { lines } => {
                format!("the line ends in a carriage return, as {lines} in all do")
            }
            Self::BadName { rule } => rule.clone(),
            Self::BadHeader { .. } => "the line has no valid value, or comes twice".to_owned(),
            Self::Unterminated => "the last line does not end in a newline".to_owned(),
        }
    }

    pub(super) fn right(&self) -> String {
        match self {
            Self::Malformed => {
                "64 lowercase hexadecimal digits, two blanks and the name, or # and a comment".to_owned()
            }
            Self::Duplicate { .. } => "each file is listed once".to_owned(),
            Self::CarriageReturn { .. } => "lines end in a newline alone".to_owned(),
            Self::BadName { .. } => "list only files with allowed names".to_owned(),
            Self::BadHeader { expected } => format!("one line like {expected}"),
            Self::Unterminated => "every line ends in a newline, create the manifest anew".to_owned(),
        }
    }
}
