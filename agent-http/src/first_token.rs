//! The token of the first start: where none is configured, an admin's token is made once and kept in the state folder,
//! readable by its owner only, so that nothing is ever done for anybody without one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_config::{NewToken, Scope, Token, TokenDigest};
use nix::fcntl::OFlag;

/// Its file in the state folder.
const FILE: &str = "token";
/// The name that its tasks carry.
const NAME: &str = "admin";
/// Longest file that is read, bytes, and shortest text that is taken for a token.
const MAX_FILE_BYTES: u64 = 4096;
const MIN_TOKEN_BYTES: usize = 32;

/// The token of the first start.
#[derive(Debug)]
pub(crate) struct FirstToken {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// Whether it was made just now.
    pub(crate) is_new: bool,
    /// What it permits.
    pub(crate) token: Token,
}

/// Why there is no token of the first start.
#[derive(Debug, thiserror::Error)]
pub enum FirstTokenError {
    /// The file cannot be read or written.
    #[error("cannot {operation} the first token {}: {source}", .path.display())]
    File {
        /// What the agent was about to do.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody else owns the file, or may read it.
    #[error(
        "others may read the first token {}, or own it; delete it, so that another is made, or give it mode 0600 if nobody has",
        .path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("there is no token in {}; delete the file, so that one is made", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the token of the first start, and makes it where there is none.
///
/// Whoever calls this holds the lock of the state folder.
pub(crate) fn open(state_dir: &Path) -> Result<FirstToken, FirstTokenError> {
    let path = state_dir.join(FILE);
    let failed = |operation| {
        let path = path.clone();
        move |source| FirstTokenError::File { operation, path, source }
    };
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let (digest, is_new) = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => (read(file, &path)?, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (make(state_dir, &path).map_err(failed("make"))?, true)
        }
        Err(error) => return Err(failed("open")(error)),
    };
    Ok(FirstToken { path, is_new, token: of_admin(digest) })
}

/// The token of an admin.
pub(crate) fn of_admin(digest: TokenDigest) -> Token {
    Token {
        name: NAME.to_owned(),
        sha256: Some(digest),
        certificate_sha256: None,
        peer_users: Vec::new(),
        peer_uids: Vec::new(),
        scopes: [Scope::Admin].into(),
        scripts: Vec::new(),
        work_dirs: Vec::new(),
        env: Vec::new(),
        requests_per_minute: None,
        concurrent: None,
        expires: None,
    }
}

fn read(file: File, path: &Path) -> Result<TokenDigest, FirstTokenError> {
    let failed = |source| FirstTokenError::File { operation: "read", path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    let owner = metadata.uid();
    let is_ours = owner == nix::unistd::geteuid().as_raw() || owner == 0;
    if !metadata.is_file() {
        return Err(FirstTokenError::Damaged { path: path.to_owned() });
    }
    if !is_ours || metadata.mode() & 0o077 != 0 {
        return Err(FirstTokenError::Exposed { path: path.to_owned() });
    }
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(failed)?;
    match std::str::from_utf8(&text).map(str::trim) {
        Ok(token) if token.len() >= MIN_TOKEN_BYTES && token.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(TokenDigest::of_token(token))
        }
        _ => Err(FirstTokenError::Damaged { path: path.to_owned() }),
    }
}

/// Whole or not at all: written beside, flushed, renamed.
fn make(state_dir: &Path, path: &Path) -> io::Result<TokenDigest> {
    let token = NewToken::generate()?;
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(format!("{}\n", token.secret()).as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(state_dir)?.sync_all()?;
    Ok(token.digest())
}
