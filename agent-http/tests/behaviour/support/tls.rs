//! Sites that speak TLS, and a client of them that sends what no tool would.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::{Authority, Reply, Site, connect, read_reply, request_text};

/// Settings by which a site speaks TLS and asks for certificates.
pub(crate) const TLS: &str =
    "[tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\nclient_ca = \"client-ca.pem\"\n";

/// A connection over TLS.
pub(crate) type TlsConnection = StreamOwned<ClientConnection, TcpStream>;

/// A site with the usual tokens and these settings that speaks TLS by a certificate of the authority.
pub(crate) fn tls_site(authority: &Authority, name: &str, settings: &str) -> Site {
    let site = Site::new(&format!("{TLS}{settings}"));
    install(authority, name, &site);
    fs::copy(authority.path("ca.pem"), site.path("client-ca.pem")).unwrap();
    site
}

/// Puts a certificate and its key in the place of those of a site, each at once as a whole.
pub(crate) fn install(authority: &Authority, name: &str, site: &Site) {
    for (from, to) in [(format!("{name}.key"), "key.pem"), (format!("{name}.pem"), "cert.pem")] {
        let beside = site.path(&format!("{to}.new"));
        fs::copy(authority.path(&from), &beside).unwrap();
        fs::rename(beside, site.path(to)).unwrap();
    }
}

/// Connects, presenting a certificate of the authority where one is named; it is shaken hands at the first use.
pub(crate) fn tls_connect(at: SocketAddr, authority: &Authority, name: Option<&str>) -> TlsConnection {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match name {
        None => config.with_no_client_auth(),
        Some(name) => {
            let chain = CertificateDer::from_pem_file(authority.path(&format!("{name}.pem"))).unwrap();
            let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key"))).unwrap();
            config.with_client_auth_cert(vec![chain], key).unwrap()
        }
    };
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), connect(at))
}

/// Calls with the usual admin's token.
pub(crate) fn request_over_tls(
    at: SocketAddr,
    authority: &Authority,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Reply {
    let mut stream = tls_connect(at, authority, None);
    let token = Site::token("admin");
    stream.write_all(request_text(method, path, Some(&token), body).as_bytes()).unwrap();
    read_reply(&mut BufReader::new(stream), false).unwrap()
}
