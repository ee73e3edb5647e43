//! TLS of this agent as a node: whom it trusts, and the certificate that it presents.

use std::path::PathBuf;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};

use super::{TlsError, certificates, files, provider, valid_chain};

/// The settings that name the files.
const CA: &str = "node.ca";
const CERTIFICATE: &str = "node.certificate";
const KEY: &str = "node.key";

/// Reads the files that the settings name: the CAs, and nobody else, are trusted.
///
/// # Errors
/// When a file cannot be read or used, others may read the key, the key is not the certificate's, or the certificate is
/// not valid now.
pub(crate) fn of_node(node: &agent_config::NodeSettings) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &node.ca {
        let wrong = |problem| TlsError { key: CA, path: path.clone(), problem };
        for certificate in certificates(CA, path)? {
            let added = roots.add(certificate);
            added.map_err(|error| {
                wrong(format!("cannot be used: {error}; expected certificates of CAs in PEM"))
            })?;
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError {
            key: CA,
            path: node.ca.clone().unwrap_or_default(),
            problem: error.to_string(),
        })?
        .with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&node.certificate, &node.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let (chain, _) = valid_chain(CERTIFICATE, certificate)?;
    let private = files::private_key(KEY, key)?;
    builder.with_client_auth_cert(chain, private).map_err(|error| TlsError {
        key: KEY,
        path: PathBuf::clone(key),
        problem: files::unusable_key(&error, certificate),
    })
}
