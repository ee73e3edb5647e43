//! One connection of a node after the other, without end: dial, greet, pass on what comes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use task_runners::Scripts;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::catalogue::Offer;
use super::dial::dial;
use super::work::Input;
use crate::TICK;
use crate::greeting::{self, Stranger};
use crate::keys::{self, NodeKeys, PublicKey};
use crate::link::{Frame, LinkReceiver, LinkSender, Outgoing, receive, send_all};
use crate::message::{CataloguePart, Hello, ToNode, ToServer, VERSION, decode, encode};
use crate::node::NodeSettings;

/// Longest wait before the first try after a connection that worked, and before all others.
const FIRST_WAIT: Duration = Duration::from_secs(3);
const LONG_WAIT: Duration = Duration::from_secs(15);
/// Time in which a connection is made and both ends know each other.
const GREET_WITHIN: Duration = Duration::from_secs(20);

/// What connections are made with.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) settings: NodeSettings,
    pub(super) keys: Arc<NodeKeys>,
    pub(super) scripts: Arc<Scripts>,
    pub(super) runners: Vec<String>,
    pub(super) inputs: mpsc::Sender<Input>,
    /// The API servers' keys that are accepted; with none, the first one that is shown.
    pub(super) accepted: Vec<PublicKey>,
    pub(super) pinned: PathBuf,
}

impl Sessions {
    /// Connects again and again.
    pub(super) async fn run(mut self) {
        let mut told = String::new();
        for number in 0_u64.. {
            let ended = self.one(number).await;
            let had_worked = ended.is_ok();
            let why = ended.unwrap_or_else(|why| why);
            if had_worked {
                told.clear();
                tracing::warn!(api_server = %self.settings.address.api_server, %why, "the line to the API server is cut");
            } else if told != why {
                tracing::warn!(api_server = %self.settings.address.api_server, %why,
                    "there is no connection to the API server; trying on");
                told = why;
            }
            if self.inputs.send(Input::Lost { session: number }).await.is_err() {
                return;
            }
            sleep(spread(if had_worked { FIRST_WAIT } else { LONG_WAIT })).await;
        }
    }

    /// One connection, from its first byte to its last; why it ended. An error where nothing came of it.
    async fn one(&mut self, session: u64) -> Result<String, String> {
        let greeted = timeout(GREET_WITHIN, self.greet(session)).await;
        let mut receiver = greeted.map_err(|_| "the API server does not answer in time".to_owned())??;
        tracing::info!(api_server = %self.settings.address.api_server, node = %self.settings.name,
            "connected to the API server");
        loop {
            match receive(&mut receiver).await {
                Ok(Frame::Control(text)) => {
                    let message = decode(&text).map_err(|error| error.to_string())?;
                    if self.inputs.send(Input::Message { session, message }).await.is_err() {
                        return Ok("the node stops".to_owned());
                    }
                }
                Ok(_) => return Ok("the API server sent what no API server sends".to_owned()),
                Err(error) => return Ok(error.to_string()),
            }
        }
    }

    /// Makes a connection on which both ends know each other, and hands its sending half to the node's work.
    async fn greet(&mut self, session: u64) -> Result<impl LinkReceiver + use<>, String> {
        let (mut sender, mut receiver) = dial(&self.settings.address).await?;
        let ToNode::Challenge(challenge) = next(&mut receiver).await? else {
            return Err("the API server begins with something else than a challenge".to_owned());
        };
        greeting::check_challenge(&challenge, &self.accepted).map_err(|error| error.to_string())?;
        self.pin(challenge.key)?;
        let scripts = self.scripts.clone();
        let offer = tokio::task::spawn_blocking(move || Offer::of(&scripts)).await;
        let offer = offer.map_err(|error| error.to_string())?;
        let (answer, unsettled) = oneshot::channel();
        let stopped = || "the node stops".to_owned();
        self.inputs.send(Input::Describe { answer }).await.map_err(|_| stopped())?;
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
            catalogue: offer.digest.clone(),
            unsettled: unsettled.await.map_err(|_| stopped())?,
        };
        let hello = greeting::sign_hello(&self.keys, &hello).map_err(|error| error.to_string())?;
        let hello = encode(&ToServer::Hello(hello)).map_err(|error| error.to_string())?;
        sender.send(Frame::Control(hello)).await.map_err(|error| error.to_string())?;
        let (tasks, wants_catalogue) = match next(&mut receiver).await? {
            ToNode::Welcome { tasks, wants_catalogue } => (tasks, wants_catalogue),
            ToNode::Refuse { code, message } => return Err(format!("refused, {code}: {message}")),
            _ => return Err("the API server answers a hello with something else than a welcome".to_owned()),
        };
        let (outgoing, to_send) = mpsc::unbounded_channel();
        if wants_catalogue {
            send_catalogue(&offer, &outgoing);
        }
        tokio::spawn(offer_changes(self.scripts.clone(), offer, outgoing.downgrade()));
        let inputs = self.inputs.clone();
        tokio::spawn(async move {
            if let Err(error) = send_all(sender, to_send).await {
                tracing::debug!(%error, "nothing more is sent to the API server");
            }
            // Who is gone needs not be told.
            let _ = inputs.send(Input::Lost { session }).await;
        });
        let trusted = if self.accepted.is_empty() { vec![challenge.key] } else { self.accepted.clone() };
        let connected = Input::Connected { session, outgoing, tasks, trusted };
        self.inputs.send(connected).await.map_err(|_| stopped())?;
        Ok(receiver)
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

/// The next control message.
async fn next(receiver: &mut impl LinkReceiver) -> Result<ToNode, String> {
    match receive(receiver).await.map_err(|error| error.to_string())? {
        Frame::Control(text) => decode(&text).map_err(|error| error.to_string()),
        _ => Err(Stranger::Malformed("it is no control message".to_owned()).to_string()),
    }
}

fn send_catalogue(offer: &Offer, outgoing: &mpsc::UnboundedSender<Outgoing>) {
    let parts = offer.parts();
    let last = parts.len() - 1;
    for (index, scripts) in parts.into_iter().enumerate() {
        let part = CataloguePart { digest: offer.digest.clone(), scripts, is_last: index == last };
        match encode(&ToServer::Catalogue(part)) {
            // A connection that is gone is made again.
            Ok(text) => drop(outgoing.send(Outgoing::Control(text))),
            Err(error) => tracing::error!(%error, "a part of the catalogue cannot be sent"),
        }
    }
}

/// Sends the catalogue again when it has changed, for as long as the connection stands.
async fn offer_changes(
    scripts: Arc<Scripts>,
    mut offered: Offer,
    outgoing: mpsc::WeakUnboundedSender<Outgoing>,
) {
    loop {
        sleep(TICK).await;
        let Some(outgoing) = outgoing.upgrade() else { return };
        let (scripts, version) = (scripts.clone(), offered.version);
        let changed = tokio::task::spawn_blocking(move || Offer::unless_of(&scripts, version));
        if let Ok(Some(offer)) = changed.await {
            if offer.digest != offered.digest {
                send_catalogue(&offer, &outgoing);
            }
            offered = offer;
        }
    }
}

/// A time up to `most`, spread evenly.
fn spread(most: Duration) -> Duration {
    // Without random bytes all nodes would come at once, which is no reason not to come.
    let random = keys::Nonce::random().map_or(u8::MAX, |nonce| nonce.0[0]);
    most.mul_f64(f64::from(random) / f64::from(u8::MAX))
}
