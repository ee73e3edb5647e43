//! The tokens that are accepted, and what a request shows of who calls: a token, the certificate of its connection, or the
//! user at the other end of the Unix socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_config::{Token, TokenDigest};
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;
use crate::peer::{self, Peer, PeerError};
use crate::rate::Rate;
use crate::tls::ClientCertificate;

/// The tokens that are accepted.
#[derive(Debug)]
pub(crate) struct Tokens {
    all: Vec<Arc<Known>>,
    /// By digest: there may be one for each of thousands of nodes.
    by_digest: HashMap<[u8; 32], Arc<Known>>,
}

/// A token that is accepted, and how often it has called.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) token: Token,
    /// Users who prove to be this caller.
    uids: Vec<u32>,
    rate: Option<Arc<Rate>>,
}

/// What a request shows of who calls. It is looked up among the tokens of the time, then and later.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof {
    /// The digest of a token that was sent.
    Token(TokenDigest),
    /// The certificate of its connection.
    Certificate(ClientCertificate),
    /// The user at the other end of its connection.
    User(u32),
}

impl Proof {
    /// The token that the request sends, and only without one what its connection shows: a certificate, or a user.
    ///
    /// # Errors
    /// 401 when there is none of these, or the header is none that carries a token.
    pub(crate) fn of(request: &Request) -> Result<Self, ApiError> {
        if let Some(token) = sent(request.headers())? {
            return Ok(Self::Token(TokenDigest::of_token(token)));
        }
        let connection = request.extensions();
        match (connection.get::<ClientCertificate>(), connection.get::<Peer>()) {
            (Some(certificate), _) => Ok(Self::Certificate(*certificate)),
            (None, Some(Peer::User(user))) => Ok(Self::User(user.uid)),
            (None, _) => Err(no_token()),
        }
    }

    /// When it ends by itself, if it does.
    fn expires(&self) -> Option<Timestamp> {
        match self {
            Self::Token(_) | Self::User(_) => None,
            Self::Certificate(certificate) => Some(certificate.expires),
        }
    }
}

impl Tokens {
    /// Those of the settings. Looking up the users that they list may take its time.
    ///
    /// # Errors
    /// When users that they list cannot be let in.
    pub(crate) fn new(tokens: Vec<Token>) -> Result<Self, PeerError> {
        let listed = peer::listed_by_all(&tokens)?;
        let known = tokens.into_iter().zip(listed).map(|(token, users)| {
            users.warn(&token.name);
            Arc::new(Known::new(token, users.uids))
        });
        Ok(Self::of(known.collect()))
    }

    fn of(all: Vec<Arc<Known>>) -> Self {
        let digest = |known: &Arc<Known>| Some((*known.token.sha256?.as_bytes(), known.clone()));
        let by_digest = all.iter().filter_map(digest).collect();
        Self { all, by_digest }
    }

    /// The same, where each that may call as often as before goes on from the calls that it has made.
    pub(crate) fn after(self, before: &Self) -> Self {
        let old: HashMap<_, _> = before.all.iter().map(|old| (&old.token.name, old)).collect();
        let known = self.all.into_iter().map(|known| {
            let (token, uids) = (known.token.clone(), known.uids.clone());
            let same =
                old.get(&token.name).filter(|old| old.token.requests_per_minute == token.requests_per_minute);
            let rate = same.map_or_else(|| known.rate.clone(), |old| old.rate.clone());
            Arc::new(Known { token, uids, rate })
        });
        Self::of(known.collect())
    }

    /// Whom a proof names, whether that is accepted still or not.
    ///
    /// # Errors
    /// 401 when it names nobody.
    pub(crate) fn named_by(&self, proof: &Proof) -> Result<Arc<Known>, ApiError> {
        match proof {
            Proof::Token(digest) => self.find(digest).ok_or_else(|| {
                unauthorized("token_invalid", "the token is not known; `agent-cli token create` makes one")
            }),
            Proof::Certificate(certificate) => self.of_certificate(certificate),
            Proof::User(uid) => {
                let is_listed = |known: &&Arc<Known>| known.uids.contains(uid);
                self.all.iter().find(is_listed).cloned().ok_or_else(|| {
                    let detail = format!(
                        "this needs a token: send `Authorization: Bearer <token>`, or have the user {uid} listed in \
                         peer_uids of a [[auth.token]]"
                    );
                    unauthorized("token_missing", &detail)
                })
            }
        }
    }

    /// Certificates are no secret, so that nothing is told by the time that this takes.
    fn of_certificate(&self, certificate: &ClientCertificate) -> Result<Arc<Known>, ApiError> {
        let ClientCertificate { digest, expires } = certificate;
        // It was valid when the connection began.
        if *expires <= Timestamp::now() {
            let detail = format!("the certificate that you presented expired at {expires}");
            return Err(unauthorized("certificate_expired", &detail));
        }
        let is_named = |known: &&Arc<Known>| known.token.certificate_sha256 == Some(*digest);
        self.all.iter().find(is_named).cloned().ok_or_else(|| {
            let detail = "no [[auth.token]] names the certificate that you presented; add its certificate_sha256 \
                there, or send a token";
            unauthorized("certificate_unknown", detail)
        })
    }

    /// Looks a digest up in a table whose order depends on random keys of this process (SipHash), and compares the one that
    /// is found in constant time. What time the look-up itself takes could only tell of digests, from which no token follows.
    fn find(&self, digest: &TokenDigest) -> Option<Arc<Known>> {
        let known = self.by_digest.get(digest.as_bytes())?;
        let is_same: Choice = known.token.sha256?.as_bytes().ct_eq(digest.as_bytes());
        bool::from(is_same).then(|| known.clone())
    }
}

impl Known {
    pub(crate) fn new(token: Token, uids: Vec<u32>) -> Self {
        let rate = token.requests_per_minute.map(|calls| Arc::new(Rate::per_minute(calls, Instant::now())));
        Self { token, uids, rate }
    }

    /// Until when it is accepted by that proof, if not for ever.
    ///
    /// # Errors
    /// 401 when that is over.
    pub(crate) fn valid_until(&self, proof: &Proof) -> Result<Option<Timestamp>, ApiError> {
        match self.token.expires.filter(|&expires| expires <= Timestamp::now()) {
            Some(expires) => Err(unauthorized(
                "token_expired",
                &format!("the token expired at {expires}; `agent-cli token create` makes another"),
            )),
            None => Ok(self.token.expires.into_iter().chain(proof.expires()).min()),
        }
    }

    /// Counts a call.
    ///
    /// # Errors
    /// 429 when it has called too often.
    pub(crate) fn take_call(&self) -> Result<(), ApiError> {
        let Some(rate) = &self.rate else { return Ok(()) };
        rate.take(Instant::now()).map_err(|wait| too_often(&self.token, wait))
    }
}

/// The token in the one `Authorization` header (RFC 6750, section 2.1), if there is one.
fn sent(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let malformed = || unauthorized("token_invalid", "send one header `Authorization: Bearer <token>`");
    if values.next().is_some() {
        return Err(malformed());
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(Some(token))
    } else {
        Err(malformed())
    }
}

fn too_often(token: &Token, wait: Duration) -> ApiError {
    // Whole seconds (RFC 9110, section 10.2.3), and not too early.
    let seconds = wait.as_secs() + 1;
    let detail = format!("the token '{}' has called too often; try again in {seconds} s", token.name);
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail)
        .with_header(RETRY_AFTER, seconds.into())
}

pub(crate) fn no_token() -> ApiError {
    unauthorized("token_missing", "this needs a token: send `Authorization: Bearer <token>`")
}

fn unauthorized(code: &'static str, detail: &str) -> ApiError {
    let challenge = match code {
        "token_missing" | "certificate_unknown" | "certificate_expired" => "Bearer realm=\"devops-agent\"",
        _ => "Bearer realm=\"devops-agent\", error=\"invalid_token\"",
    };
    ApiError::new(StatusCode::UNAUTHORIZED, code, detail)
        .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}
