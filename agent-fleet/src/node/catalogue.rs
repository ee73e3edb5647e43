//! What a node offers: its scripts with their headers, so that an API server can show and check what they take.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use task_runners::Scripts;
use task_runners::catalogue::head;
use task_runners::header;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::TICK;
use crate::link::Outgoing;
use crate::message::{CataloguePart, CatalogueScript, ToServer, encode};

/// Headers in one part of a catalogue, bytes.
const PART_BYTES: usize = 1 << 20;

/// The scripts of a node at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    /// SHA-256 of all of it, hexadecimal.
    pub(crate) digest: String,
    /// The catalogue's own number; none where there is no catalogue.
    pub(crate) version: Option<u64>,
    pub(crate) scripts: Arc<Vec<CatalogueScript>>,
}

impl Offer {
    /// What can be run now. Reads the disk. A folder that does not verify offers nothing.
    pub(crate) fn of(scripts: &Scripts) -> Self {
        let version = version(scripts);
        let offered = Self::listed(scripts).unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, "this node offers no scripts");
            Vec::new()
        });
        let mut digest = Sha256::new();
        for script in &offered {
            for part in [&script.name, &script.sha256, &script.header] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
            digest.update([u8::from(script.verified)]);
        }
        Self { digest: hex::encode(digest.finalize()), version, scripts: Arc::new(offered) }
    }

    /// The same, where it is another one than that of a version.
    pub(crate) fn unless_of(scripts: &Scripts, known: Option<u64>) -> Option<Self> {
        (version(scripts) != known).then(|| Self::of(scripts))
    }

    fn listed(scripts: &Scripts) -> Result<Vec<CatalogueScript>, task_service::Refusal> {
        let (source, _) = scripts.source()?;
        let catalogue = scripts.catalogue()?;
        let entries = catalogue.all().filter(|entry| entry.broken.is_empty());
        let with_header = entries.filter_map(|entry| {
            let found = source.resolve(&entry.name.parse().ok()?).ok()?;
            let header = header::lines(&head(&found.path).ok()?);
            Some(CatalogueScript { name: entry.name, sha256: entry.sha256, verified: entry.verified, header })
        });
        Ok(with_header.collect())
    }

    /// The scripts in parts that fit into messages; one at least.
    pub(crate) fn parts(&self) -> Vec<Vec<CatalogueScript>> {
        let mut parts = vec![Vec::new()];
        let mut bytes = 0;
        for script in self.scripts.iter() {
            let more = script.header.len() + script.name.len() + 100;
            if bytes + more > PART_BYTES {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += more;
            if let Some(part) = parts.last_mut() {
                part.push(script.clone());
            }
        }
        parts
    }
}

fn version(scripts: &Scripts) -> Option<u64> {
    scripts.catalogue().ok().map(|catalogue| catalogue.version())
}

/// Sends what is offered, in parts.
pub(super) fn send_catalogue(offer: &Offer, outgoing: &mpsc::UnboundedSender<Outgoing>) {
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
pub(super) async fn offer_changes(
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
