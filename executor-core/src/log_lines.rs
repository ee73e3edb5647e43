//! Where lines begin in a log. While it is written the newlines are counted, and a mark says how many there were at the
//! end of each mebibyte; so a line is found by a look at the marks and at one mebibyte, however long the log is.
//!
//! The marks of a log that has ended lie beside it. They can be made again from the log, so that they are never flushed,
//! and never trusted where they do not fit it.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::durable;
use crate::log_reader::LogReader;

/// Name of the marks in a record; logs of less than a mebibyte have none.
pub(crate) const LINES_FILE: &str = "lines.idx";
/// Bytes of the log between two marks.
const MARK_BYTES: u64 = 1 << 20;
/// Bytes of a mark in the file: a number, little endian.
const NUMBER_BYTES: usize = size_of::<u64>();

/// How many newlines a log has up to the end of each mebibyte; shared by its writer and its readers.
#[derive(Debug, Clone, Default)]
pub(crate) struct LineMarks(Arc<Mutex<Vec<u64>>>);

/// Counts the newlines of a log while it is written.
#[derive(Debug, Default)]
pub(crate) struct LineCounter {
    bytes: u64,
    newlines: u64,
}

impl LineMarks {
    fn push(&self, newlines: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(newlines);
    }

    /// The last place known of whose newlines there are fewer than `count` before it: offset, and newlines before it.
    fn place_before(&self, count: u64) -> (u64, u64) {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = marks.partition_point(|&newlines| newlines < count);
        match index.checked_sub(1) {
            Some(last) => (index as u64 * MARK_BYTES, marks[last]),
            None => (0, 0),
        }
    }

    /// Writes the marks beside their log, if there are any.
    pub(crate) fn keep(&self, record: impl AsFd) -> io::Result<()> {
        let marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.is_empty() {
            return Ok(());
        }
        let bytes: Vec<u8> = marks.iter().flat_map(|newlines| newlines.to_le_bytes()).collect();
        durable::create(record, LINES_FILE, &bytes, 0o600)
    }

    /// Reads the marks that lie beside a log of so many bytes; none where they are missing or do not fit it.
    pub(crate) fn kept(log: &Path, log_bytes: u64) -> Option<Self> {
        let count = log_bytes / MARK_BYTES;
        if count == 0 {
            return Some(Self::default());
        }
        let wanted = usize::try_from(count).ok()?.checked_mul(NUMBER_BYTES)?;
        let path = log.with_file_name(LINES_FILE);
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let mut bytes = Vec::new();
        file.take(wanted as u64 + 1).read_to_end(&mut bytes).ok()?;
        let (numbers, rest) = bytes.as_chunks::<NUMBER_BYTES>();
        let marks: Vec<u64> = numbers.iter().copied().map(u64::from_le_bytes).collect();
        let mut before = 0;
        let fits = |&newlines: &u64| {
            let is_possible = newlines >= before && newlines - before <= MARK_BYTES;
            before = newlines;
            is_possible
        };
        let is_whole = rest.is_empty() && bytes.len() == wanted;
        (is_whole && marks.iter().all(fits)).then(|| Self(Arc::new(Mutex::new(marks))))
    }
}

impl LineCounter {
    /// Counts on, and marks where a mebibyte is full.
    pub(crate) fn add(&mut self, mut bytes: &[u8], marks: &LineMarks) {
        while !bytes.is_empty() {
            let room = usize::try_from(MARK_BYTES - self.bytes % MARK_BYTES).unwrap_or(usize::MAX);
            let (here, behind) = bytes.split_at(room.min(bytes.len()));
            self.bytes += here.len() as u64;
            self.newlines += newlines(here);
            if self.bytes.is_multiple_of(MARK_BYTES) {
                marks.push(self.newlines);
            }
            bytes = behind;
        }
    }
}

impl LogReader {
    /// Where a line begins: its offset in the file. Lines count from 1 behind the offset `from`, where the first one
    /// begins; none when there are fewer before `to`. May read all of a log whose marks are lost.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn line_offset(&self, from: u64, to: u64, line: u64) -> io::Result<Option<u64>> {
        let Some(before) = line.checked_sub(1) else { return Ok(None) };
        if before == 0 {
            return Ok((from < to).then_some(from));
        }
        // What stands before `from`, a banner, is short.
        let wanted = before.saturating_add(self.count_between(0, from)?);
        let (mut offset, mut passed) = self.marks()?.place_before(wanted);
        let mut buffer = vec![0; 64 << 10];
        while offset < to {
            let count = self.read_within(offset, to, &mut buffer)?;
            let bytes = &buffer[..count];
            let here = newlines(bytes);
            if passed + here >= wanted {
                let missing = usize::try_from(wanted - passed).unwrap_or(usize::MAX);
                let newline = memchr::memchr_iter(b'\n', bytes).nth(missing - 1);
                let begin = newline.map(|at| offset + at as u64 + 1);
                return Ok(begin.filter(|&begin| begin < to));
            }
            (offset, passed) = (offset + count as u64, passed + here);
        }
        Ok(None)
    }

    /// Reads at an offset no further than `to`.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub(crate) fn read_within(&self, offset: u64, to: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(to - offset).unwrap_or(usize::MAX).min(buffer.len());
        match self.read_at(offset, &mut buffer[..wanted])? {
            0 => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the log file is shorter than it was said"))
            }
            count => Ok(count),
        }
    }

    /// The marks of a log whose own are lost.
    pub(crate) fn marks_made_again(&self, bytes: u64) -> io::Result<LineMarks> {
        let (marks, mut counter) = (LineMarks::default(), LineCounter::default());
        let (mut offset, mut buffer) = (0, vec![0; 256 << 10]);
        while offset < bytes {
            let count = self.read_within(offset, bytes, &mut buffer)?;
            counter.add(&buffer[..count], &marks);
            offset += count as u64;
        }
        Ok(marks)
    }

    fn count_between(&self, from: u64, to: u64) -> io::Result<u64> {
        let (mut offset, mut count, mut buffer) = (from, 0, vec![0; 4 << 10]);
        while offset < to {
            let read = self.read_within(offset, to, &mut buffer)?;
            count += newlines(&buffer[..read]);
            offset += read as u64;
        }
        Ok(count)
    }
}

/// How many newlines there are.
pub(crate) fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
