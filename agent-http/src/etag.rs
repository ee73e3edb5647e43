//! Validators, and the requests that are conditional on them (RFC 9110, sections 8.8.3 and 13): who has an answer already
//! is told so in place of getting it again. A tag is the digest of what it stands for, so that it is a strong one.

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
    IF_RANGE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::json::{self, Json};

/// What an answer without its content does not say of it.
const OF_CONTENT: [HeaderName; 5] =
    [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_ENCODING, CONTENT_DISPOSITION];

/// An answer of status 200 in JSON, with a tag.
#[derive(Debug)]
pub(crate) struct Tagged<T>(pub(crate) T);

/// The tag of these bytes.
pub(crate) fn of(bytes: &[u8]) -> HeaderValue {
    let tag = format!("\"{}\"", hex::encode(Sha256::digest(bytes)));
    HeaderValue::try_from(tag).expect("digits are a header's value")
}

impl<T: Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        match Json(self.0).to_bytes() {
            Ok(json) => ([(ETAG, of(&json))], json::answer(json)).into_response(),
            Err(error) => error.into_response(),
        }
    }
}

/// The layer that answers 304 where the caller has what would be sent. It comes before any range: who has the whole needs
/// no part of it.
pub(crate) async fn unless_known(request: Request, next: Next) -> Response {
    let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
    let known: Vec<HeaderValue> = request.headers().get_all(IF_NONE_MATCH).iter().cloned().collect();
    let mut response = next.run(request).await;
    let has_content = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let is_known = response.headers().get(ETAG).is_some_and(|tag| names(&known, tag));
    if is_reading && has_content && is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        *response.body_mut() = Body::empty();
        OF_CONTENT.iter().for_each(|name| drop(response.headers_mut().remove(name)));
    }
    response
}

/// Whether `If-None-Match` names a tag, weakly compared (section 13.1.2).
fn names(known: &[HeaderValue], tag: &HeaderValue) -> bool {
    let texts = known.iter().filter_map(|value| value.to_str().ok());
    let mut tags = texts.flat_map(|text| text.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one).as_bytes() == tag.as_bytes())
}

/// Whether a range may be given: there is no `If-Range`, or it names this tag, strongly compared (section 13.1.5).
pub(crate) fn permits_range(headers: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    let mut wanted = headers.get_all(IF_RANGE).iter();
    match (wanted.next(), wanted.next()) {
        (None, _) => true,
        (Some(wanted), None) => tag == Some(wanted),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_a_list_whether_it_is_said_to_be_weak_or_not() {
        let tag = of(b"x");
        let text = tag.to_str().unwrap();
        assert!(text.len() == 66 && text.starts_with('"') && text.ends_with('"'), "{text}");
        let names = |text: &str| names(&[HeaderValue::try_from(text).unwrap()], &tag);
        for known in [text.to_owned(), format!("W/{text}"), format!("\"a\" , {text},\"b\""), "*".to_owned()] {
            assert!(names(&known), "{known}");
        }
        for other in ["", "\"a\"", text.trim_matches('"'), "W/", "\"*\""] {
            assert!(!names(other), "{other}");
        }
    }

    #[test]
    fn a_range_is_given_for_the_same_tag_alone() {
        let tag = of(b"x");
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_RANGE, HeaderValue::try_from(*value).unwrap());
            }
            headers
        };
        let text = tag.to_str().unwrap();
        assert!(permits_range(&headers(&[]), None) && permits_range(&headers(&[text]), Some(&tag)));
        let weak = format!("W/{text}");
        for wrong in [&["\"a\""][..], &[&weak], &["Sun, 06 Nov 1994 08:49:37 GMT"], &[text, text]] {
            assert!(!permits_range(&headers(wrong), Some(&tag)), "{wrong:?}");
        }
        assert!(!permits_range(&headers(&[text]), None));
    }
}
