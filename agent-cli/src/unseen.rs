//! A line that is typed and not shown. The terminal shows what is typed again afterwards, however this ends: a signal
//! that would end or stop this process in between has to wait until that is so.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, LocalFlags, SetArg, Termios};
use task_runners::SecretString;

use crate::output;

/// Longest line that a terminal takes, with its end (`N_TTY_BUF_SIZE`, termios(3)); it drops what is behind it.
const MAX_LINE: usize = 4096;
/// Signals that can come from the keyboard or from who closes the terminal.
const WAITING: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGTSTP];

/// Asks for a line that nobody sees; none where nothing more is typed.
///
/// # Errors
/// When the terminal does not do as it is told, or when the line is longer than a terminal takes.
pub(crate) fn prompt(question: &str) -> io::Result<Option<SecretString>> {
    loop {
        // Asked anew after a stop: whoever comes back sees what they are asked.
        output::show_question(question);
        let hidden = Hidden::start()?;
        match hidden.wait()? {
            Event::Line => return line(),
            Event::Signal(signal) => {
                drop(hidden);
                // As if it came only now. One that stops goes on from here, and so does one that is ignored.
                raise(signal)?;
            }
        }
    }
}

/// What ends the waiting.
enum Event {
    Line,
    Signal(Signal),
}

/// The time in which the terminal does not show what is typed.
struct Hidden {
    signals: SignalFd,
    /// What was blocked before.
    blocked: SigSet,
    shown: Termios,
}

impl Hidden {
    fn start() -> io::Result<Self> {
        let mask: SigSet = WAITING.into_iter().collect();
        // There is no other thread yet that could take them.
        let blocked = mask.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC)?;
        let shown = termios::tcgetattr(io::stdin())?;
        let hidden = Self { signals, blocked, shown };
        let mut silent = hidden.shown.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        silent.local_flags.insert(LocalFlags::ECHONL | LocalFlags::ICANON);
        // What was typed before the question was seen by everybody, and is dropped.
        termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &silent)?;
        Ok(hidden)
    }

    fn wait(&self) -> io::Result<Event> {
        let stdin = io::stdin();
        loop {
            let mut watched = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut watched, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [signals, typed] = watched.map(|fd| fd.any().unwrap_or_default());
            if signals && let Some(info) = self.signals.read_signal()? {
                let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                return Ok(Event::Signal(Signal::try_from(number)?));
            }
            if typed {
                return Ok(Event::Line);
            }
        }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing; there is nobody to tell.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.shown);
        let _ = self.blocked.thread_set_mask();
    }
}

/// Reads the line that is there. Not by [`io::stdin`], which would keep a copy of it.
fn line() -> io::Result<Option<SecretString>> {
    let mut bytes = vec![0; MAX_LINE];
    let len = nix::unistd::read(io::stdin(), &mut bytes)?;
    bytes.truncate(len);
    let is_ended = bytes.pop_if(|last| *last == b'\n').is_some();
    let text = String::from_utf8(bytes).map(SecretString::from);
    let text = text.map_err(|_| invalid("what was typed is not UTF-8 text"))?;
    if !is_ended && len + 1 >= MAX_LINE {
        return Err(invalid("the line is longer than a terminal takes"));
    }
    Ok((len > 0).then_some(text))
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
