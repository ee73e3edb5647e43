//! Whose certificates are trusted over https://, which one is presented, and what is said when that fails.

use std::fs;
use std::io;
use std::path::Path;

use rustls::{AlertDescription as Alert, CertificateError, Error as TlsError, InvalidMessage};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::args::Trust;
use crate::failure::Failure;

/// What TLS is spoken with. The CAs of the web are trusted, or those of `--ca` in their place.
pub(crate) fn config(trust: &Trust) -> Result<TlsConfig, Failure> {
    let mut config = TlsConfig::builder();
    if let Some(file) = &trust.ca {
        config = config.root_certs(RootCerts::new_with_certs(&read(file)?.certificates(file)?));
    }
    if let (Some(cert), Some(key)) = (&trust.cert, &trust.key) {
        let chain = read(cert)?.certificates(cert)?;
        let key = read(key)?.key.ok_or_else(|| {
            let expected = "expected one in PEM, without a passphrase";
            Failure::new(format!("there is no private key in {}: {expected}", key.display()))
        })?;
        config = config.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
    }
    Ok(config.build())
}

/// What may help where a connection failed for want of trust.
pub(crate) fn hint(error: &ureq::Error) -> Option<&'static str> {
    Some(match tls_error(error)? {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "nobody who is trusted signed the service's certificate; name its CA with --ca FILE"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the service's certificate has expired; its host needs a new one"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the service's certificate is not valid yet; are the clocks right?"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the service's certificate is for other names; call it by one of those with --server"
            }
            _ => "the service's certificate cannot be trusted",
        },
        TlsError::AlertReceived(
            Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::DecryptError
            | Alert::UnknownCA,
        ) => {
            "the service does not accept the certificate of --cert: has it expired, or did another CA sign it?"
        }
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "what answers there does not speak TLS; is it the right port, or is it called by http://?"
        }
        _ => return None,
    })
}

fn tls_error(error: &ureq::Error) -> Option<&TlsError> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// What a file in PEM holds.
struct Pem {
    certificates: Vec<Certificate<'static>>,
    key: Option<PrivateKey<'static>>,
}

impl Pem {
    fn certificates(self, file: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
        match self.certificates.is_empty() {
            true => Err(Failure::new(format!("there is no certificate in {}: expected PEM", file.display()))),
            false => Ok(self.certificates),
        }
    }
}

fn read(file: &Path) -> Result<Pem, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read the certificate or key in {}: {why}", file.display()))
    };
    let bytes: Result<Vec<u8>, io::Error> = fs::read(file);
    let mut pem = Pem { certificates: Vec::new(), key: None };
    for item in parse_pem(&bytes.map_err(|error| failed(&error))?) {
        match item.map_err(|error| failed(&error))? {
            PemItem::Certificate(certificate) => pem.certificates.push(certificate),
            PemItem::PrivateKey(key) => pem.key = Some(key),
            _ => {}
        }
    }
    Ok(pem)
}
