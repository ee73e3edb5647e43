//! How a request proves that it is signed, by the scheme of its hook, and what it says of itself: facts of the schemes'
//! public descriptions.

use agent_config::HookScheme;
use axum::http::HeaderMap;
use ct_codecs::{Base64, Decoder};
use jiff::{SignedDuration, Timestamp};
use ring::hmac::Tag;
use subtle::{Choice, ConstantTimeEq};

use super::secrets::{Secret, Secrets};

/// An HMAC-SHA256.
type Signature = [u8; 32];

const GITHUB_SIGNATURE: &str = "x-hub-signature-256";
const GITHUB_DELIVERY: &str = "x-github-delivery";
const GITHUB_EVENT: &str = "x-github-event";
const GITLAB_TOKEN: &str = "x-gitlab-token";
/// Since GitLab 17.4. The other one is the same for all events that follow from one another.
const GITLAB_DELIVERY: &str = "idempotency-key";
const GITLAB_EVENT_UUID: &str = "x-gitlab-event-uuid";
const STANDARD_ID: &str = "webhook-id";
const STANDARD_TIME: &str = "webhook-timestamp";
const STANDARD_SIGNATURE: &str = "webhook-signature";
/// Longest header that is read, bytes. What is longer is none of a sender's, and would take time that tells of the scheme.
const MOST_BYTES: usize = 1024;
/// How far the time of a request may be from now: what its recording is worth.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// What a request says of itself. It is believed once its signature was found right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// By what its sender calls it, the same each time that it is sent.
    pub(crate) id: Option<String>,
    /// Whether it is of this time, as far as the scheme tells.
    pub(crate) is_fresh: bool,
    /// Whether it only asks whether somebody is there.
    pub(crate) is_ping: bool,
}

/// What a request shows to prove that it is signed.
#[derive(Debug, Default)]
struct Claim {
    /// What is signed before the body.
    prefix: Vec<u8>,
    signatures: Vec<Signature>,
    /// The digest of a secret that was sent as it is.
    token: Option<[u8; 32]>,
}

/// Whether a request is signed with one of these secrets. All that is compared takes the same time wherever it differs; and
/// the body is signed with both secrets whatever the request shows and the scheme is, so that time tells neither which of
/// them there are nor whether there is a hook.
pub(super) fn is_signed(scheme: HookScheme, secrets: &Secrets, headers: &HeaderMap, body: &[u8]) -> bool {
    let claim = Claim::of(scheme, headers);
    let proven = secrets.iter().fold(Choice::from(0), |proven, secret| {
        let tag = secret.tag(&claim.prefix, body);
        proven | claim.is_proven(secret, &tag)
    });
    proven.into()
}

impl Claim {
    fn of(scheme: HookScheme, headers: &HeaderMap) -> Self {
        match scheme {
            HookScheme::GitHub => Self {
                signatures: single(headers, GITHUB_SIGNATURE)
                    .and_then(github_signature)
                    .into_iter()
                    .collect(),
                ..Self::default()
            },
            HookScheme::GitLab => {
                let token = single(headers, GITLAB_TOKEN).map(agent_config::TokenDigest::of_token);
                Self { token: token.map(|digest| *digest.as_bytes()), ..Self::default() }
            }
            HookScheme::Standard => Self::standard(headers).unwrap_or_default(),
        }
    }

    fn standard(headers: &HeaderMap) -> Option<Self> {
        let [id, time, signatures] =
            [STANDARD_ID, STANDARD_TIME, STANDARD_SIGNATURE].map(|name| single(headers, name));
        let prefix = format!("{}.{}.", id?, time?).into_bytes();
        Some(Self { prefix, signatures: standard_signatures(signatures?), token: None })
    }

    /// Whether one of the signatures is that tag, or the token is that secret.
    fn is_proven(&self, secret: &Secret, tag: &Tag) -> Choice {
        let is_same = |signature: &Signature| signature.as_slice().ct_eq(tag.as_ref());
        let signed = self.signatures.iter().fold(Choice::from(0), |found, one| found | is_same(one));
        let sent = self.token.map_or(Choice::from(0), |token| token.ct_eq(secret.digest()));
        signed | sent
    }
}

/// `sha256=` and 64 hexadecimal digits.
fn github_signature(text: &str) -> Option<Signature> {
    let mut signature = [0; 32];
    hex::decode_to_slice(text.strip_prefix("sha256=")?, &mut signature).ok()?;
    Some(signature)
}

/// Those of version 1 among signatures with blanks between: `v1,` and base64. Others are of schemes that are not known here.
fn standard_signatures(text: &str) -> Vec<Signature> {
    let of_version_1 = |part: &str| {
        let mut signature = [0; 32];
        let decoded = Base64::decode(&mut signature, part.strip_prefix("v1,")?, None).ok()?;
        (decoded.len() == signature.len()).then_some(())?;
        Some(signature)
    };
    text.split(' ').filter_map(of_version_1).collect()
}

impl Delivery {
    /// What a request of that scheme says, at a time.
    pub(crate) fn of(scheme: HookScheme, headers: &HeaderMap, now: Timestamp) -> Self {
        let text = |name| single(headers, name).map(str::to_owned);
        let (id, is_fresh) = match scheme {
            HookScheme::GitHub => (text(GITHUB_DELIVERY), true),
            HookScheme::GitLab => (text(GITLAB_DELIVERY).or_else(|| text(GITLAB_EVENT_UUID)), true),
            HookScheme::Standard => {
                let sent = single(headers, STANDARD_TIME).and_then(seconds);
                (text(STANDARD_ID), sent.is_some_and(|sent| now.duration_since(sent).abs() <= TOLERANCE))
            }
        };
        let is_ping = scheme == HookScheme::GitHub && single(headers, GITHUB_EVENT) == Some("ping");
        Self { id: id.filter(|id| !id.is_empty()), is_fresh, is_ping }
    }
}

/// Seconds since 1970, in digits alone.
fn seconds(text: &str) -> Option<Timestamp> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    Timestamp::from_second(text.parse().ok().filter(|_| is_number)?).ok()
}

/// The text of a header that is there once, since of two nobody can say which was meant, and is not too long.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    let text = values.next().is_none().then_some(value)?.to_str().ok()?;
    (text.len() <= MOST_BYTES).then_some(text)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use ct_codecs::Encoder;
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_time_is_fresh_for_five_minutes_to_both_sides_and_in_digits_only() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let is_fresh =
            |time: &str| Delivery::of(HookScheme::Standard, &headers(&[(STANDARD_TIME, time)]), now).is_fresh;
        for time in ["1700000000", "1699999700", "1700000300"] {
            assert!(is_fresh(time), "{time}");
        }
        for time in [
            "1699999699",
            "1700000301",
            "",
            "-1700000000",
            "+1700000000",
            "1700000000.5",
            "now",
            "99999999999999999999",
            "9999999999999",
        ] {
            assert!(!is_fresh(time), "{time}");
        }
        assert!(!Delivery::of(HookScheme::Standard, &HeaderMap::new(), now).is_fresh);
    }

    #[test]
    fn what_a_delivery_is_called_is_in_the_header_of_its_scheme_once() {
        let now = Timestamp::UNIX_EPOCH;
        let id = |scheme, pairs: &[(&str, &str)]| Delivery::of(scheme, &headers(pairs), now).id;
        assert_eq!(id(HookScheme::GitHub, &[(GITHUB_DELIVERY, "a")]).as_deref(), Some("a"));
        assert_eq!(id(HookScheme::GitLab, &[(GITLAB_EVENT_UUID, "a")]).as_deref(), Some("a"));
        let both = [(GITLAB_EVENT_UUID, "a"), (GITLAB_DELIVERY, "b")];
        assert_eq!(id(HookScheme::GitLab, &both).as_deref(), Some("b"));
        assert_eq!(id(HookScheme::Standard, &[(STANDARD_ID, "msg_1")]).as_deref(), Some("msg_1"));
        assert_eq!(id(HookScheme::GitHub, &[(GITHUB_DELIVERY, "")]), None);
        assert_eq!(id(HookScheme::GitHub, &[(STANDARD_ID, "a")]), None);
        let mut twice = headers(&[(GITHUB_DELIVERY, "a")]);
        twice.append(GITHUB_DELIVERY, HeaderValue::from_static("b"));
        assert_eq!(Delivery::of(HookScheme::GitHub, &twice, now).id, None);
        let ping = headers(&[(GITHUB_EVENT, "ping")]);
        assert!(Delivery::of(HookScheme::GitHub, &ping, now).is_ping);
        assert!(!Delivery::of(HookScheme::GitLab, &ping, now).is_ping);
    }

    fn base64(bytes: &[u8]) -> String {
        Base64::encode_to_string(bytes).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_signature_is_read_as_it_was_written(signature: [u8; 32]) {
            let text = format!("sha256={}", hex::encode(signature));
            prop_assert_eq!(github_signature(&text), Some(signature));
            // One character less or more is none.
            prop_assert_eq!(github_signature(&text[..text.len() - 1]), None);
            let longer = format!("{text}0");
            prop_assert_eq!(github_signature(&longer), None);
        }

        #[test]
        fn the_signatures_of_version_1_are_found_among_others(
            parts in prop::collection::vec((any::<[u8; 32]>(), any::<bool>(), "[a-z0-9]{0,4}"), 0..6)
        ) {
            let written = parts.iter().map(|(bytes, is_known, other)| {
                let version = if *is_known { "v1" } else { &format!("x{other}") };
                format!("{version},{}", base64(bytes))
            });
            let text = written.collect::<Vec<_>>().join(" ");
            let known: Vec<_> = parts.iter().filter(|(_, is_known, _)| *is_known).map(|part| part.0).collect();
            prop_assert_eq!(standard_signatures(&text), known);
        }

        #[test]
        fn whatever_is_written_there_is_an_answer(text in any::<String>(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            github_signature(&text);
            standard_signatures(&text);
            seconds(&text);
            // What is too short or too long is no signature.
            let encoded = format!("v1,{}", base64(&bytes));
            prop_assert_eq!(standard_signatures(&encoded).len(), usize::from(bytes.len() == 32));
        }
    }
}
