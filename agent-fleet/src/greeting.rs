//! How both ends show who they are before anything else is said: a challenge of the API server, signed, and the node's
//! hello, signed over it. Each end then compares the other's key with the one that it knows.

use crate::keys::{CHALLENGE_CONTEXT, HELLO_CONTEXT, KeyError, NodeKeys, Nonce, PublicKey, SigningKey};
use crate::message::{Challenge, Hello, SignedHello, VERSION};

/// Why the other end is not who it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stranger {
    /// It speaks another version of the protocol.
    #[error(
        "the other end speaks version {found} of the protocol, and this one speaks {VERSION}; update the older agent"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// What it says of itself cannot be read.
    #[error("the other end's first message cannot be read: {0}")]
    Malformed(String),
    /// It does not own the key that it shows, or answers another challenge.
    #[error("the other end does not prove that it owns its key")]
    Unproven,
    /// The API server's key is not one of those that the node accepts.
    #[error(
        "the API server's key is {found}, and this node accepts {}; if that is right, change assignment_public_keys or remove the pinned key",
        list(.accepted)
    )]
    ServerKeyChanged {
        /// The key that was shown.
        found: PublicKey,
        /// Those that are accepted.
        accepted: Vec<PublicKey>,
    },
    /// The node has another name than its token.
    #[error(
        "the node says that it is '{found}', and its token is of '{expected}'; a node has its token's name"
    )]
    Name {
        /// What it says.
        found: String,
        /// The token's name.
        expected: String,
    },
    /// The node has another key than the one that came under its name before.
    #[error(
        "the key of the node '{name}' is not the one that came under this name before; if it was set up anew, `agent-cli node remove {name}` has the API server forget the old one"
    )]
    NodeKeyChanged {
        /// The node.
        name: String,
    },
}

impl Stranger {
    /// The stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version { .. } => "version",
            Self::Malformed(_) => "malformed",
            Self::Unproven => "key_unproven",
            Self::ServerKeyChanged { .. } => "server_key_changed",
            Self::Name { .. } => "node_name",
            Self::NodeKeyChanged { .. } => "node_key_changed",
        }
    }
}

/// A new challenge of an API server.
///
/// # Errors
/// When the system gives no random bytes.
pub fn challenge(key: &SigningKey) -> Result<Challenge, KeyError> {
    let nonce = Nonce::random()?;
    let signature = key.sign(CHALLENGE_CONTEXT, &nonce.0);
    Ok(Challenge { version: VERSION, key: key.public(), nonce, signature })
}

/// Checks a challenge at the node. `accepted` are the keys of its file, or the pinned one; with none, whichever comes is
/// accepted, and is to be pinned.
///
/// # Errors
/// See [`Stranger`].
pub fn check_challenge(challenge: &Challenge, accepted: &[PublicKey]) -> Result<(), Stranger> {
    let Challenge { version, key, nonce, signature } = challenge;
    if *version != VERSION {
        return Err(Stranger::Version { found: *version });
    }
    if !key.has_signed(CHALLENGE_CONTEXT, &nonce.0, signature) {
        return Err(Stranger::Unproven);
    }
    match accepted.is_empty() || accepted.contains(key) {
        true => Ok(()),
        false => Err(Stranger::ServerKeyChanged { found: *key, accepted: accepted.to_vec() }),
    }
}

/// Signs what a node says of itself.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn sign_hello(keys: &NodeKeys, hello: &Hello) -> Result<SignedHello, serde_json::Error> {
    let hello = serde_json::to_string(hello)?;
    let signature = keys.identity.sign(HELLO_CONTEXT, hello.as_bytes());
    Ok(SignedHello { hello, signature })
}

/// Checks a hello at the API server: it answers this challenge, by the token's name, with a key that its sender owns. Whether
/// that is the key that came under this name before is for the caller to say.
///
/// # Errors
/// See [`Stranger`].
pub fn check_hello(signed: &SignedHello, challenge: &Challenge, name: &str) -> Result<Hello, Stranger> {
    let hello: Hello =
        serde_json::from_str(&signed.hello).map_err(|error| Stranger::Malformed(error.to_string()))?;
    if hello.version != VERSION {
        return Err(Stranger::Version { found: hello.version });
    }
    let is_signed = hello.key.has_signed(HELLO_CONTEXT, signed.hello.as_bytes(), &signed.signature);
    if !is_signed || hello.nonce != challenge.nonce {
        return Err(Stranger::Unproven);
    }
    if hello.name != name {
        return Err(Stranger::Name { found: hello.name, expected: name.to_owned() });
    }
    Ok(hello)
}

fn list(keys: &[PublicKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
