//! What a node offers comes in parts, and is kept when it is there as a whole.

use std::sync::Arc;

use super::view::Offered;
use super::work::Work;
use crate::message::{CataloguePart, CatalogueScript, is_sha256};

/// Most scripts that a node may offer, and the bytes of their names, digests and headers.
const MAX_SCRIPTS: usize = 100_000;
const MAX_CATALOGUE_BYTES: usize = 64 << 20;

/// The parts of a catalogue that have come.
#[derive(Debug, Default)]
pub(super) struct Coming {
    scripts: Vec<CatalogueScript>,
    /// Added up part by part: a node may send as many as it likes.
    bytes: usize,
}

impl Coming {
    fn take(&mut self, scripts: Vec<CatalogueScript>) {
        self.bytes += scripts.iter().map(CatalogueScript::bytes).sum::<usize>();
        self.scripts.extend(scripts);
    }

    fn is_too_much(&self) -> bool {
        self.scripts.len() > MAX_SCRIPTS || self.bytes > MAX_CATALOGUE_BYTES
    }
}

impl Work {
    /// Takes a part.
    pub(super) async fn catalogue(&mut self, part: CataloguePart) {
        let is_sound = part.scripts.iter().all(CatalogueScript::is_sound) && is_sha256(&part.digest);
        if let Some(coming) = &mut self.coming {
            coming.take(part.scripts);
            if !is_sound || coming.is_too_much() {
                tracing::error!(node = %self.name,
                    "a node offers more scripts than any has, or what is none; nothing of it is taken");
                self.coming = None;
            }
        }
        if !part.is_last {
            return;
        }
        let Some(Coming { scripts, .. }) = self.coming.replace(Coming::default()) else {
            // What was known before is all that will be known.
            return self.is_up_to_date(None);
        };
        let (fleet, name) = (self.fleet.clone(), self.name.clone());
        let read = tokio::task::spawn_blocking(move || {
            if let Err(error) = fleet.store().keep_catalogue(&name, &part.digest, &scripts) {
                tracing::warn!(node = %name, %error, "what a node offers could not be kept");
            }
            Offered::read(part.digest, &scripts)
        });
        self.is_up_to_date(read.await.ok());
    }

    /// Nothing more is to come, and tasks can be handed to the node again.
    fn is_up_to_date(&self, offered: Option<Offered>) {
        self.change_view(|view| {
            view.is_out_of_date = false;
            if let Some(offered) = offered {
                view.offered = Arc::new(offered);
            }
        });
        self.fleet.room.notify_one();
    }
}
