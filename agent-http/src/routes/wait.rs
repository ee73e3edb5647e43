//! How long a caller is willing to wait for the end of a task: `Prefer: wait=N` (RFC 7240, section 4.3).

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use task_service::{Task, TaskId};

use crate::app::AppState;
use crate::error::ApiError;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Longest wait, seconds.
pub(super) const MAX_SECONDS: u64 = 300;

/// A wait that was asked for, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait(u64);

impl Wait {
    /// What the headers ask for. What is no such preference is no mistake: it is not applied.
    pub(super) fn preferred(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        let mut preferences = texts.flat_map(|text| text.split(','));
        let seconds = preferences.find_map(|preference| {
            let (name, value) = preference.split(';').next()?.split_once('=')?;
            let is_wait = name.trim().eq_ignore_ascii_case("wait");
            is_wait.then(|| value.trim().trim_matches('"').parse().ok())?
        });
        seconds.map(Self::seconds)
    }

    /// A wait of so many seconds, or the longest there is.
    pub(super) fn seconds(seconds: u64) -> Self {
        Self(seconds.min(MAX_SECONDS))
    }

    /// Waits for the end of a task, and gives it as it stands then; none when there is no such task.
    pub(super) async fn for_end_of(self, state: &AppState, id: &TaskId) -> Result<Option<Task>, ApiError> {
        let ended = state.service().wait(id);
        match tokio::time::timeout(Duration::from_secs(self.0), ended).await {
            Ok(task) => Ok(task?),
            Err(_) => Ok(state.service().task(id).await?),
        }
    }

    /// Says in an answer that the preference was followed.
    pub(super) fn applied(self, response: &mut Response) {
        let value = HeaderValue::try_from(format!("wait={}", self.0)).expect("digits are a header's value");
        response.headers_mut().insert(PREFERENCE_APPLIED, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preferred_wait_is_found_among_others_and_bounded() {
        let table = [
            ("wait=10", Some(10)),
            ("respond-async, wait=5", Some(5)),
            ("wait = \"7\"; x=y", Some(7)),
            ("WAIT=3", Some(3)),
            ("wait=0", Some(0)),
            ("wait=301", Some(300)),
            ("wait=-1", None),
            ("wait=soon", None),
            ("wait", None),
            ("await=1", None),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(PREFER, HeaderValue::from_static(text))]);
            assert_eq!(Wait::preferred(&headers), expected.map(Wait), "{text}");
        }
    }
}
