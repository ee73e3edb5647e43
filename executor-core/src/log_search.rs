//! Finds the lines of a log that hold a text, also while it is written.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::log_lines::newlines;
use crate::log_reader::LogReader;

/// Bytes that are looked through at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// Most bytes of a line that a match shows before the text that was found, and in all.
const SHOWN_BEFORE: u64 = 256;
const SHOWN_BYTES: usize = 1 << 10;

/// A place to search on from: an offset in the file, the line that it lies in, and whether that line was told already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchPlace {
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// The line, counted from 1 where the search began.
    pub line: u64,
    /// Whether the rest of the line is passed over: it has a match before this place.
    pub is_told: bool,
}

/// A line that holds the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineMatch {
    /// The line, counted from 1.
    pub line: u64,
    /// Where the text begins in it first: bytes from the beginning of the file.
    pub offset: u64,
    /// The line, without its end; of a long one up to 1 KiB around the text. What is no UTF-8 is replaced.
    pub text: String,
}

/// When to stop searching.
#[derive(Debug, Clone, Copy)]
pub struct SearchLimits<'a> {
    /// Where the search ends: bytes from the beginning of the file.
    pub to: u64,
    /// Most matches.
    pub matches: usize,
    /// The time at which it stops wherever it is.
    pub until: Instant,
    /// Looked at between blocks: set when nobody waits for the matches any more.
    pub is_abandoned: &'a AtomicBool,
}

/// What a search has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogMatches {
    /// The lines, in order.
    pub matches: Vec<LineMatch>,
    /// Where to search on; none when all was searched.
    pub next: Option<SearchPlace>,
}

impl SearchLimits<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until || self.is_abandoned.load(Ordering::Relaxed)
    }
}

impl LogReader {
    /// Finds the lines between a place and the limit that hold `text`, each once.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search(&self, text: &[u8], from: SearchPlace, limits: SearchLimits<'_>) -> io::Result<LogMatches> {
        let finder = memchr::memmem::Finder::new(text);
        let (mut place, mut found) = (from, LogMatches::default());
        // Twice as large as a block at most: a long text needs room beside what overlaps.
        let mut buffer = vec![0; BLOCK_BYTES.max(text.len() * 2)];
        while place.offset < limits.to {
            if found.matches.len() >= limits.matches || limits.is_over() {
                found.next = Some(place);
                break;
            }
            let filled = self.fill(place.offset, limits.to, &mut buffer)?;
            let is_last = place.offset + filled as u64 == limits.to;
            place = self.search_block(&finder, &buffer[..filled], is_last, place, &limits, &mut found)?;
        }
        Ok(found)
    }

    /// Searches what was read at `place`, and gives the place to go on from.
    fn search_block(
        &self,
        finder: &memchr::memmem::Finder<'_>,
        block: &[u8],
        is_last: bool,
        mut place: SearchPlace,
        limits: &SearchLimits<'_>,
        found: &mut LogMatches,
    ) -> io::Result<SearchPlace> {
        let begin = place.offset;
        let mut at = 0;
        while found.matches.len() < limits.matches {
            if place.is_told {
                let Some(newline) = memchr::memchr(b'\n', &block[at..]) else {
                    return Ok(SearchPlace { offset: begin + block.len() as u64, ..place });
                };
                at += newline + 1;
                place = SearchPlace { line: place.line + 1, is_told: false, ..place };
            }
            let Some(hit) = finder.find(&block[at..]) else {
                // The text may begin at the end of this block.
                let kept = if is_last { 0 } else { finder.needle().len() - 1 };
                let searched = block.len().saturating_sub(kept).max(at);
                place.line += newlines(&block[at..searched]);
                return Ok(SearchPlace { offset: begin + searched as u64, ..place });
            };
            place.line += newlines(&block[at..at + hit]);
            place.is_told = true;
            at += hit;
            let offset = begin + at as u64;
            let text = self.shown(offset, limits.to, finder.needle().len())?;
            found.matches.push(LineMatch { line: place.line, offset, text });
        }
        Ok(SearchPlace { offset: begin + at as u64, ..place })
    }

    /// The line around a hit, as far as it is shown.
    fn shown(&self, hit: u64, to: u64, text_bytes: usize) -> io::Result<String> {
        let from = hit.saturating_sub(SHOWN_BEFORE);
        let mut window = vec![0; SHOWN_BYTES.max(text_bytes)];
        let filled = self.fill(from, to, &mut window)?;
        let window = &window[..filled];
        let at = usize::try_from(hit - from).unwrap_or(usize::MAX).min(filled);
        let begin = memchr::memrchr(b'\n', &window[..at]).map_or(0, |newline| newline + 1);
        let end = memchr::memchr(b'\n', &window[at..]).map_or(filled, |newline| at + newline);
        let line = &window[begin..end];
        Ok(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned())
    }

    /// Fills a buffer as far as there is something before `to`.
    fn fill(&self, offset: u64, to: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && offset + (filled as u64) < to {
            filled += self.read_within(offset + filled as u64, to, &mut buffer[filled..])?;
        }
        Ok(filled)
    }
}
