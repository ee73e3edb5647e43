//! Moves a script's output from the pipe to its log, in bounded memory and bounded turns.

use std::cell::Cell;
use std::io;
use std::os::fd::BorrowedFd;

use nix::fcntl::{FcntlArg, fcntl};

use crate::log_writer::LogWriter;
use crate::progress::ProgressSender;

/// A read's size for a script that writes little: what a pipe holds (pipe(7)).
const BUFFER_BYTES: usize = 64 << 10;
/// The pipe's and a read's size once a script fills whole pipes.
const LARGE_BUFFER_BYTES: usize = 1 << 20;
/// Most bytes moved before the loop looks at other things, deadlines among them.
const TURN_BYTES: usize = 8 << 20;

/// What a turn ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// There may be more, now or later.
    Open,
    /// Nobody holds the writing end any more, and all was read.
    Closed,
}

#[derive(Debug)]
pub(crate) struct OutputPump {
    buffer: Vec<u8>,
}

thread_local! {
    /// The buffer of the thread's last execution: memory of this size would go back to the kernel each time.
    static KEPT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl OutputPump {
    pub(crate) fn new() -> Self {
        let kept = KEPT.take();
        Self { buffer: if kept.is_empty() { vec![0; BUFFER_BYTES] } else { kept } }
    }

    /// Moves what is there, a turn's worth at most. The pipe's reading end must be non-blocking.
    pub(crate) fn pump(
        &mut self,
        pipe: BorrowedFd<'_>,
        log: &mut LogWriter,
        progress: &ProgressSender,
    ) -> io::Result<Pumped> {
        let mut moved = 0;
        while moved < TURN_BYTES {
            match nix::unistd::read(pipe, &mut self.buffer) {
                Ok(0) => return Ok(Pumped::Closed),
                Ok(read) => {
                    log.append(&self.buffer[..read], progress);
                    moved += read;
                    if read == BUFFER_BYTES && self.buffer.len() == BUFFER_BYTES {
                        self.enlarge(pipe);
                    }
                }
                Err(nix::Error::EAGAIN) => break,
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Pumped::Open)
    }

    /// Fewer and larger turns for a script that writes much. A kernel that refuses changes only the speed.
    fn enlarge(&mut self, pipe: BorrowedFd<'_>) {
        let size = i32::try_from(LARGE_BUFFER_BYTES).unwrap_or(i32::MAX);
        if fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size)).is_ok() {
            self.buffer = vec![0; LARGE_BUFFER_BYTES];
        }
    }
}

impl Drop for OutputPump {
    fn drop(&mut self) {
        if self.buffer.len() == BUFFER_BYTES {
            KEPT.set(std::mem::take(&mut self.buffer));
        }
    }
}
