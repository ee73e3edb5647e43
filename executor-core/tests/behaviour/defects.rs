//! Code of the embedding program that panics on an execution's thread harms that execution at most.

use std::sync::Arc;

use executor_core::{
    ExecuteScriptRequest, Outcome, ResolvedScript, ScriptFolder, ScriptName, ScriptSource, StartError,
};
use tracing::span;

use crate::bench::{Bench, both_scopes, live_with, task_id, unique_sleep};

/// Gives scripts of a folder; panics where it is told to.
struct Panicking {
    folder: ScriptFolder,
    in_resolve: bool,
}

/// Panics when it is dropped.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        panic!("a pin that panics");
    }
}

impl ScriptSource for Panicking {
    fn resolve(&self, name: &ScriptName) -> Result<ResolvedScript, StartError> {
        assert!(!self.in_resolve, "a source that panics");
        Ok(ResolvedScript { pin: Some(Box::new(PanicsOnDrop)), ..self.folder.resolve(name)? })
    }
}

#[test]
fn a_source_that_panics_is_an_error_of_that_start() {
    let bench = Bench::new();
    let source = Panicking { folder: ScriptFolder::new(bench.path("scripts")), in_resolve: true };
    let name = bench.script("good.sh", "exit 0");
    let executor = bench.executor();
    let error = bench.refusal(&executor, ExecuteScriptRequest::new(&name).source(Arc::new(source)));
    assert_eq!((error.code(), error.command_line_code()), ("host_failed", 125));
    assert!(executor.running().is_empty());
    assert!(bench.run_on(&executor, ExecuteScriptRequest::new(&name)).0.success);
}

#[test]
fn a_pin_that_panics_when_it_is_dropped_leaves_neither_a_running_entry_nor_a_waiter_behind() {
    let bench = Bench::new();
    let source = Panicking { folder: ScriptFolder::new(bench.path("scripts")), in_resolve: false };
    let executor = bench.executor();
    let request =
        ExecuteScriptRequest::new(bench.script("good.sh", "exit 0")).source(Arc::new(source)).id("t1");
    let execution = bench.start_on(&executor, request);
    bench.wait(&execution);
    assert!(executor.running().is_empty());
    assert_eq!(bench.records().read_result(&task_id("t1")).unwrap().unwrap().exit_code, Some(0));
    bench.runtime.block_on(executor.close());
}

/// A subscriber that panics when the engine tells of an execution whose id says so.
struct PanickingSubscriber;

impl tracing::Subscriber for PanickingSubscriber {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text += &format!("{}={value:?} ", field.name());
        });
        assert!(
            !(text.contains("panic-when-started") && text.contains("message=started")),
            "a subscriber that panics"
        );
    }
}

#[test]
fn a_panic_while_a_script_is_watched_ends_the_script_and_gives_its_task_a_result() {
    // For the whole program; ids of other tests do not concern it.
    tracing::subscriber::set_global_default(PanickingSubscriber).unwrap();
    both_scopes("a panic on the execution's thread", |scope| {
        let bench = Bench::new();
        let sleep = unique_sleep();
        let executor = bench.builder().kill_scope(scope).build().unwrap();
        let name = bench.script("slow.sh", &format!("(trap '' TERM; sleep {sleep}) & sleep {sleep}"));
        let id = "panic-when-started";
        let execution = bench.start_on(&executor, ExecuteScriptRequest::new(name).id(id));
        let result = bench.wait(&execution);
        assert_eq!(result.outcome, Outcome::Interrupted);
        assert_eq!(result.error.as_ref().unwrap().code, "agent_failed");
        assert!(executor.running().is_empty());
        assert_eq!(bench.records().read_result(&task_id(id)).unwrap().as_ref(), Some(&*result));
        assert_eq!(live_with(&sleep), [] as [i32; 0]);
        assert_eq!(result.kill_scope, Some(scope));
        assert!(result.containment.is_some() && !result.command.is_empty(), "{result:?}");
    });
}
