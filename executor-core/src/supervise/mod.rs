//! Watches one execution from its start to its end: poll(2) says what happened, [`decide`] what that means, and
//! this loop carries it out. It runs on a thread of its own, so that starting a process, a slow disk, or a large
//! output holds nobody else up.

mod decide;
mod pump;

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use crate::execution::ExecutionDriver;
use crate::log_writer::LogWriter;
use crate::policy::Leftovers;
use crate::result::Outcome;
use crate::scope::Scope;
use crate::sys::{self, End, Reaped, Spawned};
use crate::wake::WakeUp;
use decide::{Action, Deadline, Event, Phase, State, Stop};
use pump::{OutputPump, Pumped};

/// Time that what a script left behind gets between TERM and KILL.
const SWEEP_GRACE: Duration = Duration::from_secs(1);
/// Time after the end of the main process at which what it left is given up, processes that cannot be killed and output
/// that is held open; the result is promised half a second later.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_secs(2);
/// How often one looks whether a scope that cannot tell became empty.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What is supervised, and by which rules.
#[derive(Debug)]
pub(crate) struct Supervised<'a> {
    pub(crate) child: &'a Spawned,
    pub(crate) scope: &'a Scope,
    /// The reading end of its output, non-blocking.
    pub(crate) output: BorrowedFd<'a>,
    pub(crate) log: &'a mut LogWriter,
    pub(crate) driver: &'a ExecutionDriver,
    /// Wakes this thread when somebody asks for the end.
    pub(crate) wake: &'a WakeUp,
    pub(crate) rules: Rules,
}

/// The rules that a request and the executor's settings make together.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) started: Instant,
    pub(crate) timeout: Duration,
    pub(crate) kill_grace: Duration,
    pub(crate) leftovers: Leftovers,
    pub(crate) group_signal: bool,
    pub(crate) cancellation: Option<CancellationToken>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// When the main process ended.
    pub(crate) at: Instant,
    pub(crate) duration: Duration,
    /// Live processes, the main one aside, when the sweep began.
    pub(crate) leftovers: u64,
    /// Whether some of them are still there.
    pub(crate) survivors: bool,
    pub(crate) leaked_output: bool,
    pub(crate) usage: Option<Reaped>,
}

/// Watches until there is nothing more to wait for.
///
/// # Errors
/// When the kernel does not let the agent watch; everything was killed then.
pub(crate) fn supervise(supervised: Supervised<'_>) -> io::Result<Ended> {
    let mut watch = Watch::new(supervised);
    match watch.run() {
        Ok(()) => Ok(watch.into_ended()),
        Err(error) => {
            watch.kill_scope();
            // Somebody else reaping it may be the very error.
            let _ = sys::reap(watch.supervised.child.pidfd.as_fd());
            Err(error)
        }
    }
}

struct Watch<'a> {
    supervised: Supervised<'a>,
    state: State,
    pump: OutputPump,
    output_open: bool,
    time_over_at: Option<Instant>,
    deadline: Option<Instant>,
    cancels_seen: u32,
    token: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    main_ended: Option<(Instant, Outcome)>,
    others_left: bool,
    leftovers: u64,
    leaked_output: bool,
}

/// What poll(2) reported, before it is looked at more closely.
#[derive(Debug, Default)]
struct Ready {
    output: bool,
    main: bool,
    woken: bool,
}

impl<'a> Watch<'a> {
    fn new(supervised: Supervised<'a>) -> Self {
        let rules = &supervised.rules;
        let token = rules.cancellation.clone();
        Self {
            state: State::new(rules.leftovers),
            pump: OutputPump::new(),
            output_open: true,
            // A limit beyond what the clock can say is none.
            time_over_at: rules.started.checked_add(rules.timeout),
            deadline: None,
            cancels_seen: 0,
            token: token.map(|token| Box::pin(token.cancelled_owned()) as Pin<Box<_>>),
            main_ended: None,
            others_left: false,
            leftovers: 0,
            leaked_output: false,
            supervised,
        }
    }

    fn run(&mut self) -> io::Result<()> {
        // The token may have been cancelled before; polling it once also leaves the waker with it.
        let cancelled = self.take_cancels();
        self.handle_cancels(cancelled);
        while self.state.phase != Phase::Done {
            let ready = self.wait()?;
            if ready.output {
                self.pump_output()?;
            }
            if ready.woken {
                self.supervised.wake.clear();
                let cancels = self.take_cancels();
                self.handle_cancels(cancels);
            }
            if ready.main {
                self.main_ended()?;
            }
            self.look_at_scope();
            self.handle_deadlines();
        }
        Ok(())
    }

    /// Waits for the next thing to happen.
    fn wait(&self) -> io::Result<Ready> {
        let supervised = &self.supervised;
        let mut fds = vec![PollFd::new(supervised.wake.as_fd(), PollFlags::POLLIN)];
        let output = push_if(&mut fds, self.output_open, supervised.output, PollFlags::POLLIN);
        let main =
            push_if(&mut fds, self.state.main_is_live(), supervised.child.pidfd.as_fd(), PollFlags::POLLIN);
        let mut timeout = self.next_deadline();
        if self.state.awaits_empty_scope() {
            match supervised.scope.events() {
                Some(events) => fds.push(PollFd::new(events, PollFlags::POLLPRI)),
                None => timeout = Some(timeout.map_or(LOOK_AGAIN, |timeout| timeout.min(LOOK_AGAIN))),
            }
        }
        match poll(&mut fds, poll_timeout(timeout)) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => return Ok(Ready::default()),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |index: Option<usize>| index.is_some_and(|index| fds[index].any().unwrap_or(false));
        Ok(Ready { output: is_ready(output), main: is_ready(main), woken: is_ready(Some(0)) })
    }

    /// The time until the next deadline that counts in this phase.
    fn next_deadline(&self) -> Option<Duration> {
        let time_over = self.time_over_at.filter(|_| self.state.phase == Phase::Running);
        let next = [time_over, self.deadline].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn look_at_scope(&mut self) {
        if !self.state.awaits_empty_scope() {
            return;
        }
        let scope = self.supervised.scope;
        let is_empty = match self.state.phase {
            Phase::SweepKilling => scope.is_empty_after_kill(),
            _ => scope.is_empty(),
        };
        if is_empty {
            self.handle(Event::ScopeEmpty);
        }
    }

    fn handle_deadlines(&mut self) {
        let now = Instant::now();
        if self.state.phase == Phase::Running && self.time_over_at.is_some_and(|at| at <= now) {
            self.handle(Event::TimeOver);
        } else if self.deadline.is_some_and(|at| at <= now) {
            self.deadline = None;
            self.handle(Event::DeadlineOver);
        }
    }

    /// How many new wishes for the end there are.
    fn take_cancels(&mut self) -> u32 {
        let asked = self.supervised.driver.cancels();
        let new = asked - self.cancels_seen;
        self.cancels_seen = asked;
        let waker = self.supervised.wake.waker();
        let by_token = self.token.as_mut().is_some_and(|token| {
            matches!(token.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(()))
        });
        if by_token {
            self.token = None;
        }
        new + u32::from(by_token)
    }

    fn handle_cancels(&mut self, count: u32) {
        // More than two change nothing: the second kills.
        for _ in 0..count.min(2) {
            self.handle(Event::CancelAsked);
        }
    }

    fn pump_output(&mut self) -> io::Result<()> {
        let Supervised { output, log, driver, .. } = &mut self.supervised;
        if self.pump.pump(*output, log, driver.progress())? == Pumped::Closed {
            self.output_open = false;
            self.handle(Event::OutputClosed);
        }
        Ok(())
    }

    /// The main process ended: its status is read, and it stays unreaped, so that its number and its group's
    /// stay its own until the sweep is done.
    fn main_ended(&mut self) -> io::Result<()> {
        let outcome = match sys::peek_end(self.supervised.child.pidfd.as_fd())? {
            Some(End::Exited(code)) => Outcome::Exited { code },
            Some(End::Signaled(signal)) => Outcome::Signaled { signal },
            None => return Ok(()),
        };
        self.main_ended = Some((Instant::now(), outcome));
        // What the main process itself wrote is in the pipe: if that is not the end, somebody else holds it open.
        if self.output_open {
            self.pump_output()?;
        }
        self.leaked_output = self.output_open;
        // What the kernel says decides. A count may miss what ends, or is hidden, at this moment.
        self.others_left = !self.supervised.scope.is_empty();
        if self.others_left {
            self.count_leftovers();
        }
        self.handle(Event::MainEnded { others: self.others_left });
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        let before = self.state.phase;
        let actions = self.state.decide(event);
        if self.state.phase != before {
            self.deadline = None;
            tracing::debug!(task_id = %self.supervised.driver.id(), ?event, ?before, now = ?self.state.phase);
        }
        for &action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::TermGroup => self.term_group(),
            Action::TermScope => self.supervised.scope.terminate(),
            Action::KillScope => self.kill_scope(),
            Action::Arm(deadline) => self.deadline = self.instant_of(deadline),
        }
    }

    fn instant_of(&self, deadline: Deadline) -> Option<Instant> {
        let now = Instant::now();
        let main_ended = self.main_ended.as_ref().map_or(now, |(at, _)| *at);
        match deadline {
            Deadline::Grace => now.checked_add(self.supervised.rules.kill_grace),
            Deadline::Sweep => main_ended.checked_add(SWEEP_GRACE),
            Deadline::SweepKill | Deadline::Drain => main_ended.checked_add(DRAIN_LIMIT),
        }
    }

    /// The main process is unreaped, so its number is its own, and its group's.
    fn term_group(&self) {
        let child = &self.supervised.child;
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            let sent = if self.supervised.rules.group_signal {
                killpg(Pid::from_raw(child.pid), signal).map_err(io::Error::from)
            } else {
                sys::pidfd_send_signal(child.pidfd.as_fd(), signal as i32)
            };
            if let Err(error) = sent {
                tracing::debug!(task_id = %self.supervised.driver.id(), %error, "the group has ended meanwhile");
            }
        }
    }

    /// Counted at the end of the main process and before a kill that takes both: the larger number counts, since what
    /// is being killed is met twice.
    fn count_leftovers(&mut self) {
        let now = self.supervised.scope.count_others(self.supervised.child.pid);
        self.leftovers = self.leftovers.max(now);
    }

    fn kill_scope(&mut self) {
        self.count_leftovers();
        self.supervised.scope.kill();
        // Should the scope have missed it (a script with the rights for it may leave its cgroup), the main process
        // is still known.
        if self.state.main_is_live() {
            let _ = sys::pidfd_send_signal(self.supervised.child.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    fn into_ended(self) -> Ended {
        let (at, outcome) = self.main_ended.unwrap_or((Instant::now(), Outcome::Interrupted));
        let survivors = self.others_left && !self.supervised.scope.is_empty();
        let usage = sys::reap(self.supervised.child.pidfd.as_fd());
        if let Err(error) = &usage {
            tracing::warn!(task_id = %self.supervised.driver.id(), %error, "somebody else reaped the main process");
        }
        Ended {
            outcome: match self.state.stop {
                Some(Stop::TimedOut) => Outcome::TimedOut,
                Some(Stop::Cancelled) => Outcome::Cancelled,
                None => outcome,
            },
            at,
            duration: at.saturating_duration_since(self.supervised.rules.started),
            leftovers: self.leftovers,
            survivors,
            leaked_output: self.leaked_output,
            usage: usage.ok(),
        }
    }
}

fn push_if<'fd>(
    fds: &mut Vec<PollFd<'fd>>,
    wanted: bool,
    fd: BorrowedFd<'fd>,
    flags: PollFlags,
) -> Option<usize> {
    wanted.then(|| {
        fds.push(PollFd::new(fd, flags));
        fds.len() - 1
    })
}

/// Rounded up, so that a deadline is over when poll(2) returns for it.
fn poll_timeout(timeout: Option<Duration>) -> PollTimeout {
    match timeout {
        None => PollTimeout::NONE,
        Some(timeout) => {
            let millis = timeout.as_nanos().div_ceil(1_000_000);
            i32::try_from(millis)
                .ok()
                .and_then(|millis| PollTimeout::try_from(millis).ok())
                .unwrap_or(PollTimeout::MAX)
        }
    }
}
