//! Where scripts come from: a plain folder here, a verified snapshot by whoever brings one along.

use std::any::Any;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use sha2::{Digest, Sha256};

use crate::error::{ScriptFault, StartError};
use crate::folder;
use crate::names::ScriptName;
use crate::script_head::check_head;

/// Bytes of a script that are looked at to learn how it is run; the kernel itself reads 256 (execve(2)).
const HEAD_BYTES: usize = 256;
/// Bytes read at once while a digest is made; few scripts are longer.
const DIGEST_CHUNK_BYTES: usize = 16 << 10;
/// Largest script in bytes. It bounds the time that a sparse file can cost.
const MAX_SCRIPT_BYTES: u64 = 1 << 30;

/// A script that may be executed now.
pub struct ResolvedScript {
    /// What is executed, an absolute path.
    pub path: PathBuf,
    /// The folder that stands for the scripts folder: TASK_SCRIPT_DIR.
    pub folder: PathBuf,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// Digest of the manifest that vouches for it; none when nothing does.
    pub manifest: Option<String>,
    /// Kept until the execution has ended, so that what is executed stays where it is.
    pub pin: Option<Box<dyn Any + Send + Sync>>,
}

/// Gives the engine scripts by name: the hook for verification.
pub trait ScriptSource: Send + Sync + 'static {
    /// Looks a script up and makes sure that it may be executed.
    ///
    /// # Errors
    /// [`StartError::NotFound`], [`StartError::Script`], or [`StartError::Unverified`] where nobody vouches for it.
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError>;
}

/// A folder of scripts that nothing vouches for: what runs is what lies there at that moment.
#[derive(Debug, Clone)]
pub struct ScriptFolder {
    path: PathBuf,
}

impl ScriptFolder {
    /// The folder at `path`; it need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Opens the file of that name; links on the way are not followed, and a pipe is not waited for.
    ///
    /// # Errors
    /// [`StartError::NotFound`], [`StartError::Script`] for what cannot be a script, and what the kernel refuses.
    pub fn open(&self, name: &ScriptName) -> Result<File, StartError> {
        let folder = folder::open_folder(&self.path)
            .map_err(StartError::host(format_args!("open the scripts folder {}", self.path.display())))?;
        let fault = |fault| StartError::Script { name: name.clone(), fault };
        // O_NONBLOCK: a pipe planted there must not hold the agent up.
        match folder::open_beneath(&folder, name.as_str(), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(fd) => Ok(fd.into()),
            Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Err(StartError::NotFound(name.clone())),
            Err(nix::Error::ELOOP | nix::Error::EXDEV) => {
                Err(fault(ScriptFault::NotAFile("a symbolic link, or lies behind one")))
            }
            Err(nix::Error::ENXIO) => Err(fault(ScriptFault::NotAFile("a socket or a device"))),
            Err(error) => Err(StartError::host(format_args!("open the script {name}"))(error.into())),
        }
    }
}

impl ScriptSource for ScriptFolder {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        let mut file = self.open(name)?;
        let sha256 = inspect(&mut file, name)?;
        let operation = format!("find the scripts folder {}", self.path.display());
        let folder = std::path::absolute(&self.path).map_err(StartError::host(operation))?;
        Ok(ResolvedScript { path: folder.join(name.as_str()), folder, sha256, manifest: None, pin: None })
    }
}

/// Checks an opened script's kind, owner, mode and first line, and gives its SHA-256.
///
/// # Errors
/// [`StartError::Script`] with what is wrong with it.
pub fn inspect(file: &mut File, name: &ScriptName) -> Result<String, StartError> {
    let fault = |fault| StartError::Script { name: name.clone(), fault };
    let metadata = file.metadata().map_err(StartError::host(format_args!("look at the script {name}")))?;
    check_metadata(&metadata).map_err(fault)?;
    if is_on_noexec(file) {
        return Err(fault(ScriptFault::OnNoexec));
    }
    let (head, sha256) = digest(file).map_err(StartError::host(format_args!("read the script {name}")))?;
    check_head(&head).map_err(fault)?;
    Ok(sha256)
}

fn check_metadata(metadata: &std::fs::Metadata) -> Result<(), ScriptFault> {
    if !metadata.is_file() {
        return Err(ScriptFault::NotAFile(if metadata.is_dir() { "a folder" } else { "a device or a pipe" }));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(ScriptFault::Unsafe(format!(
            "others than its owner may write it (mode {mode:04o}); chmod go-w it"
        )));
    }
    let (owner, agent) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    if owner != 0 && owner != agent {
        return Err(ScriptFault::Unsafe(format!(
            "it belongs to user {owner}, who could change it; it must belong to root or to the agent's user"
        )));
    }
    if mode & 0o111 == 0 {
        return Err(ScriptFault::NotExecutable(format!(
            "it is not executable (mode {mode:04o}); chmod +x it"
        )));
    }
    if metadata.size() > MAX_SCRIPT_BYTES {
        let (bytes, most) = (metadata.size(), MAX_SCRIPT_BYTES);
        return Err(ScriptFault::Unsafe(format!("it has {bytes} bytes; a script has {most} at most")));
    }
    Ok(())
}

fn is_on_noexec(file: &File) -> bool {
    fstatvfs(file).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
}

fn digest(file: &mut File) -> io::Result<(Vec<u8>, String)> {
    let mut hasher = Sha256::new();
    let mut head = Vec::new();
    let mut chunk = [0; DIGEST_CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((head, hex::encode(hasher.finalize())));
        }
        if head.len() < HEAD_BYTES {
            head.extend_from_slice(&chunk[..read.min(HEAD_BYTES - head.len())]);
        }
        hasher.update(&chunk[..read]);
    }
}

impl std::fmt::Debug for ResolvedScript {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolvedScript")
            .field("path", &self.path)
            .field("sha256", &self.sha256)
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}
