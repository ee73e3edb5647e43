//! The service's router and what its handlers share.
//!
//! Every request passes these layers, from the outside in: common headers and counting, Host and Origin (`hosts`), token
//! (`auth`; not for hooks, which are signed), then the routes, whose handlers read the body, ask for the scope, and hand on
//! to the task service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use agent_fleet::controller::Fleet;
use agent_fleet::node::NodeCounts;
use axum::Router;
use axum::extract::{Extension, MatchedPath, Request};
use axum::http::{Method, Uri};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use task_runners::Scripts;
use task_service::{Records, TaskService};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use utoipa::openapi::OpenApi;

use crate::audit::Audit;
use crate::auth;
use crate::etag;
use crate::hooks::Hooks;
use crate::hosts::{self, HostRules};
use crate::metrics::Metrics;
use crate::routes::{Description, LogScans, Turns};
use crate::tls::Tls;
use crate::tokens::Tokens;
use crate::{outermost, routes};

/// Below it a script's name may be written with plain slashes.
const SCRIPTS_PREFIX: &str = "/api/v1/scripts/";

/// What the handlers share. Clones are handles of the same state.
#[derive(Debug, Clone)]
pub(crate) struct AppState(Arc<Shared>);

/// Who is let in: what can change while the service runs.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) tokens: Tokens,
    pub(crate) hosts: HostRules,
}

/// See [`AppState`].
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: TaskService,
    pub(crate) scripts: Arc<Scripts>,
    pub(crate) fleet: Fleet,
    /// What is counted of this agent as a node, where it is one.
    pub(crate) node: Option<NodeCounts>,
    pub(crate) records: Records,
    pub(crate) access: watch::Sender<Arc<Access>>,
    pub(crate) hooks: RwLock<Arc<Hooks>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Audit,
    pub(crate) tls: Option<Arc<Tls>>,
    /// Largest body of a request, bytes.
    pub(crate) body_limit: u64,
    pub(crate) public_metrics: bool,
    pub(crate) is_draining: AtomicBool,
    /// Bytes of bodies of which it is not known yet who sent them.
    pub(crate) unproven: Arc<Semaphore>,
    /// Places for reproduction scripts that are made and sent.
    pub(crate) debug_scripts: Arc<Semaphore>,
    /// Places for looks through whole logs.
    pub(crate) log_scans: LogScans,
    /// Whose tokens have a bound on their tasks submit one after the other.
    pub(crate) turns: Turns,
}

impl AppState {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    pub(crate) fn service(&self) -> &TaskService {
        &self.0.service
    }

    pub(crate) fn scripts(&self) -> &Arc<Scripts> {
        &self.0.scripts
    }

    /// The nodes.
    pub(crate) fn fleet(&self) -> &Fleet {
        &self.0.fleet
    }

    /// What is counted of this agent as a node, where it is one.
    pub(crate) fn node(&self) -> Option<&NodeCounts> {
        self.0.node.as_ref()
    }

    pub(crate) fn records(&self) -> &Records {
        &self.0.records
    }

    /// Who is let in, as it stands now.
    pub(crate) fn access(&self) -> Arc<Access> {
        self.0.access.borrow().clone()
    }

    /// Follows who is let in: the first look shows how it stands.
    pub(crate) fn follow_access(&self) -> watch::Receiver<Arc<Access>> {
        self.0.access.subscribe()
    }

    /// Changes who is let in, from the next request on; answers under way look whether they may go on.
    pub(crate) fn set_access(&self, access: Access) {
        self.0.access.send_replace(Arc::new(access));
    }

    /// The hooks that there are now.
    pub(crate) fn hooks(&self) -> Arc<Hooks> {
        self.0.hooks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes which hooks there are, from the next request on.
    pub(crate) fn set_hooks(&self, hooks: Arc<Hooks>) {
        *self.0.hooks.write().unwrap_or_else(PoisonError::into_inner) = hooks;
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// What the service speaks TLS with, if it does.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.0.tls.as_ref()
    }

    pub(crate) fn body_limit(&self) -> u64 {
        self.0.body_limit
    }

    pub(crate) fn has_public_metrics(&self) -> bool {
        self.0.public_metrics
    }

    pub(crate) fn unproven(&self) -> &Arc<Semaphore> {
        &self.0.unproven
    }

    pub(crate) fn debug_scripts(&self) -> &Arc<Semaphore> {
        &self.0.debug_scripts
    }

    pub(crate) fn log_scans(&self) -> &LogScans {
        &self.0.log_scans
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// Whether the service was told to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    pub(crate) fn start_draining(&self) {
        self.0.is_draining.store(true, Ordering::Relaxed);
    }
}

/// The whole service.
pub(crate) fn app(state: AppState) -> Router {
    let (routes, document) = routes::all().split_for_parts();
    let routes = with_layers(routes, &document).with_state(state.clone());
    // A router sees the path as it was when the router was entered: it is rewritten in front of it. This one has no route.
    Router::new()
        .fallback_service(routes.map_request(with_one_segment))
        .layer(from_fn_with_state(state.clone(), auth::authenticate))
        .layer(from_fn_with_state(state.clone(), hosts::check))
        .layer(from_fn(outermost::unless_panics))
        .layer(from_fn_with_state(state, outermost::complete))
}

/// What belongs to every route, and what is answered where there is none.
fn with_layers(routes: Router<AppState>, document: &OpenApi) -> Router<AppState> {
    routes
        .route_layer(Extension(Arc::new(Description::new(document))))
        .route_layer(from_fn(etag::unless_known))
        .route_layer(from_fn(note_route))
        .fallback(routes::no_route)
        .method_not_allowed_fallback(routes::wrong_method)
}

/// Makes the plain slashes of a script's name into one percent-encoded segment, which is what the routes know.
fn with_one_segment(mut request: Request) -> Request {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return request;
    }
    let uri = request.uri();
    let Some(name) = uri.path().strip_prefix(SCRIPTS_PREFIX).filter(|name| name.contains('/')) else {
        return request;
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{SCRIPTS_PREFIX}{}{query}", name.replace('/', "%2F"));
    if let Ok(rewritten) = path.parse::<Uri>() {
        *request.uri_mut() = rewritten;
    }
    request
}

/// Leaves in the answer which route gave it, for whoever counts.
async fn note_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use axum::routing::{delete, get};

    use super::*;

    /// The methods of each path.
    type Operations = BTreeMap<String, BTreeSet<String>>;

    /// What a router serves. It tells that in its debug form alone: by a number the path, and by the same one the methods.
    fn served(router: &Router<AppState>) -> Operations {
        let text = format!("{router:?}");
        // The router of what is answered where there is no route has numbers of its own.
        let text = text.split(", fallback_router: ").next().unwrap();
        let (mut paths, mut methods) = (BTreeMap::new(), BTreeMap::new());
        for (number, rest) in text.split("RouteId(").filter_map(|part| part.split_once("): ")) {
            if let Some((path, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                paths.insert(number, path);
            } else if let Some((_, rest)) = rest.split_once("allow_header: Bytes(b\"") {
                methods.insert(number, rest.split('"').next().unwrap());
            }
        }
        let all = methods.into_iter().map(|(number, methods)| {
            let methods = methods.split(',').map(str::to_lowercase).filter(|method| method != "head");
            (paths[number].to_owned(), methods.collect())
        });
        all.collect()
    }

    fn described(document: &OpenApi) -> Operations {
        let document = serde_json::to_value(document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        paths
            .iter()
            .map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().cloned().collect()))
            .collect()
    }

    #[test]
    fn every_route_is_described_and_one_that_is_added_besides_is_noticed() {
        let (routes, document) = routes::all().split_for_parts();
        let described = described(&document);
        assert!(described.len() > 20 && described.contains_key("/openapi.json"), "{described:?}");
        assert_eq!(served(&with_layers(routes.clone(), &document)), described);
        for besides in [
            routes.clone().route("/besides", get(|| async {})),
            routes.clone().route("/api/v1/tasks", delete(|| async {})),
            routes.merge(Router::new().route("/api/v1/besides/{id}", get(|| async {}))),
        ] {
            assert_ne!(served(&with_layers(besides, &document)), described);
        }
    }
}
