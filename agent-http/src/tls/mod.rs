//! TLS: the service's certificate and key, the CAs of callers' certificates, and their exchange while the service runs; and
//! what a node speaks it with.
//!
//! | module | what it holds |
//! |---|---|
//! | `files` | reading them, and who else may read the key |
//! | `certificate` | what a certificate says: its names, its end, its digest |
//! | `client` | TLS of a node |

mod certificate;
mod client;
mod files;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConnection};
use tokio_rustls::{Accept, TlsAcceptor};

use certificate::About;
pub(crate) use certificate::ClientCertificate;
pub(crate) use client::of_node;
pub(crate) use files::secret;
use files::{CERTIFICATE, CLIENT_CA, KEY, certificates};

/// How long before the end of its certificate the service begins to say so.
const SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// Most bytes that wait in a connection to be encrypted and sent.
const MAX_BUFFERED_BYTES: usize = 16 << 10;

/// What the service speaks TLS with. It can be read again while the service runs.
#[derive(Debug)]
pub struct Tls {
    settings: agent_config::Tls,
    current: RwLock<Arc<Current>>,
}

/// What was read.
struct Current {
    config: Arc<ServerConfig>,
    /// What it was made of, to see whether files say something else.
    chain: Vec<CertificateDer<'static>>,
    client_ca: Vec<CertificateDer<'static>>,
    /// The certificate's DNS names without those that have a `*`; in small letters.
    names: Vec<String>,
    expires: Timestamp,
}

/// Why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {}: {problem}", .path.display())]
pub struct TlsError {
    /// The setting that names the file.
    key: &'static str,
    path: PathBuf,
    /// What is wrong, and what would be right.
    problem: String,
}

impl Tls {
    /// Reads the files that the settings name; none when they name no certificate.
    ///
    /// # Errors
    /// When a file cannot be read or used, others may read the key, the key is not the certificate's, or the certificate
    /// is not valid now.
    pub fn open(settings: &agent_config::Tls) -> Result<Option<Arc<Self>>, TlsError> {
        let Some(current) = Current::read(settings)? else { return Ok(None) };
        Ok(Some(Arc::new(Self { settings: settings.clone(), current: RwLock::new(Arc::new(current)) })))
    }

    /// Reads the files again and uses them for new connections. Says whether they are others than before.
    ///
    /// # Errors
    /// As [`Tls::open`]; what was read before stays in use then.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some(new) = Current::read(&self.settings)? else { return Ok(false) };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = new.chain != current.chain || new.client_ca != current.client_ca;
        if is_other {
            *current = Arc::new(new);
        }
        Ok(is_other)
    }

    /// The files that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let agent_config::Tls { certificate, key, client_ca } = &self.settings;
        [certificate, key, client_ca].into_iter().flatten().map(PathBuf::as_path)
    }

    /// When the certificate expires.
    pub fn expires(&self) -> Timestamp {
        self.current().expires
    }

    /// When the certificate expires, where that is within two weeks.
    pub fn expires_soon(&self) -> Option<Timestamp> {
        Some(self.expires()).filter(|expires| expires.duration_since(Timestamp::now()) < soon())
    }

    /// Whether the certificate has that name, as it is; in whatever letters.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.current().names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// Begins to speak TLS over a connection.
    pub(crate) fn accept<S>(&self, stream: S) -> Accept<S>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let bounded = |connection: &mut ServerConnection| {
            connection.set_buffer_limit(Some(MAX_BUFFERED_BYTES));
        };
        TlsAcceptor::from(self.current().config.clone()).accept_with(stream, bounded)
    }

    fn current(&self) -> Arc<Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Current {
    fn read(settings: &agent_config::Tls) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.certificate, &settings.key) else {
            return Ok(None);
        };
        let wrong = |problem: String| TlsError { key: CERTIFICATE, path: certificate.clone(), problem };
        let (chain, about) = valid_chain(CERTIFICATE, certificate)?;
        let private = files::private_key(KEY, key)?;
        let client_ca = match &settings.client_ca {
            Some(path) => certificates(CLIENT_CA, path)?,
            None => Vec::new(),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| wrong(format!("cannot be used: {error}")))?;
        let builder = match &settings.client_ca {
            Some(path) => builder.with_client_cert_verifier(verifier(path, &client_ca)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain.clone(), private).map_err(|error| TlsError {
            key: KEY,
            path: key.clone(),
            problem: files::unusable_key(&error, certificate),
        })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Nothing is kept for callers that come again: each handshake checks certificates anew, and no key of tickets
        // outlives a session.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let About { names, expires, .. } = about;
        Ok(Some(Self { config: Arc::new(config), chain, client_ca, names, expires }))
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { names, expires, .. } = self;
        f.debug_struct("Current").field("names", names).field("expires", expires).finish_non_exhaustive()
    }
}

/// The certificates in a file, and what the first one says: it is valid now.
fn valid_chain(key: &'static str, path: &Path) -> Result<(Vec<CertificateDer<'static>>, About), TlsError> {
    let wrong = |problem: String| TlsError { key, path: path.to_path_buf(), problem };
    let chain = certificates(key, path)?;
    let about = About::read(&chain[0]).map_err(wrong)?;
    about.valid_at(Timestamp::now()).map_err(wrong)?;
    Ok((chain, about))
}

/// What checks the certificates of callers that present one.
fn verifier(
    path: &Path,
    client_ca: &[CertificateDer<'static>],
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let wrong = |error: &dyn std::fmt::Display| TlsError {
        key: CLIENT_CA,
        path: path.to_path_buf(),
        problem: format!("cannot be used: {error}; expected certificates of CAs in PEM"),
    };
    let mut roots = RootCertStore::empty();
    for certificate in client_ca {
        roots.add(certificate.clone()).map_err(|error| wrong(&error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| wrong(&error))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn soon() -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(SOON).unwrap_or(jiff::SignedDuration::MAX)
}
