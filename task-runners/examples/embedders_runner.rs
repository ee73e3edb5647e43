//! Registers a runner that starts no script: it counts the words of a parameter, writes a log like any script
//! would, and hands the count back as an output parameter.
//!
//! ```text
//! cargo run --package task-runners --example embedders_runner -- "three little words"
//! ```
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::Arc;

use task_runners::{
    Completion, FunctionRunner, Problem, Records, RunnerRegistry, TaskHandle, TaskId, TaskOrder, TaskSpec,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::env::args().nth(1).unwrap_or_default();
    let state = tempfile::tempdir()?;
    let records = Records::open(state.path())?;

    let mut registry = RunnerRegistry::new();
    registry.register(Arc::new(word_counter(records)))?;

    let mut spec = TaskSpec::new("count_words");
    spec.params.insert("text".to_owned(), text.into());
    let runner = registry.get(&spec.name).ok_or("the runner was registered")?;
    runner.check(&spec)?;
    let order = TaskOrder {
        id: TaskId::generate(),
        spec: Arc::new(spec),
        pinned: None,
        attempt: 1,
        created_by: "example".to_owned(),
        unreachable_since: None,
        created_at: jiff::Timestamp::now(),
        is_taken_up: false,
        node: None,
    };
    let result = runner.start(order).await?.wait().await;
    println!("{}", serde_json::to_string_pretty(&*result)?);
    Ok(())
}

fn word_counter(records: Records) -> FunctionRunner {
    let work = |order: TaskOrder, task: TaskHandle| async move {
        let text = order.spec.params["text"].as_str().unwrap_or_default();
        let count = text.split_whitespace().count();
        task.write(format!("counted {count} words\n")).await;
        let output_params = BTreeMap::from([("WORDS".to_owned(), count.to_string())]);
        Completion { output_params, failure: None }
    };
    FunctionRunner::new("count_words", "Counts the words of a text.", records, work).check_with(|spec| {
        match spec.params.get("text") {
            Some(text) if text.is_string() => Vec::new(),
            _ => vec![Problem::new("params.text", "required", "the text whose words are counted")],
        }
    })
}
