//! The connections of nodes: who comes is made sure of first, then what comes is handed to the work for that node.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fleet::{Fleet, Inner, Seat};
use super::stats::{BY_NODE, CROWDED, SILENT};
use super::store::{Facts, StoreError};
use super::view::View;
use super::work::Input;
use crate::greeting::{self, Stranger};
use crate::link::{Frame, LinkReceiver, LinkSender, Pace, Places, Queue, receive, send_all};
use crate::message::{Hello, MessageError, ToNode, ToServer, decode, encode, end_in_other_words, quoted};

/// Connections of one name that may be greeted at once: one that hangs does not keep the next one out.
const GREETED_AT_ONCE: usize = 2;
/// Time in which a node answers the challenge.
const GREET_WITHIN: Duration = Duration::from_secs(10);

/// A node that was let in, and its place, which is not forgotten while this is there.
struct Guest {
    hello: Hello,
    seat: Arc<Seat>,
    here: Arc<()>,
}

impl Fleet {
    /// Serves a connection of the node whose token was presented, to its end; gives why it ended.
    pub async fn serve(
        &self,
        name: &str,
        mut sender: impl LinkSender,
        mut receiver: impl LinkReceiver,
    ) -> String {
        let Some(greeting) = Greeting::begin(&self.inner, name) else {
            self.inner.counts.refused(CROWDED);
            return "others of this node's name have not said yet who they are".to_owned();
        };
        let greeted = timeout(GREET_WITHIN, self.greet(name, &mut sender, &mut receiver)).await;
        drop(greeting);
        let Guest { hello, seat, here: _here } = match greeted {
            Ok(Ok(guest)) => guest,
            Ok(Err(why)) => {
                tracing::warn!(node = name, why, "a node was not let in");
                return why;
            }
            Err(_) => {
                self.inner.counts.refused(SILENT);
                return "it did not answer the challenge in time".to_owned();
            }
        };
        let session = self.inner.sessions.fetch_add(1, Ordering::Relaxed);
        let (outgoing, to_send) = Queue::new();
        let places = outgoing.places();
        let connected = Input::Connected { session, hello: Box::new(hello), outgoing };
        if seat.inputs.send(connected).await.is_err() {
            return "this agent stops".to_owned();
        }
        let _line = Line { inputs: seat.inputs.clone(), session };
        tokio::select! {
            sent = send_all(sender, to_send, Pace::calm()) => match sent {
                Ok(()) => "another connection of this node has replaced it, or it was refused".to_owned(),
                Err(error) => error.to_string(),
            },
            why = pass_on(name, &seat, session, receiver, &places) => why,
        }
    }

    /// Makes sure that the node is who it was.
    async fn greet(
        &self,
        name: &str,
        sender: &mut impl LinkSender,
        receiver: &mut impl LinkReceiver,
    ) -> Result<Guest, String> {
        let challenge = greeting::challenge(&self.inner.key).map_err(|error| error.to_string())?;
        say(sender, &ToNode::Challenge(challenge.clone())).await?;
        let text = match receive(receiver, &mut Pace::calm()).await.map_err(|error| error.to_string())? {
            Frame::Control(text) => text,
            _ => return Err("it begins with something else than a hello".to_owned()),
        };
        let checked = match decode(&text) {
            Ok(ToServer::Hello(signed)) => greeting::check_hello(&signed, &challenge, name),
            Ok(ToServer::Complaint { code, message, .. }) => {
                self.inner.counts.refused(BY_NODE);
                return Err(format!(
                    "it does not take this API server, {}: {}",
                    quoted(&code),
                    quoted(&message)
                ));
            }
            Ok(_) => Err(Stranger::Malformed("it is no hello".to_owned())),
            Err(error) => Err(error.into()),
        };
        let known = match checked {
            Ok(hello) => self.pinned(hello).await?,
            Err(stranger) => Err(stranger),
        };
        match known {
            Ok(guest) => Ok(guest),
            Err(stranger) => {
                self.inner.counts.refused(stranger.code());
                let (code, message) = (stranger.code().to_owned(), stranger.to_string());
                say(sender, &ToNode::Refuse { code, message }).await?;
                Err(stranger.to_string())
            }
        }
    }

    async fn pinned(&self, hello: Hello) -> Result<Result<Guest, Stranger>, String> {
        let fleet = self.clone();
        let pinned = tokio::task::spawn_blocking(move || {
            let store = fleet.inner.store();
            if !store.pin(&hello.name, &hello.key)? {
                return Ok(Err(Stranger::NodeKeyChanged { name: hello.name }));
            }
            store.keep_facts(&hello.name, &Facts::of(&hello))?;
            // While nobody else has the database, so that the node is not forgotten before it has its place.
            let seat = fleet.seat(hello.name.clone(), View::default(), Vec::new());
            let here = seat.here.clone();
            Ok::<_, StoreError>(Ok(Guest { hello, seat, here }))
        });
        pinned.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// A connection whose node has not said yet who it is.
struct Greeting<'a> {
    fleet: &'a Inner,
    name: &'a str,
}

impl<'a> Greeting<'a> {
    /// None where there are enough of that name.
    fn begin(fleet: &'a Inner, name: &'a str) -> Option<Self> {
        let mut greeted = fleet.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = greeted.entry(name.to_owned()).or_default();
        if *count >= GREETED_AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Self { fleet, name })
    }
}

impl Drop for Greeting<'_> {
    fn drop(&mut self) {
        let mut greeted = self.fleet.greeted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = greeted.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                greeted.remove(self.name);
            }
        }
    }
}

/// A connection that is served. Dropped, also because nobody serves it any more, it is told to be cut.
struct Line {
    inputs: mpsc::Sender<Input>,
    session: u64,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (inputs, session) = (self.inputs.clone(), self.session);
        // An agent that stops needs not be told.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move { inputs.send(Input::Lost { session }).await });
        }
    }
}

/// Hands what comes by a connection to the work for its node; gives why nothing more comes.
async fn pass_on(
    node: &str,
    seat: &Seat,
    session: u64,
    mut receiver: impl LinkReceiver,
    places: &Places,
) -> String {
    let mut pace = Pace::calm();
    loop {
        // Who says much and reads little is not heard for a while.
        places.one_is_free().await;
        let frame = match receive(&mut receiver, &mut pace).await {
            Ok(frame) => frame,
            Err(error) => return error.to_string(),
        };
        let room = seat.room.take(frame.bytes()).await;
        let input = match frame {
            Frame::Control(text) => match decode(&text) {
                Ok(message) => Input::Message { session, message: Box::new(message), _room: room },
                Err(error @ MessageError::Malformed(_)) => {
                    tracing::error!(node, %error, "a message of a node is not understood");
                    let Some(ended) = end_in_other_words(&text, &error) else { continue };
                    Input::Message {
                        session,
                        message: Box::new(ToServer::Ended(Box::new(ended))),
                        _room: room,
                    }
                }
                Err(error) => return error.to_string(),
            },
            Frame::Log(frame) => Input::Log { session, frame, _room: room },
            Frame::Ping => continue,
        };
        if seat.inputs.send(input).await.is_err() {
            return "this agent stops".to_owned();
        }
    }
}

async fn say(sender: &mut impl LinkSender, message: &ToNode) -> Result<(), String> {
    let text = encode(message).map_err(|error| error.to_string())?;
    sender.send(Frame::Control(text)).await.map_err(|error| error.to_string())
}
