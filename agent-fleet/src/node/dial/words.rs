//! Why TLS came to nothing, in words that name what would be right.

use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error};

use super::Place;

/// Of a handshake that failed.
pub(super) fn of_tls(error: &io::Error, place: &Place) -> String {
    match rustls_error(error) {
        Some(Error::InvalidCertificate(why)) => of_certificate(why, place),
        Some(Error::InvalidMessage(_)) => {
            format!("{place} does not speak TLS; expected the address of an API server with a section [tls]")
        }
        _ => of_io(error),
    }
}

/// Of a connection that broke. A server may say only behind the handshake that it does not like the node's certificate.
pub(super) fn of_io(error: &io::Error) -> String {
    match rustls_error(error) {
        Some(Error::AlertReceived(alert)) => format!(
            "the API server ended the connection ({alert:?}); expected, where node.certificate is given, one that is \
             valid now and that a CA of its tls.client_ca has signed"
        ),
        _ => format!("the connection broke before both ends knew each other: {error}"),
    }
}

fn of_certificate(why: &CertificateError, place: &Place) -> String {
    let host = &place.host;
    match why {
        // A CA of the same name has another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {host} is signed by no CA of node.ca; expected the CA that signed it in that file"
        ),
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the certificate of {host} is not for that name, but for {}; expected one of these in node.api_server, or a \
             certificate for {host}",
            named(presented)
        ),
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "the certificate of {host} expired at {}; expected one that is valid now, or the right time on this host",
            timestamp(*not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "the certificate of {host} is valid from {} on; expected one that is valid now, or the right time on this host",
            timestamp(*not_before)
        ),
        other => format!("the certificate of {host} is not accepted: {other}"),
    }
}

/// The names of a certificate without the type that they are written with: `DnsName("x")`.
fn named(presented: &[String]) -> String {
    let bare = |name: &String| match name.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
        None => name.clone(),
    };
    match presented {
        [] => "no name at all".to_owned(),
        names => names.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}
