//! What the controller's state machine is told, and what it wants done.

use task_service::TaskId;

use crate::message::{AcceptedAt, ToNode, Unsettled};

/// What happened at the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A task was accepted for the node, or one of the last run of this agent is taken up again.
    Submitted {
        /// The task.
        task: TaskId,
        /// Whether the node may have heard of it.
        was_handed: bool,
        /// How much of its log is held.
        held: u64,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// That a task is to be handed out could not be written.
    NotWritten {
        /// The task.
        task: TaskId,
    },
    /// What a task asks for is not here any more, or cannot be written down, so that it cannot be assigned.
    NotAssigned {
        /// The task.
        task: TaskId,
    },
    /// The node says that it has forgotten a task, or knows another one under its id.
    Refused {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id the node has or had.
        accepted: AcceptedAt,
    },
    /// A task that is not here has ended, or never was.
    Over {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// The node is there.
    Connected {
        /// The tasks that it knows of.
        unsettled: Vec<Unsettled>,
    },
    /// The line is cut.
    Disconnected,
    /// The node has a task in its journal, or has started it.
    Taken {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// Bytes of a log came.
    Log {
        /// The task.
        task: TaskId,
        /// Where they begin.
        offset: u64,
        /// How many there are.
        bytes: u64,
    },
    /// Less of a log is held than was thought: it could not be written.
    Holds {
        /// The task.
        task: TaskId,
        /// How much.
        bytes: u64,
    },
    /// The node says that a task has ended.
    Ended {
        /// The task.
        task: TaskId,
        /// Length of its log.
        log_bytes: u64,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// Log and result of a task are on disk, and it has ended here.
    Finished {
        /// The task.
        task: TaskId,
    },
    /// They could not be written.
    NotFinished {
        /// The task.
        task: TaskId,
    },
    /// The end of a task is asked for.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// A task is given up.
    GiveUp {
        /// The task.
        task: TaskId,
    },
    /// A task that was given up has ended here.
    GaveUp {
        /// The task.
        task: TaskId,
    },
    /// A task was given up and ended before this agent was started, and its node has not been heard of it since.
    LeftOver {
        /// The task.
        task: TaskId,
        /// How much of its log is held.
        held: u64,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// Some time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write, flushed, that the node may hear of a task from now on.
    WriteHanded {
        /// The task.
        task: TaskId,
    },
    /// Sign the assignment of a task and send it.
    Assign {
        /// The task.
        task: TaskId,
    },
    /// Send a message.
    Send(ToNode),
    /// Append the bytes that came to the log, but for the first `skip`, which are there.
    Append {
        /// The task.
        task: TaskId,
        /// How many not to write.
        skip: u64,
    },
    /// Flush the log, write the result that came, end the task.
    Finish {
        /// The task.
        task: TaskId,
    },
    /// End a task of which the node does not know any more how it ended.
    EndGone {
        /// The task.
        task: TaskId,
    },
    /// End a task in whose place the node has another one of its id.
    EndOther {
        /// The task.
        task: TaskId,
    },
    /// Look whether a task that is not here has ended, or never was.
    Ask {
        /// The task.
        task: TaskId,
        /// Which of the tasks of that id.
        accepted: AcceptedAt,
    },
    /// End a task of which the node has not heard.
    EndUnheard {
        /// The task.
        task: TaskId,
    },
    /// Write, flushed, that a task is given up.
    WriteGivenUp {
        /// The task.
        task: TaskId,
    },
    /// End a task that is given up.
    EndLost {
        /// The task.
        task: TaskId,
    },
    /// Flush the log, and write the result that came of a task that was given up beside it.
    FinishLate {
        /// The task.
        task: TaskId,
    },
    /// Forget a task: nothing more is to come of it.
    Forget {
        /// The task.
        task: TaskId,
    },
}

impl Action {
    /// The task that it is about. What follows an action of a task that failed must not be done of that task.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::WriteHanded { task }
            | Self::Assign { task }
            | Self::Append { task, .. }
            | Self::Finish { task }
            | Self::EndUnheard { task }
            | Self::EndGone { task }
            | Self::EndOther { task }
            | Self::Ask { task, .. }
            | Self::WriteGivenUp { task }
            | Self::EndLost { task }
            | Self::FinishLate { task }
            | Self::Forget { task }
            | Self::Send(
                ToNode::Held { task, .. } | ToNode::Cancel { task, .. } | ToNode::Settled { task, .. },
            ) => Some(task),
            Self::Send(_) => None,
        }
    }
}
