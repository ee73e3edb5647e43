//! Rules that join several settings, looked at when every source was read.

use std::path::{Component, Path, PathBuf};

use crate::draft::Draft;
use crate::grammar;
use crate::keys::TOKENS;
use crate::mistake::{Mistake, Origin};
use crate::token::Token;

const HOST: &str = "http.host";
const SOCKET: &str = "http.socket";
const SOCKET_GROUP: &str = "http.socket_group";
const CERTIFICATE: &str = "tls.certificate";
const KEY: &str = "tls.key";
const API_SERVER: &str = "node.api_server";
const NODE_NAME: &str = "node.name";
const TOKEN_FILE: &str = "node.token_file";
const NODE_CA: &str = "node.ca";
const NODE_CERTIFICATE: &str = "node.certificate";
const NODE_KEY: &str = "node.key";
const PROXY: &str = "node.proxy";
const PROXY_CREDENTIALS: &str = "node.proxy_credentials_file";
const CLIENT_CA: &str = "tls.client_ca";
const DEFAULT_TIMEOUT: &str = "script_executor.default_timeout";
const MAX_TIMEOUT: &str = "script_executor.max_timeout";
const WORK_DIR: &str = "script_executor.work_dir_prefix";
const SCRIPT_DIR: &str = "script_executor.script_dir_prefix";
const STATE_DIR: &str = "script_executor.state_dir";

impl Draft {
    /// Makes paths absolute and looks at the rules that join several settings.
    pub(crate) fn join_paths_and_check(&mut self, current_dir: &Path) {
        let executor = &mut self.settings.script_executor;
        for path in [&mut executor.work_dir_prefix, &mut executor.script_dir_prefix, &mut executor.state_dir]
        {
            *path = current_dir.join(&path);
        }
        let tls = &mut self.settings.tls;
        for path in [&mut tls.certificate, &mut tls.key, &mut tls.client_ca].into_iter().flatten() {
            *path = current_dir.join(&path);
        }
        let node = &mut self.settings.node;
        let files = [
            &mut node.token_file,
            &mut node.ca,
            &mut node.certificate,
            &mut node.key,
            &mut node.proxy_credentials_file,
        ];
        for path in files.into_iter().flatten() {
            *path = current_dir.join(&path);
        }
        self.check_node();
        self.check_way_to_the_api_server();
        let socket = &mut self.settings.http.socket;
        *socket = socket.take().map(|path| current_dir.join(path));
        self.check_tls();
        self.check_client_certificates();
        self.check_names_of_nodes();
        self.check_socket();
        self.check_host();
        self.check_timeouts();
        self.check_folders();
    }

    fn check_node(&mut self) {
        let node = &self.settings.node;
        let given = [
            (API_SERVER, node.api_server.is_some()),
            (NODE_NAME, node.name.is_some()),
            (TOKEN_FILE, node.token_file.is_some()),
            (NODE_CERTIFICATE, node.certificate.is_some()),
        ];
        let [(_, has_server), (_, has_name), (_, has_token), (_, has_certificate)] = given;
        let Some((first, _)) = given.into_iter().find(|(_, is_given)| *is_given) else { return };
        let needed =
            [(API_SERVER, has_server), (NODE_NAME, has_name), (TOKEN_FILE, has_token || has_certificate)];
        if let Some((missing, _)) = needed.into_iter().find(|(_, is_given)| !is_given) {
            let problem = format!("{first} is given and {missing} is not");
            let remedy = format!(
                "expected {API_SERVER}, {NODE_NAME} and {TOKEN_FILE}, all or none; {NODE_CERTIFICATE} may stand for {TOKEN_FILE}"
            );
            self.joint_mistake(&[first], problem, &remedy);
        }
    }

    /// What TLS and a proxy need. Nothing is trusted that no setting names, and nothing in clear passes a proxy.
    fn check_way_to_the_api_server(&mut self) {
        let node = &self.settings.node;
        let is_tls = node.api_server.as_ref().map(|address| address.starts_with("wss://"));
        let (has_certificate, has_key) = (node.certificate.is_some(), node.key.is_some());
        let (has_proxy, has_credentials) = (node.proxy.is_some(), node.proxy_credentials_file.is_some());
        let mut wrong = Vec::new();
        if is_tls == Some(true) && node.ca.is_none() {
            let remedy = "expected the file with the CAs of the API server's certificate; those of the web are in \
                /etc/ssl/certs/ca-certificates.crt on many systems";
            wrong.push((API_SERVER, format!("{API_SERVER} is wss:// and {NODE_CA} is not given"), remedy));
        }
        let both = "expected node.certificate and node.key, both or neither";
        match (has_certificate, has_key) {
            (true, false) => {
                wrong.push((
                    NODE_CERTIFICATE,
                    format!("{NODE_CERTIFICATE} is given and {NODE_KEY} is not"),
                    both,
                ));
            }
            (false, true) => {
                wrong.push((NODE_KEY, format!("{NODE_KEY} is given and {NODE_CERTIFICATE} is not"), both));
            }
            _ => {}
        }
        if is_tls == Some(false) {
            for (key, is_given) in [(NODE_CERTIFICATE, has_certificate), (PROXY, has_proxy)] {
                if is_given {
                    let problem = format!("{key} is given and {API_SERVER} is ws://, which is in clear");
                    wrong.push((key, problem, "expected wss://"));
                }
            }
        }
        if has_credentials && !has_proxy {
            let problem = format!("{PROXY_CREDENTIALS} is given and {PROXY} is not");
            wrong.push((PROXY_CREDENTIALS, problem, "expected node.proxy, the proxy that they open"));
        }
        for (key, problem, remedy) in wrong {
            self.joint_mistake(&[key], problem, remedy);
        }
    }

    fn check_tls(&mut self) {
        let tls = &self.settings.tls;
        let has_client_ca = tls.client_ca.is_some();
        let missing = match (&tls.certificate, &tls.key) {
            (None, Some(_)) => Some((CERTIFICATE, KEY)),
            (Some(_), None) => Some((KEY, CERTIFICATE)),
            (None, None) if has_client_ca => Some((CERTIFICATE, CLIENT_CA)),
            _ => None,
        };
        if let Some((missing, given)) = missing {
            let problem = format!("{given} is given and {missing} is not");
            self.joint_mistake(&[given], problem, "expected tls.certificate and tls.key, both or neither");
        }
    }

    /// A certificate that nobody is asked for would let nobody in.
    fn check_client_certificates(&mut self) {
        if self.settings.tls.client_ca.is_some() {
            return;
        }
        let remedy = "expected tls.client_ca, the CA that signs certificates of callers";
        self.useless_proof("certificate_sha256", CLIENT_CA, remedy, |token| {
            token.certificate_sha256.is_some()
        });
    }

    /// So would a user who has no socket to call by.
    fn check_socket(&mut self) {
        if self.settings.http.socket.is_some() {
            return;
        }
        let remedy = "expected http.socket, the Unix socket that users of this host call by";
        self.useless_proof("peer_users or peer_uids", SOCKET, remedy, Token::has_peers);
        if self.settings.http.socket_group.is_some() {
            let problem = format!("{SOCKET_GROUP} is given and {SOCKET} is not");
            self.joint_mistake(&[SOCKET_GROUP], problem, remedy);
        }
    }

    /// Whoever may connect as the node of its name must have one that is a node's.
    fn check_names_of_nodes(&mut self) {
        let tokens = self.settings.auth.tokens.iter().filter(|token| token.may_be_a_node());
        let wrong = tokens.filter(|token| !grammar::is_node_name(&token.name));
        let names: Vec<String> = wrong.map(|token| format!("{TOKENS}.{}", token.name)).collect();
        for name in names {
            let problem =
                "a token with this scope connects as the node of its name, and `connect` is no node's name";
            self.joint_mistake(&[&name], problem.to_owned(), "expected another name");
        }
    }

    /// Tokens that have a proof which nothing asks for.
    fn useless_proof(&mut self, proof: &str, missing: &str, remedy: &str, has_it: fn(&Token) -> bool) {
        let tokens = self.settings.auth.tokens.iter().filter(|token| has_it(token));
        let names: Vec<String> = tokens.map(|token| format!("{TOKENS}.{}", token.name)).collect();
        for name in names {
            let problem = format!("{proof} is given and {missing} is not");
            self.joint_mistake(&[&name], problem, remedy);
        }
    }

    fn check_host(&mut self) {
        let http = &self.settings.http;
        if http.host.is_loopback() || http.behind_tls_proxy || self.settings.tls.certificate.is_some() {
            return;
        }
        let problem = format!(
            "found {}, which is not a loopback address: tokens would cross the network in clear",
            http.host
        );
        let remedy = "expected a section [tls] with certificate and key, or a loopback address, or \
            http.behind_tls_proxy = true with a proxy in front that speaks TLS";
        self.joint_mistake(&[HOST], problem, remedy);
    }

    fn check_timeouts(&mut self) {
        let executor = &self.settings.script_executor;
        if executor.default_timeout <= executor.max_timeout {
            return;
        }
        let problem = format!(
            "{MAX_TIMEOUT} ({:?}) is below {DEFAULT_TIMEOUT} ({:?})",
            executor.max_timeout, executor.default_timeout
        );
        let remedy = "expected a ceiling that is not below the default";
        self.joint_mistake(&[MAX_TIMEOUT, DEFAULT_TIMEOUT], problem, remedy);
    }

    /// The scripts folder is vouched for as a whole, so that nothing may be written into it; and the two other folders
    /// have the same names in them.
    fn check_folders(&mut self) {
        let executor = &self.settings.script_executor;
        let scripts = plain(&executor.script_dir_prefix);
        let work = plain(&executor.work_dir_prefix);
        let state = plain(&executor.state_dir);
        let nested = |a: &Path, b: &Path| a.starts_with(b) || b.starts_with(a);
        let remedy = "expected separate folders";
        for (key, folder) in [(WORK_DIR, &work), (STATE_DIR, &state)] {
            if nested(&scripts, folder) {
                let problem = format!(
                    "{key} ({}) and {SCRIPT_DIR} ({}) lie in one another",
                    folder.display(),
                    scripts.display()
                );
                self.joint_mistake(&[key, SCRIPT_DIR], problem, remedy);
            }
        }
        if work == state {
            let problem = format!("{WORK_DIR} and {STATE_DIR} are both {}", work.display());
            self.joint_mistake(&[WORK_DIR, STATE_DIR], problem, remedy);
        }
    }

    /// A mistake of several settings together, at the place of the one that was set last.
    fn joint_mistake(&mut self, keys: &[&str], problem: String, remedy: &str) {
        let last = keys
            .iter()
            .filter_map(|key| Some((self.origins.get(*key)?, *key)))
            .max_by_key(|(origin, _)| *origin);
        let (origin, key) = match last {
            Some((origin, key)) => (origin.clone(), key.to_owned()),
            None => (Origin::Unset, String::new()),
        };
        self.mistakes.add(|| Mistake { origin, key, problem, remedy: remedy.to_owned() });
    }
}

/// The path without `.` and `..`, by its text alone: the folders need not exist yet.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}
