//! `agent-cli task submit`: hands the service a task.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::args::{Global, SubmitArgs};
use crate::asked::pairs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, say};
use crate::task::logs;
use crate::terminal::escaped_line;

/// Submits a task, and follows it where that is asked for.
pub(crate) fn submit(global: &Global, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    submitted(global, args).map_err(|failure| if args.follow { failure.beside_a_script() } else { failure })
}

fn submitted(global: &Global, args: &SubmitArgs) -> Result<ExitCode, Failure> {
    let spec = spec(args)?;
    let client = Client::new(global, &args.server)?;
    let task = client.post("/api/v1/tasks", Some(&spec))?;
    let id = task["id"].as_str().unwrap_or_default();
    if args.follow {
        say(&format!("task {}", escaped_line(id)));
        return logs::follow(&client, id, false);
    }
    if args.json {
        output::print_json(&task);
    } else {
        output::print(&escaped_line(id));
    }
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
    ] {
        let pairs = pairs(field, option, texts, &mut problems);
        if !pairs.is_empty() {
            spec.insert(field.to_owned(), pairs.into());
        }
    }
    if !problems.is_empty() {
        return Err(Failure::misspelt(&problems));
    }
    let texts = [
        ("id", &args.id),
        ("timeout", &args.timeout),
        ("work_dir", &args.work_dir),
        ("confirm", &args.confirm),
    ];
    for (field, value) in texts.into_iter().filter_map(|(field, value)| Some((field, value.as_ref()?))) {
        spec.insert(field.to_owned(), json!(value));
    }
    if args.debug_script {
        spec.insert("debug_script".to_owned(), json!(true));
    }
    Ok(spec.into())
}
