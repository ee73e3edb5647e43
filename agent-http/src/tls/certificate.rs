//! What a certificate says of itself.

use std::time::Duration;

use agent_config::TokenDigest;
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// What is known of a certificate.
#[derive(Debug)]
pub(super) struct About {
    /// Its DNS names without those that have a `*`.
    pub(super) names: Vec<String>,
    pub(super) expires: Timestamp,
    begins: Option<Timestamp>,
}

/// The certificate that a caller has presented and proven to be its own, signed by a CA that is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientCertificate {
    pub(crate) digest: TokenDigest,
    /// It was valid when the connection began, which may be long ago.
    pub(crate) expires: Timestamp,
}

impl About {
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = EndEntityCert::try_from(der).map_err(|error| match error {
            Error::UnsupportedCertVersion => {
                "it is a certificate of version 1; expected version 3, with a subjectAltName".to_owned()
            }
            error => format!("it is no certificate of a service: {error:?}"),
        })?;
        let names = certificate.valid_dns_names().filter(|name| !name.contains('*'));
        let names = names.map(str::to_ascii_lowercase).collect();
        // Nobody tells the two times of a certificate but whoever finds it too old or too young.
        let (begins, expires) = match (judged_at(&certificate, 0), judged_at(&certificate, u64::MAX)) {
            (first, Some(Error::CertExpired { not_after, .. })) => {
                let begins = match first {
                    Some(Error::CertNotValidYet { not_before, .. }) => Some(timestamp(not_before)),
                    _ => None,
                };
                (begins, timestamp(not_after))
            }
            (first, _) => return Err(format!("its times make no sense: {first:?}")),
        };
        Ok(Self { names, expires, begins })
    }

    /// Says what is wrong when it is not valid at that time.
    pub(super) fn valid_at(&self, now: Timestamp) -> Result<(), String> {
        if self.expires < now {
            return Err(format!(
                "the certificate expired at {}; expected one that is valid now",
                self.expires
            ));
        }
        match self.begins {
            Some(begins) if begins > now => {
                Err(format!("the certificate is valid from {begins} on; expected one that is valid now"))
            }
            _ => Ok(()),
        }
    }
}

impl ClientCertificate {
    /// Of a certificate that was verified.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Result<Self, String> {
        let About { expires, .. } = About::read(der)?;
        Ok(Self { digest: TokenDigest::of_certificate(der), expires })
    }
}

/// What is wrong with a certificate at that time. Its times are looked at before anything else.
fn judged_at(certificate: &EndEntityCert<'_>, seconds: u64) -> Option<Error> {
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let usage = KeyUsage::server_auth();
    certificate.verify_for_usage(&[], &[], &[], time, usage, None, None).err()
}

/// The last second of the year 9999, which says that there is no end, is more than a timestamp can hold.
fn timestamp(time: UnixTime) -> Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
