//! One connection of a node after the other, without end: dial, greet, pass on what comes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use task_runners::Scripts;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::catalogue::{Offer, offer_changes, send_catalogue};
use super::counts::NodeCounts;
use super::dial::{Failure, dial};
use super::ended::Ended;
use super::work::Input;
use crate::greeting::{self, Stranger};
use crate::keys::{self, NodeKeys, PublicKey};
use crate::link::{Frame, LinkReceiver, LinkSender, Outgoing, Pace, receive, send_all};
use crate::message::{Challenge, Hello, MessageError, ToNode, ToServer, VERSION, decode, encode};
use crate::node::NodeSettings;
use crate::room::Room;

/// Time in which a connection is made and both ends know each other.
const GREET_WITHIN: Duration = Duration::from_secs(20);
/// The same where tasks are not settled, for the first try: the line may have been cut in the middle of it. An API server that
/// is slow has more time for the next one.
const BUSY_GREET_WITHIN: Duration = Duration::from_secs(7);
/// Why a connection ends that nothing is wrong with.
const STOPS: &str = "the node stops";
/// What is wrong with a frame of a log where nobody has begun to speak.
const NO_CONTROL: &str = "it is no control message";

/// What connections are made with.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) settings: NodeSettings,
    pub(super) keys: Arc<NodeKeys>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) runners: Vec<String>,
    pub(super) inputs: mpsc::Sender<Input>,
    /// For the messages of the API server among them.
    pub(super) room: Room,
    /// The API servers' keys that are accepted; with none, the first one that is shown.
    pub(super) accepted: Vec<PublicKey>,
    pub(super) pinned: PathBuf,
    /// Whether there are tasks that are not settled.
    pub(super) is_busy: watch::Receiver<bool>,
    pub(super) counts: NodeCounts,
    /// Whether the last try was given up since it took too long.
    pub(super) was_late: bool,
}

impl Sessions {
    /// Connects again and again.
    pub(super) async fn run(mut self) {
        let mut told = String::new();
        for number in 0_u64.. {
            let ended = self.one(number).await;
            self.counts.connected(false);
            let api_server = &self.settings.address.api_server;
            match &ended {
                Ended::Cut(why) => {
                    told.clear();
                    tracing::warn!(api_server, %why, "the line to the API server is cut");
                }
                Ended::Failed(Failure::Away(why) | Failure::Refused(why)) if told != *why => {
                    tracing::warn!(api_server, %why, "there is no connection to the API server; trying on");
                    told.clone_from(why);
                }
                Ended::Failed(_) => {}
            }
            if self.inputs.send(Input::Lost { session: number }).await.is_err() {
                return;
            }
            sleep(ended.wait(self.is_busy())).await;
        }
    }

    fn is_busy(&self) -> bool {
        *self.is_busy.borrow()
    }

    /// One connection, from its first byte to its last.
    async fn one(&mut self, session: u64) -> Ended {
        let is_hurried = self.is_busy() && !self.was_late;
        let patience = if is_hurried { BUSY_GREET_WITHIN } else { GREET_WITHIN };
        let greeted = timeout(patience, self.greet(session)).await;
        self.was_late = greeted.is_err();
        let late = || {
            let seconds = patience.as_secs();
            Failure::Away(format!("the API server did not let this node in within {seconds} s"))
        };
        let line = match greeted.unwrap_or_else(|_| Err(late())) {
            Ok(line) => line,
            Err(failure) => return Ended::Failed(failure),
        };
        tracing::info!(api_server = %self.settings.address.api_server, node = %self.settings.name,
            "connected to the API server");
        self.counts.connected(true);
        let to_work = ToWork { session, inputs: self.inputs.clone(), room: self.room.clone() };
        line.serve(&to_work, &self.pace()).await.map_or_else(Ended::Failed, Ended::Cut)
    }

    fn pace(&self) -> Pace {
        Pace::of(self.is_busy.clone())
    }

    /// Makes a connection on which both ends know each other, and lets the node's work send by it.
    async fn greet(
        &mut self,
        session: u64,
    ) -> Result<Line<impl LinkSender + use<>, impl LinkReceiver + use<>>, Failure> {
        let (mut sender, mut receiver) = dial(&self.settings.address).await?;
        let challenge = match self.challenged(&mut receiver).await? {
            Ok(challenge) => challenge,
            Err(stranger) => {
                complain(&mut sender, &stranger).await;
                return Err(Failure::Refused(stranger.to_string()));
            }
        };
        self.pin(challenge.key).map_err(Failure::Away)?;
        let scripts = self.scripts.clone();
        let offer = tokio::task::spawn_blocking(move || Offer::of(&scripts)).await;
        let offer = offer.map_err(|error| Failure::Away(error.to_string()))?;
        let hello = self.hello(&challenge, offer.digest.clone()).await.map_err(Failure::Away)?;
        sender.send(Frame::Control(hello)).await.map_err(|error| Failure::Away(error.to_string()))?;
        let (tasks, wants_catalogue) = match next(&mut receiver).await? {
            ToNode::Welcome { tasks, wants_catalogue } => (tasks, wants_catalogue),
            ToNode::Refuse { code, message } => return Err(Failure::refused(&code, &message)),
            _ => return away("the API server answers a hello with something else than a welcome"),
        };
        let (outgoing, to_send) = mpsc::unbounded_channel();
        if wants_catalogue {
            send_catalogue(&offer, &outgoing);
        }
        tokio::spawn(offer_changes(self.scripts.clone(), offer, outgoing.downgrade()));
        let sender = self.counts.counted(sender);
        let trusted = if self.accepted.is_empty() { vec![challenge.key] } else { self.accepted.clone() };
        let connected = Input::Connected { session, outgoing, server: challenge.key, tasks, trusted };
        match self.inputs.send(connected).await {
            Ok(()) => Ok(Line { sender, to_send, receiver }),
            Err(_) => away(STOPS),
        }
    }

    /// The API server's challenge, or why it is not believed.
    async fn challenged(
        &self,
        receiver: &mut impl LinkReceiver,
    ) -> Result<Result<Challenge, Stranger>, Failure> {
        let received = receive(receiver, &mut Pace::calm()).await;
        let Frame::Control(text) = received.map_err(|error| Failure::Away(error.to_string()))? else {
            return Ok(Err(Stranger::Malformed(NO_CONTROL.to_owned())));
        };
        Ok(match decode(&text) {
            Ok(ToNode::Challenge(challenge)) => {
                greeting::check_challenge(&challenge, &self.accepted).map(|()| challenge)
            }
            Ok(ToNode::Refuse { code, message }) => return Err(Failure::refused(&code, &message)),
            Ok(_) => Err(Stranger::Malformed("it begins with something else than a challenge".to_owned())),
            Err(error) => Err(error.into()),
        })
    }

    /// What the node says of itself, as it travels.
    async fn hello(&self, challenge: &Challenge, catalogue: String) -> Result<String, String> {
        let (answer, unsettled) = oneshot::channel();
        let stopped = || STOPS.to_owned();
        self.inputs.send(Input::Describe { server: challenge.key, answer }).await.map_err(|_| stopped())?;
        let hello = Hello {
            version: VERSION,
            nonce: challenge.nonce,
            name: self.settings.name.clone(),
            agent: self.settings.agent.clone(),
            key: self.keys.public(),
            sealing: self.keys.sealing_key(),
            labels: self.settings.labels.clone(),
            runners: self.runners.clone(),
            capacity: self.settings.capacity,
            catalogue,
            unsettled: unsettled.await.map_err(|_| stopped())?,
            opens: Some(self.settings.opens.clone()),
        };
        let hello = greeting::sign_hello(&self.keys, &hello).map_err(|error| error.to_string())?;
        encode(&ToServer::Hello(hello)).map_err(|error| error.to_string())
    }

    /// Remembers the key of the first API server that showed one.
    fn pin(&mut self, key: PublicKey) -> Result<(), String> {
        if self.accepted.is_empty() {
            keys::pin(&self.pinned, &key).map_err(|error| error.to_string())?;
            tracing::warn!(%key, pinned = %self.pinned.display(),
                "this API server's key is the first one that was shown, and is accepted from now on");
            self.accepted.push(key);
        }
        Ok(())
    }
}

/// A connection on which both ends know each other.
struct Line<S, R> {
    sender: S,
    to_send: mpsc::UnboundedReceiver<Outgoing>,
    receiver: R,
}

/// The way to the node's work.
struct ToWork {
    session: u64,
    inputs: mpsc::Sender<Input>,
    room: Room,
}

impl<S: LinkSender, R: LinkReceiver> Line<S, R> {
    /// Sends what is to be sent and hands what comes to the node's work, until either comes to its end: a line that carries
    /// one way only is none. Gives why it ended; an error where the API server wants no more of it.
    async fn serve(self, to_work: &ToWork, pace: &Pace) -> Result<String, Failure> {
        tokio::select! {
            sent = send_all(self.sender, self.to_send, pace.clone()) => match sent {
                Ok(()) => Ok(STOPS.to_owned()),
                Err(error) => Ok(error.to_string()),
            },
            why = pass_on(to_work, self.receiver, pace.clone()) => why,
        }
    }
}

/// Hands what comes to the node's work; gives why nothing more comes. An error where the API server wants no more of it.
async fn pass_on(
    to_work: &ToWork,
    mut receiver: impl LinkReceiver,
    mut pace: Pace,
) -> Result<String, Failure> {
    loop {
        let text = match receive(&mut receiver, &mut pace).await {
            Ok(Frame::Control(text)) => text,
            Ok(_) => return Ok("the API server sent what no API server sends".to_owned()),
            Err(error) => return Ok(error.to_string()),
        };
        let room = to_work.room.take(text.len()).await;
        let message = match decode(&text) {
            Ok(ToNode::Refuse { code, message }) => return Err(Failure::refused(&code, &message)),
            Ok(message) => message,
            // Of a newer API server; what it is about is said again, or is not for this node.
            Err(error @ MessageError::Malformed(_)) => {
                tracing::error!(%error, "a message of the API server is not understood");
                continue;
            }
            Err(error) => return Ok(error.to_string()),
        };
        let input = Input::Message { session: to_work.session, message, _room: room };
        if to_work.inputs.send(input).await.is_err() {
            return Ok(STOPS.to_owned());
        }
    }
}

fn away<T>(why: &str) -> Result<T, Failure> {
    Err(Failure::Away(why.to_owned()))
}

/// The next control message.
async fn next(receiver: &mut impl LinkReceiver) -> Result<ToNode, Failure> {
    let received = receive(receiver, &mut Pace::calm()).await;
    match received.map_err(|error| Failure::Away(error.to_string()))? {
        Frame::Control(text) => decode(&text).map_err(|error| Failure::Refused(error.to_string())),
        _ => Err(Failure::Refused(Stranger::Malformed(NO_CONTROL.to_owned()).to_string())),
    }
}

/// Tells the API server why this node does not believe it: somebody there looks into its log as well.
async fn complain(sender: &mut impl LinkSender, stranger: &Stranger) {
    let (code, message) = (stranger.code().to_owned(), stranger.to_string());
    // Whoever has hung up needs not be told.
    if let Ok(text) = encode(&ToServer::Complaint { task: None, accepted: None, code, message }) {
        let _ = sender.send(Frame::Control(text)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::heard::Heard;
    use crate::link::LinkError;

    /// One half of a line, which is broken or never comes to its end, and notes that it is let go of.
    struct Half {
        is_broken: bool,
        is_gone: Arc<AtomicBool>,
    }

    impl Half {
        fn new(is_broken: bool) -> (Self, Arc<AtomicBool>) {
            let is_gone = Arc::<AtomicBool>::default();
            (Self { is_broken, is_gone: is_gone.clone() }, is_gone)
        }

        async fn work<T>(&self) -> Result<T, LinkError> {
            if self.is_broken { Err(LinkError::Cut("broken".to_owned())) } else { pending().await }
        }
    }

    impl Drop for Half {
        fn drop(&mut self) {
            self.is_gone.store(true, Ordering::Relaxed);
        }
    }

    impl LinkSender for Half {
        async fn feed(&mut self, _: Frame) -> Result<(), LinkError> {
            self.work().await
        }

        async fn flush(&mut self) -> Result<(), LinkError> {
            self.work().await
        }
    }

    impl LinkReceiver for Half {
        async fn receive(&mut self) -> Result<Frame, LinkError> {
            self.work().await
        }

        fn heard(&self) -> Heard {
            Heard::new()
        }
    }

    #[tokio::test]
    async fn a_line_that_is_broken_one_way_is_let_go_of_both_ways() {
        for (breaks_sending, breaks_receiving) in [(true, false), (false, true)] {
            let ((sender, sender_gone), (receiver, receiver_gone)) =
                (Half::new(breaks_sending), Half::new(breaks_receiving));
            let (outgoing, to_send) = mpsc::unbounded_channel();
            outgoing.send(Outgoing::Control("a catalogue".to_owned())).unwrap();
            let (inputs, _coming) = mpsc::channel(1);
            let line = Line { sender, to_send, receiver };
            let to_work = ToWork { session: 1, inputs, room: Room::new() };
            let why = timeout(GREET_WITHIN, line.serve(&to_work, &Pace::calm())).await;
            assert_eq!(why.expect("it ends at once"), Ok("the line was cut: broken".to_owned()));
            assert!(sender_gone.load(Ordering::Relaxed) && receiver_gone.load(Ordering::Relaxed));
        }
    }
}
