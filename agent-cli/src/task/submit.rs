//! `agent-cli task submit`: hands the service a task.

use std::process::ExitCode;

use serde_json::{Map, Value, json};
use task_runners::{ExposeSecret, Problem, Secrets};

use crate::args::{Global, RerunArgs, SubmitArgs};
use crate::asked::pairs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, say};
use crate::secrets;
use crate::task::{logs, path};
use crate::terminal::escaped_line;

/// What the service calls it that it has no script of that name.
const NO_SUCH_SCRIPT: &str = "not_found";

/// Submits a task, and follows it where that is asked for.
pub(crate) fn submit(global: &Global, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    submitted(global, args)
        .map_err(|failure| if args.new.follow { failure.beside_a_script() } else { failure })
}

fn submitted(global: &Global, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    let spec = spec(args)?;
    let client = Client::new(global, &args.server)?;
    let task = client.post("/api/v1/tasks", Some(&spec)).map_err(|failure| match failure.refusal() {
        NO_SUCH_SCRIPT => failure.with_hints(vec![where_scripts_are(&client, args)]),
        _ => failure,
    })?;
    say_seen(&task, &args.params);
    told(&client, &task, args.new.follow, args.new.json)
}

/// Submits a task as another one was submitted, and follows it where that is asked for.
pub(crate) fn rerun(global: &Global, args: &RerunArgs) -> Result<ExitCode, Failure> {
    let submitted = || {
        let client = Client::new(global, &args.one.server)?;
        let body = args.new.confirm.as_ref().map(|name| json!({ "confirm": name }));
        let task = client.post(&path(&args.one.id, "/rerun"), body.as_ref())?;
        told(&client, &task, args.new.follow, args.new.json)
    };
    submitted().map_err(|failure| if args.new.follow { failure.beside_a_script() } else { failure })
}

/// Which command shows the scripts that the task might have been meant for.
fn where_scripts_are(client: &Client, args: &SubmitArgs) -> String {
    let place = match (&args.node, args.node_labels.as_slice()) {
        (Some(node), _) => format!(" --node {node}"),
        (None, labels) => labels.iter().map(|label| format!(" --node-label {label}")).collect(),
    };
    format!("agent-cli list --server {}{place} shows the scripts there", client.address())
}

/// Prints the id of a task that was accepted, or all of it, or follows it.
fn told(client: &Client, task: &Value, follow: bool, json: bool) -> Result<ExitCode, Failure> {
    if json && !follow {
        output::print_json(task);
        return Ok(ExitCode::SUCCESS);
    }
    let id = task["id"].as_str().unwrap_or_default();
    if follow {
        say(&format!("task {}", escaped_line(id)));
        return logs::follow(client, id, false);
    }
    output::print(&escaped_line(id));
    Ok(ExitCode::SUCCESS)
}

/// The spec as JSON. What is wrong with its values the service says, in the same words as everywhere.
fn spec(args: &SubmitArgs) -> Result<Value, Failure> {
    let mut words = args.words.iter();
    let mut spec = Map::new();
    spec.insert("name".to_owned(), json!(words.next()));
    let rest: Vec<&String> = words.collect();
    if !rest.is_empty() {
        spec.insert("args".to_owned(), json!(rest));
    }
    let mut problems = Vec::new();
    for (field, option, texts) in [
        ("params", "--param", &args.params),
        ("env", "--env", &args.env),
        ("labels", "--label", &args.labels),
        ("target", "--node-label", &args.node_labels),
    ] {
        let pairs = pairs(field, option, texts, &mut problems);
        if !pairs.is_empty() {
            let value = if field == "target" { json!({ "labels": pairs }) } else { pairs.into() };
            spec.insert(field.to_owned(), value);
        }
    }
    add_secrets(&secrets::read(&args.secrets, &mut problems), &mut spec, &mut problems);
    if !problems.is_empty() {
        return Err(Failure::misspelt(&problems));
    }
    let texts = [
        ("id", &args.id),
        ("timeout", &args.timeout),
        ("unreachable_after", &args.unreachable_after),
        ("work_dir", &args.work_dir),
        ("on_busy", &args.on_busy),
        ("confirm", &args.new.confirm),
    ];
    for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        spec.insert(field.to_owned(), json!(value));
    }
    if let Some(node) = &args.node {
        spec.insert("target".to_owned(), json!({ "node": node }));
    }
    if let Some(retries) = args.retries {
        spec.insert("retries".to_owned(), json!(retries));
    }
    if args.debug_script {
        spec.insert("debug_script".to_owned(), json!(true));
    }
    Ok(spec.into())
}

/// Secrets travel among the parameters; that they are held to be secret is said beside, so that the service takes them as
/// nothing else.
fn add_secrets(secrets: &Secrets, spec: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
    if secrets.is_empty() {
        return;
    }
    spec.insert("secrets".to_owned(), json!(secrets));
    let params = spec.entry("params").or_insert_with(|| json!({}));
    for name in secrets.names() {
        if !params[name].is_null() {
            let field = format!("params.{}", name.escape_debug());
            problems.push(Problem::new(field, "duplicate", "given once, by --param or by --secret"));
        } else if let Some(value) = secrets.get(name) {
            params[name] = value.expose_secret().into();
        }
    }
}

/// Only the service knows which parameters are secret, and has taken the task by now.
fn say_seen(task: &Value, params: &[String]) {
    let secrets = task["spec"]["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let is_seen =
        |name: &&str| params.iter().any(|param| param.split_once('=').is_some_and(|(p, _)| p == *name));
    for name in secrets.filter(is_seen) {
        let name = escaped_line(name);
        say(&format!(
            "note: {name} is a secret, and --param shows it to every user of this host: --secret {name}=@FILE does not"
        ));
    }
}
