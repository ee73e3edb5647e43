//! What would be executed for a request: the same look-ups and the same environment, and nothing made or started.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::StartError;
use crate::executor::Inner;
use crate::policy::Leftovers;
use crate::prepare::{self, Facts, source};
use crate::request::ExecuteScriptRequest;
use crate::result::KillScope;
use crate::run;

/// What would be executed for a request. The id, and with it paths that hold it, is made anew for each execution
/// where the request names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// Path and arguments.
    pub command: Vec<OsString>,
    /// The whole environment, by name.
    pub env: Vec<(String, OsString)>,
    /// The working folder.
    pub work_dir: PathBuf,
    /// SHA-256 of the script's file, hexadecimal.
    pub script_sha256: String,
    /// Digest of the manifest that vouches for it; none when nothing does.
    pub manifest: Option<String>,
    /// Time limit.
    pub timeout: Duration,
    /// Time between TERM and KILL.
    pub kill_grace: Duration,
    /// What happens to processes that it leaves behind.
    pub leftovers: Leftovers,
    /// How the end of all its processes is made sure.
    pub kill_scope: KillScope,
    /// Most bytes of its output that are kept.
    pub max_log_bytes: u64,
}

pub(crate) fn preview(inner: &Inner, request: &ExecuteScriptRequest) -> Result<Preview, StartError> {
    let names = run::checked(inner, request)?;
    let script = source(inner, request).resolve(&names.script)?;
    let work_dir = inner.workspaces.path(&names.id, names.workspace.as_ref());
    let timeout = prepare::timeout(inner, request);
    let environment = prepare::environment(
        inner,
        request,
        &Facts {
            id: names.id.as_str(),
            script_name: names.script.as_str(),
            work_dir: &work_dir,
            script_folder: &script.folder,
            scratch: &inner.scratch.path().join(prepare::scratch_name(&names.id, request.metadata.attempt)),
            timeout,
            created_by: &prepare::created_by(inner, request),
        },
    );
    let program = script.path.clone().into_os_string();
    Ok(Preview {
        command: std::iter::once(program).chain(request.args.iter().cloned()).collect(),
        env: environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        work_dir,
        script_sha256: script.sha256,
        manifest: script.manifest,
        timeout,
        kill_grace: request.kill_grace.unwrap_or(inner.settings.kill_grace),
        leftovers: inner.settings.leftovers,
        kill_scope: if inner.cgroups.is_some() { KillScope::Cgroup } else { KillScope::Marker },
        max_log_bytes: inner.settings.max_log_bytes,
    })
}
