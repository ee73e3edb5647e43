//! `[[auth.token]]`: what a token is, and how its section is read.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;

use crate::grammar;
use crate::input::{Checked, Input};

/// A token that the service accepts. The token itself is known to its owner only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who it is; tasks carry this name as `created_by`.
    pub name: String,
    /// What the digest of a token that is sent must be. None where there is another proof only: a certificate, a user.
    pub sha256: Option<TokenDigest>,
    /// The digest of the certificate (DER) that proves the same on a connection over TLS.
    pub certificate_sha256: Option<TokenDigest>,
    /// Users of this host who prove the same by being at the other end of the Unix socket, by name.
    pub peer_users: Vec<String>,
    /// The same by number.
    pub peer_uids: Vec<u32>,
    /// What it permits; never empty.
    pub scopes: BTreeSet<Scope>,
    /// Patterns of the scripts that it sees: `*` within a folder, `**` across folders. Empty sees none.
    pub scripts: Vec<String>,
    /// Shared working folders that it may name.
    pub work_dirs: Vec<String>,
    /// Names of variables that it may set for a script; a `*` at the end matches any rest.
    pub env: Vec<String>,
    /// Most calls in a minute, at once too; none is any number.
    pub requests_per_minute: Option<u32>,
    /// Most tasks of it that wait or run at one time; none is any number.
    pub concurrent: Option<u32>,
    /// From when on it is not accepted; none is never.
    pub expires: Option<Timestamp>,
}

/// What a token has for itself: its name, and what proves who calls.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    Name(String),
    Digest(TokenDigest),
    Certificate(TokenDigest),
    User(String),
    Uid(u32),
}

/// The SHA-256 of a token, or of a certificate. Its `Debug` form does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenDigest([u8; 32]);

/// Something that a token may permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To start tasks.
    Run,
    /// To see tasks, logs and scripts.
    Read,
    /// To cancel tasks.
    Cancel,
    /// All of them on all scripts, and nodes.
    Admin,
    /// To connect as the node of the token's name.
    Node,
}

/// More calls in a minute than the service could answer.
const MOST_REQUESTS: u32 = 10_000_000;
/// More tasks than may ever wait and run.
const MOST_CONCURRENT: u32 = 1_000_000;
/// Stands for users of other namespaces, who may be anybody (proc_sys_kernel(5), overflowuid), and for no user at all.
const NO_USERS: [u32; 2] = [65_534, u32::MAX];

/// What is known of a token while its section is read.
#[derive(Debug, Default)]
pub(crate) struct TokenDraft {
    name: Option<String>,
    sha256: Option<TokenDigest>,
    certificate_sha256: Option<TokenDigest>,
    peer_users: Vec<String>,
    peer_uids: Vec<u32>,
    scopes: Option<BTreeSet<Scope>>,
    scripts: Vec<String>,
    work_dirs: Vec<String>,
    env: Vec<String>,
    requests_per_minute: Option<u32>,
    concurrent: Option<u32>,
    expires: Option<Timestamp>,
}

/// One key of a token's section, and how it is taken.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) set: fn(&mut TokenDraft, Input<'_>) -> Checked<()>,
}

/// The keys of a token's section.
pub(crate) const FIELDS: &[Field] = &[
    Field { name: "name", required: true, set: set_name },
    Field { name: "sha256", required: false, set: set_sha256 },
    Field { name: "certificate_sha256", required: false, set: set_certificate_sha256 },
    Field { name: "peer_users", required: false, set: set_peer_users },
    Field { name: "peer_uids", required: false, set: set_peer_uids },
    Field { name: "scopes", required: true, set: set_scopes },
    Field { name: "scripts", required: false, set: set_scripts },
    Field { name: "work_dirs", required: false, set: set_work_dirs },
    Field { name: "env", required: false, set: set_env },
    Field { name: "requests_per_minute", required: false, set: set_requests_per_minute },
    Field { name: "concurrent", required: false, set: set_concurrent },
    Field { name: "expires", required: false, set: set_expires },
];

/// What proves that somebody is who the token names: one of them must be given.
pub(crate) const PROOFS: [&str; 4] = ["sha256", "certificate_sha256", "peer_users", "peer_uids"];

impl Token {
    /// Whether users at the other end of the Unix socket may be this caller.
    pub fn has_peers(&self) -> bool {
        !self.peer_users.is_empty() || !self.peer_uids.is_empty()
    }

    /// Whether it may connect as the node of its name.
    pub(crate) fn may_be_a_node(&self) -> bool {
        self.scopes.contains(&Scope::Node) || self.scopes.contains(&Scope::Admin)
    }

    /// What it has that no other token may have.
    pub(crate) fn claims(&self) -> impl Iterator<Item = Claim> {
        let proofs = [self.sha256.map(Claim::Digest), self.certificate_sha256.map(Claim::Certificate)];
        let users = self.peer_users.iter().cloned().map(Claim::User);
        let uids = self.peer_uids.iter().copied().map(Claim::Uid);
        let name = Claim::Name(self.name.clone());
        std::iter::once(name).chain(proofs.into_iter().flatten()).chain(users).chain(uids)
    }
}

impl Claim {
    /// The field that it stands in, and the word for it.
    pub(crate) fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Name(_) => ("name", "name"),
            Self::Digest(_) => ("sha256", "digest"),
            Self::Certificate(_) => ("certificate_sha256", "certificate"),
            Self::User(_) => ("peer_users", "user"),
            Self::Uid(_) => ("peer_uids", "uid"),
        }
    }
}

impl TokenDigest {
    /// The digest, for a comparison in constant time.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for TokenDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest(..)")
    }
}

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 5] = [Self::Run, Self::Read, Self::Cancel, Self::Admin, Self::Node];

    /// The word that the configuration uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Read => "read",
            Self::Cancel => "cancel",
            Self::Admin => "admin",
            Self::Node => "node",
        }
    }

    /// The scope of that word, if there is one.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TokenDraft {
    /// The token, when nothing that is required is missing.
    pub(crate) fn finish(self) -> Option<Token> {
        Some(Token {
            name: self.name?,
            sha256: self.sha256,
            certificate_sha256: self.certificate_sha256,
            peer_users: self.peer_users,
            peer_uids: self.peer_uids,
            scopes: self.scopes?,
            scripts: self.scripts,
            work_dirs: self.work_dirs,
            env: self.env,
            requests_per_minute: self.requests_per_minute,
            concurrent: self.concurrent,
            expires: self.expires,
        })
    }
}

fn set_name(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    draft.name = Some(input.text(NAME, own(grammar::is_name))?);
    Ok(())
}

fn set_sha256(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let right = "the token's SHA-256 in 64 hexadecimal digits, as `agent-cli token create` prints it";
    let digest = input.secret(right, |text| {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok().map(|()| digest)
    })?;
    draft.sha256 = Some(TokenDigest(digest));
    Ok(())
}

fn set_certificate_sha256(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let right = "a certificate's SHA-256 in 64 hexadecimal digits, with or without colons, as \
        `openssl x509 -noout -fingerprint -sha256` prints it";
    let digest = input.text(right, |text| {
        let mut digest = [0; 32];
        hex::decode_to_slice(text.replace(':', ""), &mut digest).ok().map(|()| digest)
    })?;
    draft.certificate_sha256 = Some(TokenDigest(digest));
    Ok(())
}

fn set_peer_users(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    draft.peer_users = some(input, input.list("the name of a user", own(grammar::is_account))?)?;
    Ok(())
}

fn set_peer_uids(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let uids = input.numbers("the number of a user", |number| {
        u32::try_from(number).ok().filter(|uid| !NO_USERS.contains(uid))
    })?;
    draft.peer_uids = some(input, uids)?;
    Ok(())
}

/// A list that names somebody.
fn some<T>(input: Input<'_>, list: Vec<T>) -> Checked<Vec<T>> {
    if list.is_empty() { input.text("at least one user", |_| None) } else { Ok(list) }
}

fn set_scopes(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let right = format!("one of {}", Scope::ALL.map(Scope::as_str).join(", "));
    let scopes = input.list(&right, Scope::parse)?;
    if scopes.is_empty() {
        return input.text("at least one scope", |_| None);
    }
    draft.scopes = Some(scopes.into_iter().collect());
    Ok(())
}

fn set_scripts(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let right = "a pattern of script names such as \"deploy/*\" or \"**\"";
    draft.scripts = input.list(right, own(grammar::is_script_pattern))?;
    Ok(())
}

fn set_work_dirs(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    draft.work_dirs = workspaces(input)?;
    Ok(())
}

fn set_env(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    draft.env = variables(input)?;
    Ok(())
}

fn set_requests_per_minute(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let number = input.integer(1, MOST_REQUESTS.into())?;
    draft.requests_per_minute = u32::try_from(number).ok();
    Ok(())
}

fn set_concurrent(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    let number = input.integer(0, MOST_CONCURRENT.into())?;
    draft.concurrent = u32::try_from(number).ok().filter(|most| *most > 0);
    Ok(())
}

fn set_expires(draft: &mut TokenDraft, input: Input<'_>) -> Checked<()> {
    draft.expires = Some(input.instant()?);
    Ok(())
}

/// Names of shared workspaces.
pub(crate) fn workspaces(input: Input<'_>) -> Checked<Vec<String>> {
    input.list(NAME, own(grammar::is_name))
}

/// Names of variables, and beginnings of them.
pub(crate) fn variables(input: Input<'_>) -> Checked<Vec<String>> {
    let right = "a variable's name, or the beginning of one and `*`, such as \"DEPLOY_*\"";
    input.list(right, own(grammar::is_variable_pattern))
}

/// The rule for names, in words.
pub(crate) const NAME: &str =
    "a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit, at most 64";

/// Makes a test of a text into a conversion that keeps the text.
pub(crate) fn own(is_right: impl Fn(&str) -> bool) -> impl Fn(&str) -> Option<String> {
    move |text| is_right(text).then(|| text.to_owned())
}
