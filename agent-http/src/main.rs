//! The agent's HTTP service: reads its settings, opens the agent, listens, and stops in order when it is told to.
//!
//! Exit codes: 0 after it was stopped, 1 when it could not start, 2 when the settings are wrong.

mod arguments;
mod log;
mod memory;
mod process;
mod reload;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_config::{Loaded, LogFormat};
use agent_http::{
    Agent, Host, LocalSocket, Server, ServerLimits, Tls, address, check_hooks, check_node, check_peers,
};
use clap::Parser;
use task_runners::error_chain;
use task_service::DrainReport;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use arguments::Arguments;
use log::{complain, say};
use process::{OpenFiles, Signals};

const FAILED: ExitCode = ExitCode::FAILURE;
const WRONG_SETTINGS: u8 = 2;
/// Time that blocking calls have when all else has ended; then the process ends without them.
const LAST_CALLS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    memory::divide_the_heap_less();
    let arguments = Arguments::parse();
    let loaded = match arguments.settings() {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error_chain(&error));
            return WRONG_SETTINGS.into();
        }
    };
    log::start(if arguments.check_config { LogFormat::Text } else { loaded.settings.log.format });
    process::close_memory();
    let tls = match Tls::open(&loaded.settings.tls) {
        Ok(tls) => tls,
        Err(error) => {
            complain(&error_chain(&error));
            return WRONG_SETTINGS.into();
        }
    };
    if let Err(error) = check_peers(&loaded.settings) {
        complain(&error_chain(&error));
        return WRONG_SETTINGS.into();
    }
    if let Err(error) = check_hooks(&loaded.settings) {
        complain(&error_chain(&error));
        return WRONG_SETTINGS.into();
    }
    if let Err(error) = check_node(&loaded.settings) {
        complain(&error_chain(&error));
        return WRONG_SETTINGS.into();
    }
    for warning in &loaded.warnings {
        tracing::warn!(file = %warning.path.display(), "{warning}");
    }
    if arguments.check_config {
        say(&approval(&loaded));
        return ExitCode::SUCCESS;
    }
    let open_files = OpenFiles::raise();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start the runtime: {error}"));
            return FAILED;
        }
    };
    let code = runtime.block_on(run(&arguments, &loaded, open_files, tls));
    runtime.shutdown_timeout(LAST_CALLS);
    code
}

/// What is said of settings that are right.
fn approval(loaded: &Loaded) -> String {
    let file = match &loaded.file {
        Some(file) => file.display().to_string(),
        None => "no file; the defaults".to_owned(),
    };
    format!("the settings are right: {file}")
}

/// Opens, listens, announces, serves until told to stop, drains.
async fn run(
    arguments: &Arguments,
    loaded: &Loaded,
    open_files: OpenFiles,
    tls: Option<Arc<Tls>>,
) -> ExitCode {
    match serve(arguments, loaded, open_files, tls).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            complain(&message);
            FAILED
        }
    }
}

async fn serve(
    arguments: &Arguments,
    loaded: &Loaded,
    open_files: OpenFiles,
    tls: Option<Arc<Tls>>,
) -> Result<(), String> {
    let settings = &loaded.settings;
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let host =
        Host { open_files: open_files.before(), runtime_dir: process::runtime_dir(), tls: tls.clone() };
    let agent = Agent::open(settings, host).await.map_err(|error| error_chain(&error))?;
    let connections_per_peer = settings.limits.connections_per_peer;
    let limits = open_files.bound(ServerLimits { connections_per_peer, ..ServerLimits::default() });
    let wanted = address(settings);
    let server = Server::listen(wanted, limits).await.map_err(|error| cannot_listen(wanted, &error))?;
    let socket = LocalSocket::listen(&settings.http).map_err(|error| error_chain(&error))?;
    let local = socket.as_ref().map(|socket| socket.path().to_path_buf());
    let server = server.with_tls(tls).with_socket(socket);
    let at = server.address().map_err(|error| cannot_listen(wanted, &error))?;
    agent.begin();
    announce(&agent, at, local.as_deref());

    let stop = CancellationToken::new();
    let mut serving = tokio::spawn(server.serve(agent.app(), stop.clone()));
    let failed = |error| format!("the server failed: {error}");
    let reload_now = Notify::new();
    let at_hangup = || {
        agent.read_scripts_again();
        reload_now.notify_one();
    };
    // Either ends by itself only when it panics: then nobody would be served any more, and what restarts services is to
    // hear of it.
    let failure = tokio::select! {
        () = signals.told_to_stop(at_hangup) => None,
        never = reload::whenever_changed(&agent, arguments, loaded, &reload_now) => match never {},
        ended = &mut serving => ended.err().map(failed),
        () = agent.failed() => Some("the task service failed; the log says why".to_owned()),
    };
    drain(&agent, settings.limits.drain, &mut signals).await;
    stop.cancel();
    match failure {
        Some(failure) => Err(failure),
        None => serving.await.map_err(failed),
    }
}

fn announce(agent: &Agent, at: SocketAddr, local: Option<&Path>) {
    let scheme = if agent.tls().is_some() { "https" } else { "http" };
    if let Some(path) = agent.new_token() {
        let text = path.display().to_string();
        let quoted = shlex::try_quote(&text).unwrap_or_default();
        // Not as an argument of curl: those are in the list of processes, which everybody on the host may read.
        say(&format!(
            "made an admin token in {text}, readable by you only; nothing is done without one. Try it:\n  \
             printf 'Authorization: Bearer %s' \"$(cat {quoted})\" | curl -H @- {scheme}://{at}/api/v1/scripts\n\
             The page is at {scheme}://{at}/, the API's description at {scheme}://{at}/docs"
        ));
    }
    let status = agent.scripts_status();
    if !status.problems.is_empty() {
        let mend = status.mend.as_deref().unwrap_or_default();
        say(&format!(
            "the scripts folder does not verify:\n  {}\nmend it with: {mend}",
            status.problems.join("\n  ")
        ));
    }
    if let Some(path) = local {
        say(&format!("listening on unix:{}", path.display()));
    }
    say(&format!("listening on {scheme}://{at}"));
}

/// Lets what runs end within its time, and says how that went.
async fn drain(agent: &Agent, patience: Duration, signals: &mut Signals) {
    say(&format!(
        "stopping: running tasks have {}s to end; a second signal cancels them, a third one kills them",
        patience.as_secs()
    ));
    let report = drained(agent, patience, signals).await;
    if !report.cancelled.is_empty() {
        let ids: Vec<&str> = report.cancelled.iter().map(|id| id.as_str()).collect();
        say(&format!("cancelled at the end of the drain time: {}", ids.join(", ")));
    }
    let queued = match report.queued {
        0 => String::new(),
        queued => format!("; {queued} waiting tasks are kept for the next start"),
    };
    say(&format!("stopped{queued}"));
}

/// Drains the agent. Each further signal drains it again without patience, which cancels, and kills what was cancelled.
async fn drained(agent: &Agent, patience: Duration, signals: &mut Signals) -> DrainReport {
    let impatient = async {
        signals.told_to_stop(|| ()).await;
        say("ending what still runs");
        Box::pin(drained(agent, Duration::ZERO, signals)).await
    };
    // The first one goes on beside the second: both end when nothing runs any more.
    tokio::select! {
        report = agent.drain(patience) => report,
        report = impatient => report,
    }
}

fn cannot_listen(at: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {at}: the port is in use; stop what uses it, or choose another with --port (0 lets the system choose)"
        ),
        io::ErrorKind::PermissionDenied => {
            format!(
                "cannot listen on {at}: ports below 1024 are for privileged users; choose another with --port"
            )
        }
        _ => format!("cannot listen on {at}: {error}"),
    }
}
