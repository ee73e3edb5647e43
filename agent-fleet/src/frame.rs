//! Frames of log bytes: which task and attempt, from which offset on.
//!
//! ```text
//! kind (1 byte, 0x01) | length of the id (1) | id | attempt (4, big endian) | offset (8, big endian) | 1 to 65,536 bytes
//! ```

use task_service::TaskId;

/// Most bytes of a log in one frame.
pub const MAX_CHUNK_BYTES: usize = 64 << 10;
/// Longest frame: the head with the longest id, and the bytes.
pub const MAX_FRAME_BYTES: usize = 2 + MAX_ID_BYTES + 4 + 8 + MAX_CHUNK_BYTES;

/// The one kind of binary frames.
const LOG: u8 = 0x01;
/// Longest id of a task.
const MAX_ID_BYTES: usize = 64;

/// Bytes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFrame<'a> {
    /// The task.
    pub task: TaskId,
    /// Its attempt, counted from 1.
    pub attempt: u32,
    /// Where in the log the bytes begin.
    pub offset: u64,
    /// The bytes; at least one.
    pub bytes: &'a [u8],
}

/// Why a frame was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a binary frame cannot be read: {0}")]
pub struct FrameError(&'static str);

impl<'a> LogFrame<'a> {
    /// Writes the frame.
    pub fn encode(&self) -> Vec<u8> {
        let id = self.task.as_str().as_bytes();
        let length = u8::try_from(id.len()).unwrap_or(u8::MAX);
        let mut frame = Vec::with_capacity(14 + id.len() + self.bytes.len());
        frame.extend([LOG, length]);
        frame.extend(id);
        frame.extend(self.attempt.to_be_bytes());
        frame.extend(self.offset.to_be_bytes());
        frame.extend(self.bytes);
        frame
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// When it is none, or what it says cannot be.
    pub fn decode(frame: &'a [u8]) -> Result<Self, FrameError> {
        let wrong = FrameError;
        let (kind, rest) = frame.split_first().ok_or(wrong("it is empty"))?;
        if *kind != LOG {
            return Err(wrong("its kind is not known"));
        }
        let (length, rest) = rest.split_first().ok_or(wrong("it ends in its head"))?;
        let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(wrong("it ends in its head"))?;
        let task = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let task = task.ok_or(wrong("it names no task's id"))?;
        let (attempt, rest) = rest.split_first_chunk().ok_or(wrong("it ends in its head"))?;
        let (offset, bytes) = rest.split_first_chunk().ok_or(wrong("it ends in its head"))?;
        let (attempt, offset) = (u32::from_be_bytes(*attempt), u64::from_be_bytes(*offset));
        match bytes.len() {
            0 => return Err(wrong("it has no bytes of a log")),
            1..=MAX_CHUNK_BYTES => {}
            _ => return Err(wrong("it has more than 65,536 bytes of a log")),
        }
        if attempt == 0 {
            return Err(wrong("attempts count from 1"));
        }
        // A file has no byte behind this.
        if offset > i64::MAX as u64 - MAX_CHUNK_BYTES as u64 {
            return Err(wrong("its offset is beyond any file"));
        }
        Ok(Self { task, attempt, offset, bytes })
    }
}
