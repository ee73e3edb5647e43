//! The API's description: `GET /openapi.json`. Its general part needs no token; with one it describes the scripts that the
//! token sees as well.

mod refined;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VARY};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use task_runners::{Catalogue, ScriptName};
use utoipa::openapi::OpenApi;

use super::{Answered, Refused, Unchanged};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::etag;
use crate::script_operation;

/// The operation that those of scripts are made of.
const RUN: &str = "/api/v1/scripts/{name}/run";
/// Most scripts in one document, and most bytes of them: what nobody reads to its end is made and kept all the same.
const MAX_SCRIPTS: usize = 1_000;
const MAX_BYTES: usize = 8 << 20;
/// Most documents that are kept for callers who see the same.
const MAX_KEPT: usize = 8;

/// The general part, and what was made of it.
pub(crate) struct Description {
    general: Made,
    /// The general part to go on with, and its operation for a script.
    document: Value,
    run: Value,
    kept: Mutex<Vec<Kept>>,
}

/// A document as it is sent.
#[derive(Clone)]
struct Made {
    json: Bytes,
    etag: HeaderValue,
}

/// A document for all callers who see the same.
struct Kept {
    version: u64,
    sight: Option<Vec<String>>,
    made: Made,
}

/// This description
///
/// What everybody may know. With a token of scope `read`, each script that it sees is described too.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service", operation_id = "description",
    security((), ("token" = ["read"])),
    responses(
        (status = 200, description = "The description, in OpenAPI 3.1.", body = Object),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused)
    )
)]
pub(crate) async fn show(
    State(state): State<AppState>,
    Extension(description): Extension<Arc<Description>>,
    caller: Result<Caller, ApiError>,
) -> Answered {
    let reader = caller.ok().filter(Caller::can_read);
    let made = match reader {
        Some(caller) => description.with_scripts(state, caller).await?,
        None => description.general.clone(),
    };
    Ok(made.answer())
}

impl Description {
    /// Of the document that the routes make together.
    pub(crate) fn new(document: &OpenApi) -> Self {
        let value =
            serde_json::to_value(document).expect("the document has only texts, numbers and lists of them");
        let value = refined::refined(value);
        let run = value["paths"][RUN]["post"].clone();
        let general = Made::of(format!("{value:#}\n"));
        Self { general, document: value, run, kept: Mutex::default() }
    }

    /// The document with the scripts that the caller sees. Where they do not verify there are none to describe.
    async fn with_scripts(self: Arc<Self>, state: AppState, caller: Caller) -> Result<Made, ApiError> {
        let made = tokio::task::spawn_blocking(move || {
            let Ok(catalogue) = state.scripts().catalogue() else { return self.general.clone() };
            self.kept(&catalogue, &caller).unwrap_or_else(|| self.make(&state, &catalogue, &caller))
        });
        made.await.map_err(|error| {
            tracing::error!(%error, "the scripts could not be described");
            ApiError::internal()
        })
    }

    fn kept(&self, catalogue: &Catalogue, caller: &Caller) -> Option<Made> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_these =
            |kept: &&Kept| kept.version == catalogue.version() && kept.sight.as_deref() == caller.sight();
        kept.iter().find(of_these).map(|kept| kept.made.clone())
    }

    fn make(&self, state: &AppState, catalogue: &Catalogue, caller: &Caller) -> Made {
        let runners = state.service().runners();
        // A runner's name has the form of a script's, and wins over it.
        let is_offered =
            |name: &ScriptName| caller.sees(name.as_str()) && runners.get(name.as_str()).is_none();
        let mut document = self.document.clone();
        let (mut described, mut bytes, mut is_whole) = (0, 0, true);
        for entry in catalogue.entries(None, is_offered).filter(|entry| entry.broken.is_empty()) {
            let operation = script_operation::operation(&entry, &self.run);
            bytes += operation.to_string().len();
            if described == MAX_SCRIPTS || bytes > MAX_BYTES {
                is_whole = false;
                break;
            }
            document["paths"][script_operation::path(&entry.name)] = serde_json::json!({ "post": operation });
            described += 1;
        }
        if !is_whole {
            let general = document["info"]["description"].as_str().unwrap_or_default();
            let note = format!(
                "{general}\n\nOf the scripts that the token sees, the first {described} by name are described here; \
                 `GET /api/v1/scripts` lists all of them."
            );
            document["info"]["description"] = note.into();
        }
        let made = Made::of(format!("{document}\n"));
        self.keep(Kept {
            version: catalogue.version(),
            sight: caller.sight().map(<[String]>::to_vec),
            made: made.clone(),
        });
        made
    }

    /// Keeps a document; those of earlier states go, and the oldest where there are many. One that took so long that there
    /// is a later state is not kept.
    fn keep(&self, made: Kept) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().any(|kept| kept.version > made.version) {
            return;
        }
        kept.retain(|kept| kept.version == made.version && kept.sight != made.sight);
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push(made);
    }
}

impl Made {
    fn of(json: String) -> Self {
        let etag = etag::of(json.as_bytes());
        Self { json: json.into(), etag }
    }

    fn answer(self) -> Response {
        // Callers may keep it, and ask whether it is still right. It depends on the token.
        let caching = [(CACHE_CONTROL, "private, no-cache"), (VARY, "authorization")];
        ([(CONTENT_TYPE, "application/json")], [(ETAG, self.etag)], caching, self.json).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_an_earlier_state_that_comes_late_does_not_drive_the_later_ones_out() {
        let description = Description::new(&OpenApi::default());
        let made = Made::of(String::new());
        for version in [1, 2, 1] {
            description.keep(Kept { version, sight: None, made: made.clone() });
        }
        let kept = description.kept.lock().unwrap();
        assert_eq!(kept.iter().map(|kept| kept.version).collect::<Vec<_>>(), [2]);
    }
}
