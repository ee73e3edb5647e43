//! Prints the output of a script while it is written, on a thread of its own: a reader of our output that is slow holds
//! up neither the script nor a signal.

use std::io;
use std::time::{Duration, Instant};

use task_runners::{Execution, LogReader};
use tokio::sync::oneshot;

use crate::output::{self, say};
use crate::terminal::{PLAIN, TerminalFilter};

/// Bytes of the log that are read and printed at once.
const CHUNK_BYTES: usize = 64 << 10;
/// How long a script says nothing before the terminal shows that it still runs, and how often that line is renewed.
const SILENCE: Duration = Duration::from_secs(2);

/// The printing of one log.
#[derive(Debug)]
pub(crate) struct Printing {
    ended: oneshot::Receiver<()>,
}

impl Printing {
    /// Prints the script's own output, from its first byte on.
    ///
    /// # Errors
    /// When the log cannot be opened or no thread can be had.
    pub(crate) fn start(execution: &Execution) -> io::Result<Self> {
        let reader = execution.log()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (tell, ended) = oneshot::channel();
        let print = move || {
            runtime.block_on(print(reader));
            // Nobody waits any more when the process is about to end.
            let _ = tell.send(());
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(print)?;
        Ok(Self { ended })
    }

    /// Waits until everything is printed, or nobody reads any more.
    pub(crate) async fn ended(self) {
        // Without an answer the thread is gone, which is an end too.
        let _ = self.ended.await;
    }
}

async fn print(mut reader: LogReader) {
    let mut screen = Screen::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut offset = reader.progress().header_bytes;
    loop {
        let progress = loop {
            match tokio::time::timeout(SILENCE, reader.wait_beyond(offset)).await {
                Ok(progress) => break progress,
                Err(_) => screen.show_that_it_runs(),
            }
        };
        let end = progress.body_end.unwrap_or(progress.bytes);
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let read = match reader.read_at(offset, &mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                say(&format!("cannot read the log: {error}"));
                break;
            }
        };
        offset += read as u64;
        if !screen.write(&buffer[..read]) {
            // Nobody reads any more; the script goes on, and its log is in the record.
            return;
        }
    }
    screen.finish();
}

/// Where a log is printed: on a terminal made safe, anywhere else byte for byte.
#[derive(Debug)]
pub(crate) struct Screen {
    filter: Option<TerminalFilter>,
    began: Instant,
    /// Whether the last line is whole, so that a line of our own can follow.
    at_line_start: bool,
}

impl Default for Screen {
    fn default() -> Self {
        let filter = output::is_terminal().then(TerminalFilter::default);
        Self { filter, began: Instant::now(), at_line_start: true }
    }
}

impl Screen {
    /// Prints a piece; false when nobody reads any more.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> bool {
        self.at_line_start = bytes.last() == Some(&b'\n');
        match &mut self.filter {
            Some(filter) => {
                let shown = filter.filter(bytes);
                output::write_shown(&shown, filter.is_coloured())
            }
            None => output::write(bytes),
        }
    }

    /// Prints what was held back, and ends what colours the script left.
    pub(crate) fn finish(self) {
        let Some(mut filter) = self.filter else { return };
        let mut rest = filter.finish();
        if filter.is_coloured() {
            rest.push_str(PLAIN);
        }
        if !self.at_line_start {
            // What is said next begins on a line of its own.
            rest.push('\n');
        }
        output::write_shown(&rest, false);
    }

    fn show_that_it_runs(&self) {
        if self.at_line_start {
            let seconds = self.began.elapsed().as_secs();
            output::status(&format!("running for {seconds} s; Ctrl-C cancels"));
        }
    }
}
