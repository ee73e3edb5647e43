//! The table of all keys outside `[[auth.token]]`: what each takes and where it goes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use executor_core::Leftovers;

use crate::grammar;
use crate::input::{Checked, Input};
use crate::settings::{LogFormat, Settings};
use crate::token::{NAME, own, variables, workspaces};
use crate::units::{parse_duration, parse_size};

/// The section of variables for scripts, whose keys are free.
pub(crate) const VARIABLES: &str = "script_executor.env";
/// The section of a node's labels, whose keys are free.
pub(crate) const LABELS: &str = "node.labels";
/// The list of tokens.
pub(crate) const TOKENS: &str = "auth.token";
/// Another spelling of a section, which is read too.
pub(crate) const SPELLINGS: (&str, &str) = ("script_excutor", "script_executor");
/// Sections that are described for later versions. Ignoring one would pretend that it is in force.
pub(crate) const UNSUPPORTED: &[&str] = &["fleet", "hook", "notify"];
/// Sections in the order of the file.
pub(crate) const SECTIONS: &[&str] =
    &["app", "http", "tls", "script_executor", "limits", "retention", "audit", "log", "auth", "node"];

/// More tasks or waiting ones than these would exhaust any one host.
const MOST_CONCURRENT: u64 = 10_000;
const MOST_QUEUED: u64 = 1_000_000;
/// Fewer connections than these would be too few for the callers behind a reverse proxy, which is one peer; and more than
/// these no process has files for.
const LEAST_CONNECTIONS: u64 = 64;
const MOST_CONNECTIONS: u64 = 1_000_000;
/// Tasks beyond this are more than one database of one host is for.
const MOST_KEPT: u64 = 1_000_000_000;
/// Longest path of a Unix socket, bytes (unix(7)): its address has 108, with the NUL behind it.
const SOCKET_PATH_BYTES: usize = 107;
/// More files than these are a folder of their own.
const MOST_FILES: u64 = 1000;

/// One key and how its value is taken.
pub(crate) struct Key {
    /// The section and the name, with a dot between.
    pub(crate) name: &'static str,
    pub(crate) set: fn(&mut Settings, Input<'_>) -> Checked<()>,
}

/// The key of that name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// One line of the table: the key, and the conversion of its value. The field of the settings has the key's name.
macro_rules! key {
    ($section:ident . $field:ident, $convert:path) => {
        Key {
            name: concat!(stringify!($section), ".", stringify!($field)),
            set: |settings, input| {
                settings.$section.$field = $convert(input)?;
                Ok(())
            },
        }
    };
}

/// Every key, in the order of the file.
pub(crate) const KEYS: &[Key] = &[
    key!(app.name, name),
    key!(http.host, address),
    key!(http.port, port),
    key!(http.socket, socket),
    key!(http.socket_mode, socket_mode),
    key!(http.socket_group, some_account),
    key!(http.behind_tls_proxy, Input::boolean),
    key!(http.hosts, host_names),
    key!(http.origins, origins),
    key!(http.public_metrics, Input::boolean),
    key!(tls.certificate, some_path),
    key!(tls.key, some_path),
    key!(tls.client_ca, some_path),
    key!(script_executor.work_dir_prefix, Input::path),
    key!(script_executor.script_dir_prefix, Input::path),
    key!(script_executor.state_dir, Input::path),
    key!(script_executor.is_verify_script_integrity, some_boolean),
    key!(script_executor.manifest_public_keys, public_keys),
    key!(script_executor.path, search_path),
    key!(script_executor.default_timeout, duration),
    key!(script_executor.max_timeout, duration),
    key!(script_executor.kill_grace, duration),
    key!(script_executor.leftovers, leftovers),
    key!(script_executor.max_log_bytes, size),
    key!(limits.concurrent, concurrent),
    key!(limits.queue, queue),
    key!(limits.connections_per_peer, connections_per_peer),
    key!(limits.body, size),
    key!(limits.drain, duration),
    key!(retention.tasks, duration),
    key!(retention.max_tasks, kept),
    key!(retention.max_bytes, size_or_none),
    key!(retention.workspaces, duration),
    key!(retention.max_workspaces, kept),
    key!(retention.max_workspace_bytes, size_or_none),
    key!(audit.file_size, size),
    key!(audit.files, files),
    key!(log.format, log_format),
    key!(node.api_server, api_server),
    key!(node.name, node_name),
    key!(node.token_file, some_path),
    key!(node.ca, some_path),
    key!(node.certificate, some_path),
    key!(node.key, some_path),
    key!(node.proxy, proxy),
    key!(node.proxy_credentials_file, some_path),
    key!(node.assignment_public_keys, assignment_keys),
    key!(node.env, variables),
    key!(node.work_dirs, some_workspaces),
];

/// Sets one variable for scripts. The value may be a secret, so that no message repeats it.
pub(crate) fn set_variable(settings: &mut Settings, name: &str, input: Input<'_>) -> Checked<()> {
    let right = "a text without NUL characters";
    let value = input.secret(right, own(|text| !text.contains('\0')))?;
    settings.script_executor.env.insert(name.to_owned(), value);
    Ok(())
}

/// Sets one label of this node.
pub(crate) fn set_label(settings: &mut Settings, name: &str, input: Input<'_>) -> Checked<()> {
    let right = "a text of at most 255 bytes without control characters";
    let value = input.text(right, own(|text| text.len() <= 255 && !text.contains(char::is_control)))?;
    settings.node.labels.insert(name.to_owned(), value);
    Ok(())
}

/// A number whose range was checked, in the type of its setting.
fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number).ok().expect("the range of each number fits the type of its setting")
}

fn name(input: Input<'_>) -> Checked<String> {
    input.text(NAME, own(grammar::is_name))
}

fn node_name(input: Input<'_>) -> Checked<Option<String>> {
    let right = format!("{NAME}; `connect` is no node's name");
    input.text(&right, own(grammar::is_node_name)).map(Some)
}

fn api_server(input: Input<'_>) -> Checked<Option<String>> {
    let right = "wss://, host and port of the API server, such as \"wss://api.example.com:8848\"; ws:// to loopback only";
    input.text(right, own(grammar::is_api_server)).map(Some)
}

fn proxy(input: Input<'_>) -> Checked<Option<String>> {
    let right = "http://, host and port of the proxy, such as \"http://proxy.example.com:3128\"; its user and password in node.proxy_credentials_file";
    input.secret(right, own(grammar::is_proxy)).map(Some)
}

fn assignment_keys(input: Input<'_>) -> Checked<Vec<String>> {
    input.list(
        "an API server's key: 64 hexadecimal digits",
        own(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())),
    )
}

fn some_workspaces(input: Input<'_>) -> Checked<Option<Vec<String>>> {
    workspaces(input).map(Some)
}

fn port(input: Input<'_>) -> Checked<u16> {
    input.integer(0, u16::MAX.into()).map(narrow)
}

fn concurrent(input: Input<'_>) -> Checked<usize> {
    input.integer(0, MOST_CONCURRENT).map(narrow)
}

fn queue(input: Input<'_>) -> Checked<usize> {
    input.integer(1, MOST_QUEUED).map(narrow)
}

fn connections_per_peer(input: Input<'_>) -> Checked<usize> {
    match input.integer(0, MOST_CONNECTIONS)? {
        number @ (0 | LEAST_CONNECTIONS..) => Ok(narrow(number)),
        _ => input
            .text(&format!("0, or a whole number from {LEAST_CONNECTIONS} to {MOST_CONNECTIONS}"), |_| None),
    }
}

/// A number of tasks, or of what belongs to one each.
fn kept(input: Input<'_>) -> Checked<u64> {
    input.integer(0, MOST_KEPT)
}

fn files(input: Input<'_>) -> Checked<u32> {
    input.integer(1, MOST_FILES).map(narrow)
}

fn some_boolean(input: Input<'_>) -> Checked<Option<bool>> {
    input.boolean().map(Some)
}

fn some_path(input: Input<'_>) -> Checked<Option<PathBuf>> {
    input.path().map(Some)
}

fn socket(input: Input<'_>) -> Checked<Option<PathBuf>> {
    let path = input.path()?;
    if path.as_os_str().len() <= SOCKET_PATH_BYTES {
        return Ok(Some(path));
    }
    input.text(&format!("a path of at most {SOCKET_PATH_BYTES} bytes"), |_| None)
}

fn socket_mode(input: Input<'_>) -> Checked<u32> {
    let right = "who may read and write the socket as in chmod(1), in quotes: \"0600\", \"0660\" or \"0666\"";
    input.text(right, grammar::parse_socket_mode)
}

fn some_account(input: Input<'_>) -> Checked<Option<String>> {
    input.text("the name of a group", own(grammar::is_account)).map(Some)
}

fn duration(input: Input<'_>) -> Checked<Duration> {
    let right = "a time with its unit (ms, s, m, h, d), such as \"10s\", above zero and at most 3650d";
    input.text(right, parse_duration)
}

fn size(input: Input<'_>) -> Checked<u64> {
    let right = "a size with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as \"64KiB\", above zero";
    input.text(right, parse_size)
}

/// A size of which none is no bound.
fn size_or_none(input: Input<'_>) -> Checked<u64> {
    let right = "a size with its unit (B, KiB, MiB, GiB, TiB, KB, MB, GB, TB), such as \"50GiB\", or \"0B\" for no bound";
    input.text(right, |text| if text == "0B" { Some(0) } else { parse_size(text) })
}

fn address(input: Input<'_>) -> Checked<IpAddr> {
    input.text("an IP address such as \"127.0.0.1\", or \"localhost\"", grammar::parse_address)
}

fn host_names(input: Input<'_>) -> Checked<Vec<String>> {
    input.list("a host name without scheme and port, such as \"agent.example.com\"", grammar::parse_host_name)
}

fn origins(input: Input<'_>) -> Checked<Vec<String>> {
    input.list(
        "a scheme, host and port without a path, such as \"https://ops.example.com\"",
        grammar::parse_origin,
    )
}

fn public_keys(input: Input<'_>) -> Checked<Vec<String>> {
    input.list("a minisign public key: the 56 characters that begin with RW", own(grammar::is_public_key))
}

fn search_path(input: Input<'_>) -> Checked<String> {
    input
        .text("absolute folders separated by colons, such as \"/usr/bin:/bin\"", own(grammar::is_search_path))
}

fn leftovers(input: Input<'_>) -> Checked<Leftovers> {
    input.text("\"kill\" or \"report\"", |text| match text {
        "kill" => Some(Leftovers::Kill),
        "report" => Some(Leftovers::Report),
        _ => None,
    })
}

fn log_format(input: Input<'_>) -> Checked<LogFormat> {
    input.text("\"auto\", \"text\" or \"json\"", |text| match text {
        "auto" => Some(LogFormat::Auto),
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    })
}
