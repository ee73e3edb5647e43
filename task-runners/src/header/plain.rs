//! Reads the plain form that nearly all headers have: names, `"texts"`, whole numbers, `#true`, `#false` and blocks of
//! nodes, in printable ASCII. Whatever is written otherwise, right or wrong, is left to the parser of KDL, which takes
//! many times as long; what is read here it would read as the same (shown by a property test beside this).

use usage::kdl::{KdlDocument, KdlEntry, KdlIdentifier, KdlNode, KdlValue};

/// Most blocks within each other; more are left to the other parser.
const MAX_DEPTH: usize = 8;
/// Most digits of a number: any of that many fits.
const MAX_DIGITS: usize = 18;
/// Words that KDL takes for values that somebody forgot to mark.
const NO_NAMES: [&str; 6] = ["true", "false", "null", "inf", "-inf", "nan"];

/// The document, where all of it is plain.
pub(super) fn document(text: &str) -> Option<KdlDocument> {
    let mut reader = Reader { text, at: 0 };
    let document = reader.nodes(0)?;
    (reader.at == text.len()).then_some(document)
}

/// A text, read up to here.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// Nodes up to the end of the text or of their block, which stays unread.
    fn nodes(&mut self, depth: usize) -> Option<KdlDocument> {
        let mut document = KdlDocument::new();
        loop {
            self.skip(|b| matches!(b, b' ' | b'\t' | b'\n'));
            if matches!(self.peek(), None | Some(b'}')) {
                return Some(document);
            }
            document.nodes_mut().push(self.node(depth)?);
        }
    }

    /// One node with what ends it.
    fn node(&mut self, depth: usize) -> Option<KdlNode> {
        let start = self.at;
        let mut node = KdlNode::new(self.name()?);
        loop {
            let blanks = self.skip(|b| matches!(b, b' ' | b'\t'));
            match self.peek() {
                None | Some(b'}') => break,
                Some(b'\n' | b';') => {
                    self.at += 1;
                    break;
                }
                Some(b'{') if blanks > 0 && depth < MAX_DEPTH => {
                    self.at += 1;
                    node.set_children(self.nodes(depth + 1)?);
                    self.expect(b'}')?;
                    self.end_of_node()?;
                    break;
                }
                Some(_) if blanks > 0 => node.push(self.entry()?),
                Some(_) => return None,
            }
        }
        node.set_span(start..self.at);
        Some(node)
    }

    /// Nothing but the end of the node may follow its block.
    fn end_of_node(&mut self) -> Option<()> {
        self.skip(|b| matches!(b, b' ' | b'\t'));
        match self.peek() {
            None | Some(b'}') => Some(()),
            Some(b'\n' | b';') => {
                self.at += 1;
                Some(())
            }
            Some(_) => None,
        }
    }

    /// A value, or a property.
    fn entry(&mut self) -> Option<KdlEntry> {
        let start = self.at;
        let mut entry = if self.peek()?.is_ascii_alphabetic() {
            let name = self.name()?;
            self.expect(b'=')?;
            KdlEntry::new_prop(name, self.value()?)
        } else {
            KdlEntry::new(self.value()?)
        };
        entry.set_span(start..self.at);
        Some(entry)
    }

    fn name(&mut self) -> Option<KdlIdentifier> {
        let start = self.at;
        if !self.peek()?.is_ascii_alphabetic() {
            return None;
        }
        self.skip(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        let text = self.since(start);
        if NO_NAMES.contains(&text) {
            return None;
        }
        let mut name = KdlIdentifier::from(text);
        name.set_span(start..self.at);
        Some(name)
    }

    fn value(&mut self) -> Option<KdlValue> {
        match self.peek()? {
            b'"' => self.string(),
            b'#' => self.keyword(),
            _ => self.number(),
        }
    }

    /// A text without escapes.
    fn string(&mut self) -> Option<KdlValue> {
        self.expect(b'"')?;
        let start = self.at;
        self.skip(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'));
        let text = self.since(start);
        self.expect(b'"')?;
        // An empty one before another quote would open a text of several lines.
        (self.peek() != Some(b'"')).then(|| KdlValue::String(text.to_owned()))
    }

    fn keyword(&mut self) -> Option<KdlValue> {
        let start = self.at;
        self.expect(b'#')?;
        self.skip(|b| b.is_ascii_alphanumeric() || b == b'#');
        match self.since(start) {
            "#true" => Some(KdlValue::Bool(true)),
            "#false" => Some(KdlValue::Bool(false)),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<KdlValue> {
        let start = self.at;
        if self.skip(|b| b.is_ascii_digit()) > MAX_DIGITS {
            return None;
        }
        self.since(start).parse().ok().map(KdlValue::Integer)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expect(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Goes over bytes of this kind, all of them ASCII, and says how many they were.
    fn skip(&mut self, is: fn(u8) -> bool) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let len = rest.iter().position(|&b| !is(b)).unwrap_or(rest.len());
        self.at += len;
        len
    }

    fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Texts near the plain form: most are read here, some are wrong, some are KDL of other kinds.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            8 => "[ ]{1,2}",
            3 => "[a-z]{1,4}",
            3 => "[a-z]{1,4}(\\.[a-z]{1,2})?=",
            4 => "\"[ -~]{0,6}\"",
            3 => "[0-9]{1,3}",
            2 => prop_oneof!["#true", "#false", "#null", "true", "-1", "1.5", "0x1f", "1_000", "#\"raw\"#"],
            3 => prop_oneof!["\n", ";", " \\{ ", " \\} ", "\\{", "\\}", "\t"],
            1 => prop_oneof!["/-", "//", "/\\*", "\\*/", "\\\\", "\"\"\"", "\u{e9}", "\u{feff}", "\r", "=", "\\(", "\\)"],
        ];
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    /// Texts that are plain.
    fn plain() -> impl Strategy<Value = String> {
        let value = prop_oneof!["\"[a-zA-Z<>. {};/=*#-]{0,9}\"", "[1-9][0-9]{0,6}", "#true", "#false", "0"];
        let entry = (prop::option::of("[a-z]{2}[a-z_.-]{0,5}="), value)
            .prop_map(|(name, value)| format!(" {}{value}", name.unwrap_or_default()));
        let node = ("[a-z][a-z_]{3,6}", prop::collection::vec(entry, 0..5))
            .prop_map(|(name, entries)| name + &entries.concat());
        let block = (node, prop::option::of("[a-z]{5}( \"[a-z]{1,3}\"){0,3}"))
            .prop_map(|(node, inner)| inner.map(|inner| format!("{node} {{ {inner} }}")).unwrap_or(node));
        prop::collection::vec(block, 1..5).prop_map(|nodes| nodes.join("\n"))
    }

    /// A document without how it was written, and with where its names stand.
    fn meaning(document: &KdlDocument) -> String {
        let node = |node: &KdlNode| {
            let entry = |entry: &KdlEntry| {
                let name = entry.name().map(|name| (name.value().to_owned(), name.span().offset()));
                format!("{name:?}={:?} of {:?}", entry.value(), entry.ty().map(KdlIdentifier::value))
            };
            let entries: Vec<String> = node.entries().iter().map(entry).collect();
            let name =
                (node.name().value(), node.name().span().offset(), node.ty().map(KdlIdentifier::value));
            format!("{name:?} {entries:?} {:?}", node.children().map(meaning))
        };
        document.nodes().iter().map(|each| node(each) + "\n").collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_500))]

        #[test]
        fn what_is_read_here_the_parser_of_kdl_reads_as_the_same(text in texts()) {
            if let Some(read) = document(&text) {
                let parsed: KdlDocument = match text.parse() {
                    Ok(parsed) => parsed,
                    Err(error) => panic!("{text:?} was read, and is no KDL: {error}"),
                };
                prop_assert_eq!(meaning(&read), meaning(&parsed), "{:?}", text);
            }
        }

        #[test]
        fn plain_texts_are_read_here(text in plain()) {
            let Some(read) = document(&text) else { panic!("{text:?} was not read") };
            let parsed: KdlDocument = text.parse().expect("plain texts are KDL");
            prop_assert_eq!(meaning(&read), meaning(&parsed));
            let again: KdlDocument = read.to_string().parse().expect("what it writes is KDL");
            let values = |document: &KdlDocument| -> Vec<_> {
                document.nodes().iter().map(|node| node.entries().iter().map(|e| e.value().clone()).collect::<Vec<_>>()).collect()
            };
            prop_assert_eq!(values(&read), values(&again), "written as {}", read);
        }
    }
}
