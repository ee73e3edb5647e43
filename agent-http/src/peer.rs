//! Who is at the other end of a connection: an address, or a user of this host as the kernel tells; and which users a
//! token lists.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use agent_config::{Settings, Token};
use nix::errno::Errno;
use nix::unistd::{User, geteuid};
use serde::{Serialize, Serializer};

/// What the kernel says of users that it cannot name here (proc_sys_kernel(5), overflowuid): anybody of another namespace.
const NOBODY: u32 = 65_534;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Of a connection over TCP.
    Address(SocketAddr),
    /// Of one over the Unix socket.
    User(PeerUser),
}

/// Whose connections count together. An IPv6 address counts as its network of 64 bits: whoever has one address there has as
/// many as it likes (RFC 4291, section 2.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PeerKey {
    Address(Ipv4Addr),
    Network([u16; 4]),
    User(u32),
}

/// The process that connected to the Unix socket, as it was then (unix(7), SO_PEERCRED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PeerUser {
    pub(crate) uid: u32,
    /// None where the kernel cannot say: it is in another namespace.
    pub(crate) pid: Option<i32>,
}

/// Why the users that tokens list cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The host cannot say who its users are.
    #[error("auth.token.{token}: peer_users: the user '{user}' cannot be looked up: {source}")]
    LookUp {
        /// The token.
        token: String,
        /// The user.
        user: String,
        /// What the system said.
        source: Errno,
    },
    /// It stands for anybody of another namespace.
    #[error(
        "auth.token.{token}: peer_users: the user '{user}' has the number {NOBODY}, which stands for users of other \
         namespaces, so that anybody could be this caller; list another user"
    )]
    Anybody {
        /// The token.
        token: String,
        /// The user.
        user: String,
    },
    /// One user would be two callers.
    #[error("auth.token.{token}: the user {uid} is listed by the token '{other}' too; list each user once")]
    Twice {
        /// The token.
        token: String,
        /// The user's number.
        uid: u32,
        /// The other token.
        other: String,
    },
}

impl Peer {
    /// As whose its connections count.
    pub(crate) fn key(&self) -> PeerKey {
        match self {
            // A socket of both kinds shows IPv4 addresses as mapped ones.
            Self::Address(address) => match address.ip().to_canonical() {
                IpAddr::V4(address) => PeerKey::Address(address),
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    PeerKey::Network([a, b, c, d])
                }
            },
            Self::User(user) => PeerKey::User(user.uid),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(PeerUser { uid, pid: Some(pid) }) => write!(f, "unix:uid={uid},pid={pid}"),
            Self::User(PeerUser { uid, pid: None }) => write!(f, "unix:uid={uid}"),
        }
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The users that a token lists.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) uids: Vec<u32>,
    /// Names that no user of this host has.
    unknown: Vec<String>,
}

/// Looks up whether the users that the tokens list can be let in.
///
/// # Errors
/// See [`PeerError`].
pub fn check_peers(settings: &Settings) -> Result<(), PeerError> {
    listed_by_all(&settings.auth.tokens).map(drop)
}

/// The users that each token lists.
pub(crate) fn listed_by_all(tokens: &[Token]) -> Result<Vec<Listed>, PeerError> {
    let all = tokens.iter().map(Listed::by).collect::<Result<Vec<_>, _>>()?;
    let mut callers = HashMap::new();
    for (token, listed) in tokens.iter().zip(&all) {
        for &uid in &listed.uids {
            // One section may list a user by name and by number.
            let other = callers.insert(uid, token.name.as_str()).filter(|other| *other != token.name);
            if let Some(other) = other.map(str::to_owned) {
                return Err(PeerError::Twice { token: token.name.clone(), uid, other });
            }
        }
    }
    Ok(all)
}

impl Listed {
    fn by(token: &Token) -> Result<Self, PeerError> {
        let mut listed = Self { uids: token.peer_uids.clone(), unknown: Vec::new() };
        for user in &token.peer_users {
            let failed = |source| PeerError::LookUp { token: token.name.clone(), user: user.clone(), source };
            match User::from_name(user).map_err(failed)?.map(|found| found.uid.as_raw()) {
                Some(NOBODY) => {
                    return Err(PeerError::Anybody { token: token.name.clone(), user: user.clone() });
                }
                Some(uid) => listed.uids.push(uid),
                None => listed.unknown.push(user.clone()),
            }
        }
        Ok(listed)
    }

    /// Says what somebody should know who listed these.
    pub(crate) fn warn(&self, token: &str) {
        for user in &self.unknown {
            tracing::warn!(token, user, "this host has no such user; nobody is let in for it");
        }
        let own = geteuid().as_raw();
        if self.uids.contains(&own) {
            tracing::warn!(token, uid = own, "scripts run as this user: each of them may call as this token");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_by_ipv4_address_ipv6_network_and_user() {
        let key = |text: &str| Peer::Address(SocketAddr::new(text.parse().unwrap(), 1)).key();
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        let user = |uid, pid| Peer::User(PeerUser { uid, pid }).key();
        assert_eq!(user(0, Some(1)), user(0, None));
        assert_ne!(user(0, Some(1)), user(1, Some(1)));
    }
}
