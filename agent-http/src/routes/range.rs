//! Byte ranges (RFC 9110, section 14): one range at a time.

/// A piece of something with a known length: from its first byte to the one behind its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What a `Range` header means for something of a certain length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Everything: there is no range, or one that is not understood, which is to be ignored.
    Whole,
    /// This piece.
    Piece(Piece),
    /// Nothing of that is there.
    Unsatisfiable,
}

/// Reads a `Range` header. Several ranges at once are not supported, and mean everything.
pub(super) fn asked(header: Option<&str>, length: u64) -> Asked {
    match header.and_then(|text| piece(text, length)) {
        None => Asked::Whole,
        Some(Piece { from, to }) if from < to => Asked::Piece(Piece { from, to }),
        Some(_) => Asked::Unsatisfiable,
    }
}

/// The last byte of what has no known end (RFC 8673, section 2): the largest number that all programs count exactly.
pub(super) const NO_END: u64 = (1 << 53) - 1;

/// Where something that is followed to its end is wanted from. Only a range without an end, or with the last byte that
/// stands for none, means that; all others are ignored.
pub(super) fn from(header: Option<&str>) -> Option<u64> {
    let (first, last) = bounds(header?)?;
    let has_no_end = last.is_empty() || number(last)? >= NO_END;
    number(first).filter(|first| has_no_end && *first < NO_END)
}

/// The piece that one well-formed range means; empty when nothing of it is there.
fn piece(text: &str, length: u64) -> Option<Piece> {
    match bounds(text)? {
        ("", suffix) => {
            let count = number(suffix)?;
            Some(Piece { from: length.saturating_sub(count), to: length })
        }
        (first, "") => Some(Piece { from: number(first)?, to: length }),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            // A range that ends before it begins is malformed, not unsatisfiable.
            (first <= last).then(|| Piece { from: first, to: last.saturating_add(1).min(length) })
        }
    }
}

/// The texts in front of the dash and behind it.
fn bounds(text: &str) -> Option<(&str, &str)> {
    let (unit, range) = text.split_once('=')?;
    let is_bytes = unit.trim().eq_ignore_ascii_case("bytes");
    if is_bytes { range.trim().split_once('-') } else { None }
}

/// Digits alone; more than a u64 holds is as good as its largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_of_a_range_means_its_piece() {
        let piece = |from, to| Asked::Piece(Piece { from, to });
        let table = [
            ("bytes=0-0", piece(0, 1)),
            ("bytes=2-4", piece(2, 5)),
            ("Bytes = 2-4", piece(2, 5)),
            ("bytes=5-", piece(5, 10)),
            ("bytes=-3", piece(7, 10)),
            ("bytes=-30", piece(0, 10)),
            ("bytes=8-99999999999999999999999", piece(8, 10)),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=99999999999999999999999-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=4-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("", Asked::Whole),
        ];
        for (text, expected) in table {
            assert_eq!(asked(Some(text), 10), expected, "{text}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Unsatisfiable);
    }

    #[test]
    fn what_is_followed_is_wanted_from_the_first_byte_of_a_range_without_an_end() {
        let table = [
            ("bytes=0-", Some(0)),
            ("bytes=7-", Some(7)),
            ("bytes=7-9007199254740991", Some(7)),
            ("bytes=7-99999999999999999999", Some(7)),
            ("bytes=7-9007199254740990", None),
            ("bytes=7-8", None),
            ("bytes=-7", None),
            ("bytes = -7", None),
            ("bytes=7-,9-", None),
            ("bytes=9007199254740991-", None),
            ("lines=7-", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(from(Some(text)), expected, "{text}");
        }
        assert_eq!(from(None), None);
    }

    proptest! {
        #[test]
        fn a_piece_is_never_empty_and_never_outside(text in "bytes=[0-9]{0,22}-[0-9]{0,22}|\\PC*", length: u64) {
            if let Asked::Piece(Piece { from, to }) = asked(Some(&text), length) {
                prop_assert!(from < to && to <= length);
            }
        }
    }
}
