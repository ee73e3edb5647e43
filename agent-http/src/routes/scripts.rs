//! Scripts: `GET /api/v1/scripts`, `GET /api/v1/scripts/{name}`, `POST /api/v1/scripts/{name}/run`.
//!
//! `{name}` is one percent-encoded segment; a GET may write its slashes plainly.

use agent_config::Scope;
use agent_fleet::controller::{Fleet, Whose};
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use task_runners::{Catalogue, ScriptEntry, ScriptName, Scripts, ScriptsStatus};
use task_service::Refusal;

use super::wait::Wait;
use super::{Answered, Refused, Segment, Unchanged, page_by_name, tasks};
use crate::app::AppState;
use crate::auth::Caller;
use crate::error::ApiError;
use crate::etag::Tagged;
use crate::query::Query;
use crate::{body, schema};

/// Scripts in a page unless the caller says otherwise, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;

/// What a list is asked for.
struct Asked {
    /// The nodes whose scripts are meant; without it those of this agent are.
    whose: Option<Whose>,
    limit: usize,
    cursor: Option<ScriptName>,
    group: Option<String>,
    tags: Vec<String>,
}

/// List scripts
///
/// By name, those that the token sees, and what stands behind them. With `node` those of a node, as it said last; with `label`
/// those of the nodes that have all these labels. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/scripts", tag = "scripts", operation_id = "list_scripts",
    security(("token" = ["read"])),
    params(
        ("node" = Option<String>, Query, description = "The scripts of this node, in place of this agent's."),
        ("label" = Option<Vec<String>>, Query, description = "The scripts of the nodes with this label, as `role=db`; repeated, they must have all."),
        ("group" = Option<String>, Query, description = "Of exactly this group."),
        ("tag" = Option<Vec<String>>, Query, description = "With this tag; repeated, all must be there."),
        ("limit" = Option<u64>, Query, description = "Most scripts in the page, 1 to 1000; 100 when left out."),
        ("cursor" = Option<String>, Query, description = "`next` of the page before.")
    ),
    responses(
        (status = 200, description = "A page of scripts.", body = schema::ScriptPage),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn list(State(state): State<AppState>, caller: Caller, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    let asked = Asked::of(&uri)?;
    if let Some(whose) = asked.whose.clone() {
        return list_of_nodes(&state, caller, whose, asked).await;
    }
    let viewer = caller.clone();
    let (entries, next, status) = look(&state, &caller, move |scripts| {
        let (entries, next) = match scripts.catalogue() {
            Ok(catalogue) => asked.page(&catalogue, &viewer),
            // Then there are none that could be run; the status says why.
            Err(Refusal::Unverified { .. }) => (Vec::new(), None),
            Err(other) => return Err(other),
        };
        Ok((entries, next, scripts.status()))
    })
    .await?;
    let verification =
        ScriptsStatus { problems: caller.seen_problems(&status.problems), ..status.without_problems() };
    Ok(Tagged(json!({ "scripts": entries, "next": next, "verification": verification })).into_response())
}

/// What nodes offer. What stands behind it they know themselves.
async fn list_of_nodes(state: &AppState, caller: Caller, whose: Whose, asked: Asked) -> Answered {
    let limit = asked.limit;
    let found = look_at_nodes(state, whose, move |fleet, whose| {
        let wants = |entry: &ScriptEntry| caller.sees(&entry.name) && asked.wants(entry);
        fleet.scripts(whose, asked.cursor.as_ref(), limit + 1, wants)
    })
    .await?;
    let (scripts, next) = page_by_name(found, limit, |script| &script.entry.name);
    Ok(Tagged(json!({ "scripts": scripts, "next": next, "verification": null })).into_response())
}

impl Asked {
    fn of(uri: &Uri) -> Result<Self, ApiError> {
        let mut query = Query::of(uri);
        let whose = whose(&mut query);
        let (group, tags) = (query.one("group"), query.all("tag"));
        let limit = query.number("limit", 1, MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
        let cursor = query.parsed("cursor", "cursor", "`next` of the page before, as it was");
        query.finish()?;
        Ok(Self { limit: usize::try_from(limit).unwrap_or(usize::MAX), whose, cursor, group, tags })
    }

    /// A page of this agent's scripts, and the cursor of the next one.
    fn page(&self, catalogue: &Catalogue, caller: &Caller) -> (Vec<ScriptEntry>, Option<String>) {
        let entries = catalogue.entries(self.cursor.as_ref(), |name| caller.sees(name.as_str()));
        let entries = entries.filter(|entry| self.wants(entry)).take(self.limit + 1).collect();
        page_by_name(entries, self.limit, |entry| &entry.name)
    }

    fn wants(&self, entry: &ScriptEntry) -> bool {
        let in_group = self.group.is_none() || self.group == entry.group;
        in_group && self.tags.iter().all(|tag| entry.tags.contains(tag))
    }
}

/// Show a script
///
/// The name is percent-encoded, or has plain slashes. With `node` or `label` as nodes offer it: where these differ, as most of
/// them do, with all versions that there are. Scope `read`.
#[utoipa::path(
    get, path = "/api/v1/scripts/{name}", tag = "scripts", operation_id = "show_script",
    security(("token" = ["read"])),
    params(
        ("name" = String, Path, description = "The script's name."),
        ("node" = Option<String>, Query, description = "The script of this node, in place of this agent's."),
        ("label" = Option<Vec<String>>, Query, description = "That of the nodes with this label, as `role=db`; repeated, they must have all.")
    ),
    responses(
        (status = 200, description = "The script.", body = schema::Script),
        (status = 304, response = Unchanged),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn show(State(state): State<AppState>, caller: Caller, name: Segment, uri: Uri) -> Answered {
    caller.require(Scope::Read)?;
    let name = visible(&caller, &name)?;
    let mut query = Query::of(&uri);
    let whose = whose(&mut query);
    query.finish()?;
    let not_found = || Refusal::NotFound { name: name.to_string() };
    let wanted = name.clone();
    if let Some(whose) = whose {
        let found = look_at_nodes(&state, whose, move |fleet, whose| fleet.script(whose, &wanted)).await?;
        return Ok(Tagged(found.ok_or_else(not_found)?).into_response());
    }
    let entry = look(&state, &caller, move |scripts| scripts.get(&wanted)).await?;
    Ok(Tagged(entry.ok_or_else(not_found)?).into_response())
}

/// The nodes whose scripts are asked for; none where this agent's are.
fn whose(query: &mut Query) -> Option<Whose> {
    let whose = Whose { node: query.one("node"), labels: query.labels() };
    (whose.node.is_some() || !whose.labels.is_empty()).then_some(whose)
}

/// Run a script
///
/// Accepts a task as `POST /api/v1/tasks` does; the body is a task spec without `name`, and may be left out. Scope `run`.
#[utoipa::path(
    post, path = "/api/v1/scripts/{name}/run", tag = "scripts", operation_id = "run_script",
    security(("token" = ["run"])), request_body = Option<schema::RunSpec>,
    params(
        ("name" = String, Path, description = "The script's name, percent-encoded."),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: how long to wait for the end, 0 to 300 s.")
    ),
    responses(
        (status = 202, description = "Accepted; `Location` names the task.", body = schema::Task),
        (status = 200, description = "It has ended within the wait, or exists under this id already.", body = schema::Task),
        (status = "4XX", response = Refused), (status = "5XX", response = Refused)
    )
)]
pub(crate) async fn run(
    State(state): State<AppState>,
    caller: Caller,
    name: Segment,
    request: Request,
) -> Answered {
    let wait = Wait::preferred(request.headers());
    let spec = body::optional_json(request, state.body_limit()).await?.unwrap_or_else(|| Map::new().into());
    caller.require(Scope::Run)?;
    let named_in_path = visible(&caller, &name).ok();
    caller.permits(&spec, &tasks::open_variables(&state, named_in_path, &spec).await)?;
    let name = visible(&caller, &name)?;
    // A runner's name has the form of a script's, and would win over it.
    if state.service().runners().get(name.as_str()).is_some() {
        return Err(Refusal::NotFound { name: name.to_string() }.into());
    }
    tasks::accept(&state, &caller, named(spec, &name)?, wait).await
}

/// The spec with the name from the path.
fn named(spec: Value, name: &ScriptName) -> Result<Value, ApiError> {
    match spec {
        Value::Object(fields) if fields.contains_key("name") => {
            let expected = "left out: the path names the script";
            Err(Refusal::invalid("name", "unknown_field", expected).into())
        }
        Value::Object(mut fields) => {
            fields.insert("name".to_owned(), name.as_str().into());
            Ok(fields.into())
        }
        // What is no object is refused as a spec, with the words for that.
        other => Ok(other),
    }
}

fn visible(caller: &Caller, name: &Segment) -> Result<ScriptName, ApiError> {
    let name: ScriptName = name.parsed()?;
    if caller.sees(name.as_str()) {
        Ok(name)
    } else {
        Err(Refusal::NotFound { name: name.to_string() }.into())
    }
}

/// Looks into the scripts folder on a thread that may wait for the disk.
async fn look<T: Send + 'static>(
    state: &AppState,
    caller: &Caller,
    look: impl FnOnce(&Scripts) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, ApiError> {
    let scripts = state.scripts().clone();
    match tokio::task::spawn_blocking(move || look(&scripts)).await {
        Ok(found) => found.map_err(|refusal| ApiError::refused(refusal, caller)),
        Err(error) => {
            tracing::error!(%error, "the scripts folder could not be looked at");
            Err(ApiError::internal())
        }
    }
}

/// Looks at what nodes offer, on a thread that may take its time. 404 where no node is meant.
async fn look_at_nodes<T: Send + 'static>(
    state: &AppState,
    whose: Whose,
    look: impl FnOnce(&Fleet, &Whose) -> Option<T> + Send + 'static,
) -> Result<T, ApiError> {
    let fleet = state.fleet().clone();
    let looked = tokio::task::spawn_blocking(move || {
        look(&fleet, &whose).ok_or_else(|| Refusal::NoNode { target: whose.target() })
    });
    match looked.await {
        Ok(found) => Ok(found?),
        Err(error) => {
            tracing::error!(%error, "the scripts of nodes could not be looked at");
            Err(ApiError::internal())
        }
    }
}
