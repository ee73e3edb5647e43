//! Bash hands over the line as it was typed, and replaces the last part of it by what it is offered, as it is: words are
//! taken apart and quoted here. Pure.

/// The word at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// What it means so far.
    pub(super) value: String,
    /// How many bytes of that stay; readline replaces what is behind them.
    kept: usize,
    /// The quote that is open at the cursor.
    quote: Option<char>,
}

impl Word {
    /// A word that another shell took apart.
    pub(super) fn plain(value: &str) -> Self {
        Self { value: value.to_owned(), kept: 0, quote: None }
    }

    /// The same where all of it is replaced.
    pub(super) fn whole(self) -> Self {
        Self { kept: 0, quote: None, ..self }
    }

    /// What readline is to put there for this word; none where it does not go on from what stands there.
    pub(super) fn completed(&self, word: &str) -> Option<String> {
        if !word.starts_with(&self.value) {
            return None;
        }
        Some(quoted(word.get(self.kept..)?, self.quote))
    }
}

/// Takes a line apart: the words before the one at its end, and that one. `breaks` is bash's COMP_WORDBREAKS.
pub(super) fn split(line: &str, breaks: &str) -> (Vec<String>, Word) {
    let mut reader = Reader { breaks, words: Vec::new(), word: None, quote: None };
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (reader.quote, c) {
            (None | Some('"'), '\\') => {
                let Some(next) = characters.next() else { break };
                let is_kept = reader.quote.is_some() && !matches!(next, '"' | '\\' | '$' | '`');
                if is_kept {
                    reader.push('\\');
                }
                reader.push(next);
            }
            (None, ' ' | '\t' | '\n') => reader.end_word(),
            (None, '\'' | '"') => {
                reader.quote = Some(c);
                reader.breaks_here();
            }
            (Some(quote), c) if c == quote => {
                reader.quote = None;
                reader.breaks_here();
            }
            (_, c) => {
                reader.push(c);
                if reader.quote.is_none() && breaks.contains(c) {
                    reader.breaks_here();
                }
            }
        }
    }
    let Reader { words, word, quote, .. } = reader;
    let (value, kept) = word.unwrap_or_default();
    (words, Word { value, kept, quote })
}

struct Reader<'a> {
    breaks: &'a str,
    words: Vec<String>,
    /// The word that is read, and how much of it stays.
    word: Option<(String, usize)>,
    quote: Option<char>,
}

impl Reader<'_> {
    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().0.push(c);
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take().map(|(word, _)| word));
    }

    /// Readline replaces what stands behind a character at which it divides words, or behind a quote.
    fn breaks_here(&mut self) {
        let word = self.word.get_or_insert_default();
        if !self.breaks.is_empty() {
            word.1 = word.0.len();
        }
    }
}

/// A text so that bash reads it back, in a quote that is open or without one.
fn quoted(text: &str, quote: Option<char>) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./,:=@%+".contains(c);
    let one = |c: char| match (quote, c) {
        (Some('\''), '\'') => "'\\''".to_owned(),
        // In these quotes there is no way to write it, so they end around it.
        (Some('"'), '!') => "\"'!'\"".to_owned(),
        (Some('"'), '"' | '\\' | '$' | '`') => format!("\\{c}"),
        (None, c) if !plain(c) => format!("\\{c}"),
        (_, c) => c.to_string(),
    };
    // An empty word is one only with quotes.
    if text.is_empty() && quote.is_none() { "''".to_owned() } else { text.chars().map(one).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BREAKS: &str = " \t\n\"'@><=;|&(:";

    fn at_cursor(line: &str, word: &str) -> Option<String> {
        split(line, BREAKS).1.completed(word)
    }

    #[test]
    fn words_are_what_bash_makes_of_them() {
        for (line, words, value) in [
            ("a b", &["a"][..], "b"),
            ("a b ", &["a", "b"], ""),
            ("a 'b c' d\\ e", &["a", "b c"], "d e"),
            ("a \"b \\\" \\$ \\x\" c'd", &["a", "b \" $ \\x"], "cd"),
            ("a '' ", &["a", ""], ""),
            ("a b\\", &["a"], "b"),
            ("", &[], ""),
        ] {
            let (found, current) = split(line, BREAKS);
            assert_eq!(found, words, "{line}");
            assert_eq!(current.value, value, "{line}");
        }
    }

    #[test]
    fn only_what_readline_replaces_is_given_and_in_the_quotes_that_are_open() {
        for (line, word, completed) in [
            ("x ", "my value", Some("my\\ value")),
            ("x my\\ v", "my value", Some("my\\ value")),
            ("x 'my v", "my value's", Some("my value'\\''s")),
            ("x \"my v", "my value $HOME!", Some("my value \\$HOME\"'!'\"")),
            ("x --env=pr", "--env=prod", Some("prod")),
            ("x host:", "host:80", Some("80")),
            ("x 'ho'", "host", Some("st")),
            ("x stag", "prod", None),
        ] {
            assert_eq!(at_cursor(line, word).as_deref(), completed, "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_was_put_there_is_read_back(word in "[^\\x00-\\x1f\\x7f]{1,20}") {
            for opened in ["x ", "x '", "x \""] {
                let completed = at_cursor(opened, &word).unwrap();
                // An exclamation mark has left the quotes and come back.
                prop_assert_eq!(split(&format!("{opened}{completed}"), BREAKS).1.value, word.clone());
            }
        }
    }
}
