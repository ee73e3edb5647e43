//! Answers in JSON, with a line end behind them: they are read on terminals too.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::error::ApiError;

/// An answer of status 200 in JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> Json<T> {
    /// What is sent.
    ///
    /// # Errors
    /// 500 where it cannot be written as JSON.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, ApiError> {
        let mut json = serde_json::to_vec(&self.0).map_err(|error| {
            tracing::error!(%error, "an answer could not be written as JSON");
            ApiError::internal()
        })?;
        json.push(b'\n');
        Ok(json)
    }
}

/// The answer with these bytes of JSON.
pub(crate) fn answer(json: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        self.to_bytes().map(answer).into_response()
    }
}
