//! What to do when something happens to an execution: a table, without a process, a clock or a descriptor in it.

use crate::policy::Leftovers;

/// Where an execution is on its way to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The main process runs.
    Running,
    /// It was asked to end and has the grace period for that.
    Stopping,
    /// It was killed and its end is awaited.
    Killing,
    /// It ended; what it left behind was asked to end.
    Sweeping,
    /// It ended; what it left behind was killed.
    SweepKilling,
    /// No process is left that should not be; the rest of the output is read.
    Draining,
    /// There is nothing more to wait for.
    Done,
}

/// Why the agent ends an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    TimedOut,
    Cancelled,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The main process ended, and whether others of the scope are live then.
    MainEnded { others: bool },
    /// The time limit is over.
    TimeOver,
    /// Somebody asked for the end, for the first time or again.
    CancelAsked,
    /// The deadline that was armed last is over.
    DeadlineOver,
    /// No process of the scope is live any more.
    ScopeEmpty,
    /// Nobody holds the output open any more.
    OutputClosed,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// TERM, then CONT, to the process group.
    TermGroup,
    /// TERM, then CONT, to every process of the scope.
    TermScope,
    /// KILL to every process of the scope.
    KillScope,
    /// Arm the deadline of this phase.
    Arm(Deadline),
}

/// How long a phase may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// From TERM to KILL.
    Grace,
    /// From the end of the main process to KILL for what it left.
    Sweep,
    /// From the end of the main process until what cannot be killed is given up.
    SweepKill,
    /// From the end of the main process until the output is given up.
    Drain,
}

/// The state that decisions depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    pub(crate) stop: Option<Stop>,
    output_closed: bool,
    leftovers: Leftovers,
}

impl State {
    pub(crate) fn new(leftovers: Leftovers) -> Self {
        Self { phase: Phase::Running, stop: None, output_closed: false, leftovers }
    }

    /// Whether the main process was still there when last heard of.
    pub(crate) fn main_is_live(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping | Phase::Killing)
    }

    /// Whether the loop must learn that the scope became empty.
    pub(crate) fn awaits_empty_scope(&self) -> bool {
        matches!(self.phase, Phase::Sweeping | Phase::SweepKilling)
    }

    /// Goes to the next state, and gives what is to be done on the way.
    pub(crate) fn decide(&mut self, event: Event) -> &'static [Action] {
        use Phase::{Done, Draining, Killing, Running, Stopping, SweepKilling, Sweeping};
        match (self.phase, event) {
            (phase, Event::OutputClosed) => {
                self.output_closed = true;
                if phase == Draining {
                    self.phase = Done;
                }
                &[]
            }
            (Running, Event::TimeOver) => self.stop(Stop::TimedOut),
            (Running, Event::CancelAsked) => self.stop(Stop::Cancelled),
            (Stopping, Event::CancelAsked | Event::DeadlineOver) => {
                self.phase = Killing;
                &[Action::KillScope]
            }
            (Running | Stopping | Killing, Event::MainEnded { others: false }) => self.drain(),
            (Running, Event::MainEnded { others: true }) if self.leftovers == Leftovers::Report => {
                self.drain()
            }
            (Running | Stopping, Event::MainEnded { others: true }) => {
                self.phase = Sweeping;
                &[Action::TermScope, Action::Arm(Deadline::Sweep)]
            }
            (Killing, Event::MainEnded { others: true })
            | (Sweeping, Event::CancelAsked | Event::DeadlineOver) => {
                self.phase = SweepKilling;
                &[Action::KillScope, Action::Arm(Deadline::SweepKill)]
            }
            (Sweeping | SweepKilling, Event::ScopeEmpty) | (SweepKilling, Event::DeadlineOver) => {
                self.drain()
            }
            (Draining, Event::DeadlineOver) => {
                self.phase = Done;
                &[]
            }
            // Whatever else happens changes nothing: a second time limit, a cancel of what has ended.
            _ => &[],
        }
    }

    fn stop(&mut self, why: Stop) -> &'static [Action] {
        self.stop = Some(why);
        self.phase = Phase::Stopping;
        &[Action::TermGroup, Action::Arm(Deadline::Grace)]
    }

    fn drain(&mut self) -> &'static [Action] {
        self.phase = if self.output_closed { Phase::Done } else { Phase::Draining };
        &[Action::Arm(Deadline::Drain)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENDED: Event = Event::MainEnded { others: false };
    const ENDED_LEAVING: Event = Event::MainEnded { others: true };

    fn run(leftovers: Leftovers, events: &[Event]) -> (State, Vec<Action>) {
        let mut state = State::new(leftovers);
        let actions = events.iter().flat_map(|&event| state.decide(event)).copied().collect();
        (state, actions)
    }

    #[test]
    fn a_script_that_just_ends_is_drained_and_done() {
        let (state, actions) = run(Leftovers::Kill, &[ENDED, Event::OutputClosed]);
        assert_eq!((state.phase, state.stop), (Phase::Done, None));
        assert_eq!(actions, [Action::Arm(Deadline::Drain)]);
    }

    #[test]
    fn output_that_was_closed_before_the_end_is_not_awaited() {
        let (state, _) = run(Leftovers::Kill, &[Event::OutputClosed, ENDED]);
        assert_eq!(state.phase, Phase::Done);
    }

    #[test]
    fn a_timeout_asks_first_then_kills_then_sweeps() {
        let events =
            [Event::TimeOver, Event::DeadlineOver, ENDED_LEAVING, Event::ScopeEmpty, Event::OutputClosed];
        let (state, actions) = run(Leftovers::Kill, &events);
        assert_eq!((state.phase, state.stop), (Phase::Done, Some(Stop::TimedOut)));
        assert_eq!(
            actions,
            [
                Action::TermGroup,
                Action::Arm(Deadline::Grace),
                Action::KillScope,
                Action::KillScope,
                Action::Arm(Deadline::SweepKill),
                Action::Arm(Deadline::Drain),
            ]
        );
    }

    #[test]
    fn a_second_cancel_kills_at_once() {
        let (state, actions) = run(Leftovers::Kill, &[Event::CancelAsked, Event::CancelAsked]);
        assert_eq!((state.phase, state.stop), (Phase::Killing, Some(Stop::Cancelled)));
        assert_eq!(actions.last(), Some(&Action::KillScope));
    }

    #[test]
    fn the_first_reason_to_stop_is_the_one_that_counts() {
        assert_eq!(
            run(Leftovers::Kill, &[Event::CancelAsked, Event::TimeOver]).0.stop,
            Some(Stop::Cancelled)
        );
        assert_eq!(run(Leftovers::Kill, &[Event::TimeOver, Event::CancelAsked]).0.stop, Some(Stop::TimedOut));
        assert_eq!(run(Leftovers::Kill, &[ENDED, Event::TimeOver]).0.stop, None);
    }

    #[test]
    fn leftovers_are_left_alone_only_after_an_end_that_nobody_asked_for() {
        assert_eq!(run(Leftovers::Report, &[ENDED_LEAVING]).0.phase, Phase::Draining);
        assert_eq!(run(Leftovers::Report, &[Event::CancelAsked, ENDED_LEAVING]).0.phase, Phase::Sweeping);
        assert_eq!(run(Leftovers::Kill, &[ENDED_LEAVING]).0.phase, Phase::Sweeping);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<bool>().prop_map(|others| Event::MainEnded { others }),
            Just(Event::TimeOver),
            Just(Event::CancelAsked),
            Just(Event::DeadlineOver),
            Just(Event::ScopeEmpty),
            Just(Event::OutputClosed),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_done_before_the_main_process_ended(events in prop::collection::vec(any_event(), 0..20)) {
            let without_end: Vec<Event> =
                events.into_iter().filter(|event| !matches!(event, Event::MainEnded { .. })).collect();
            prop_assert!(run(Leftovers::Kill, &without_end).0.main_is_live());
        }

        #[test]
        fn whatever_happened_an_end_and_passing_deadlines_lead_to_done(
            events in prop::collection::vec(any_event(), 0..20),
        ) {
            let mut events = events;
            events.extend([Event::MainEnded { others: true }]);
            events.extend([Event::DeadlineOver; 4]);
            prop_assert_eq!(run(Leftovers::Kill, &events).0.phase, Phase::Done);
        }
    }
}
