//! Finding tasks by words.

use proptest::prelude::*;
use serde_json::json;
use task_service::{Search, Task, TaskFilter, TaskSpec, TaskStatus};

use crate::support::{Bench, Started, exited, open, soon, spec};

fn wanted(text: &str) -> TaskFilter {
    TaskFilter { search: Some(text.parse().unwrap()), ..TaskFilter::default() }
}

async fn found(bench: &Bench, filter: TaskFilter) -> Vec<String> {
    let page = soon(bench.service.list(filter, 100, None)).await.unwrap();
    assert_eq!(page.next, None);
    page.tasks.iter().map(|task| task.id.to_string()).collect()
}

/// Three tasks: one that runs, one that failed, one that succeeded, newest first.
async fn three(bench: &Bench) -> Started {
    bench
        .submit(spec(
            json!({"id": "good-1", "labels": {"team": "Web-Shop"}, "params": {"version": "v1.2", "n": 7},
            "on_behalf_of": "Ärger & Söhne", "env": {"HIDDEN": "variable"}, "stdin": "standard"}),
        ))
        .await;
    bench.manual.next().await.exit(0);
    bench.wait("good-1").await;
    bench.submit(spec(json!({"id": "bad-1", "args": ["--region", "eu_west"], "params": {"list": ["Alpha", {"deep": true}]}}))).await;
    let mut result = exited(3);
    result.error =
        Some(task_service::ErrorReport { code: "disk_full".into(), message: "no space left".into() });
    bench.manual.next().await.driver.finish(result);
    bench.wait("bad-1").await;
    bench.submit(spec(json!({"id": "runs-1", "work_dir": "shared"}))).await;
    bench.manual.next().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_by_what_it_was_asked_with_and_by_what_went_wrong() {
    let bench = Bench::new(1, 10).await;
    let runs = three(&bench).await;
    for (text, expected) in [
        ("manual", vec!["runs-1", "bad-1", "good-1"]),
        ("tester", vec!["runs-1", "bad-1", "good-1"]),
        ("1", vec!["runs-1", "bad-1", "good-1"]),
        ("good", vec!["good-1"]),
        ("GOOD-1", vec!["good-1"]),
        ("web shop", vec!["good-1"]),
        ("shop web", vec!["good-1"]),
        ("team v1", vec!["good-1"]),
        ("version v1.2", vec!["good-1"]),
        ("7", vec!["good-1"]),
        ("ärger SÖHNE", vec!["good-1"]),
        ("region eu", vec!["bad-1"]),
        ("alpha deep true", vec!["bad-1"]),
        ("failed", vec!["bad-1"]),
        ("disk_full", vec!["bad-1"]),
        ("space lef", vec!["bad-1"]),
        ("shared", vec!["runs-1"]),
        // Only the last word may be a beginning.
        ("goo 1", vec![]),
        ("1 goo", vec!["good-1"]),
        ("good bad", vec![]),
        ("nothing", vec![]),
        // What is no part of it: variables, standard input, states that went well.
        ("hidden", vec![]),
        ("variable", vec![]),
        ("standard", vec![]),
        ("succeeded", vec![]),
    ] {
        assert_eq!(found(&bench, wanted(text)).await, expected, "{text}");
    }
    let failed = TaskFilter { statuses: vec![TaskStatus::Failed], ..wanted("manual") };
    assert_eq!(found(&bench, failed).await, ["bad-1"]);
    let labelled = TaskFilter { labels: [("team".into(), "Web-Shop".into())].into(), ..wanted("tester") };
    assert_eq!(found(&bench, labelled.clone()).await, ["good-1"]);
    assert_eq!(found(&bench, TaskFilter { search: Some("bad".parse().unwrap()), ..labelled }).await, [""; 0]);
    // The token's patterns hold for what is found too.
    let blind = TaskFilter {
        visible: Some(std::sync::Arc::new(|spec: &TaskSpec| !spec.args.is_empty())),
        ..wanted("manual")
    };
    assert_eq!(found(&bench, blind).await, ["bad-1"]);
    runs.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_found_by_nothing() {
    let bench = Bench::new(1, 10).await;
    bench.submit(spec(json!({"id": "t", "params": {"token": "canary4711", "plain": "seen4711"}}))).await;
    bench.manual.next().await.exit(1);
    bench.wait("t").await;
    // The twin: what is no secret is found.
    assert_eq!(found(&bench, wanted("seen4711")).await, ["t"]);
    assert_eq!(found(&bench, wanted("canary")).await, [""; 0]);
    soon(bench.service.drain(std::time::Duration::ZERO)).await;
    for entry in std::fs::read_dir(bench.state()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            assert!(!bytes.windows(6).any(|window| window == b"canary"), "{:?}", entry.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_is_not_found() {
    let bench = Bench::new(1, 10).await;
    let runs = three(&bench).await;
    let retention = nothing_kept(&bench);
    assert_eq!(bench.service.clean_up(&retention).await.unwrap().tasks, 2);
    assert_eq!(found(&bench, wanted("manual")).await, ["runs-1"]);
    assert_eq!(found(&bench, wanted("region")).await, [""; 0]);
    runs.exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_search_hold_each_task_once() {
    let bench = Bench::new(1, 100).await;
    let mut expected = Vec::new();
    for number in 0..30 {
        let labels = [("kind".to_owned(), ["even", "odd"][number % 2].to_owned())].into();
        let id = format!("t{number}");
        if number % 2 == 1 {
            expected.insert(0, id.clone());
        }
        let spec = TaskSpec { id: Some(id.parse().unwrap()), labels, ..TaskSpec::new("instant") };
        soon(bench.service.submit(spec, "tester")).await.unwrap();
        bench.wait(&id).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = bench.service.list(wanted("od"), 4, cursor).await.unwrap();
        seen.extend(page.tasks.iter().map(|task: &Task| task.id.to_string()));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_beginning_of_too_many_words_is_a_word_of_its_own() {
    let bench = Bench::new(1, 10).await;
    let words = |range: std::ops::Range<usize>| range.map(|n| format!("many{n:03}")).collect::<Vec<_>>();
    bench.submit(spec(json!({"id": "a", "args": words(0..200)}))).await;
    bench.manual.next().await.exit(0);
    bench.wait("a").await;
    assert_eq!(found(&bench, wanted("many")).await, ["a"]);
    bench.submit(spec(json!({"id": "b", "args": words(200..400)}))).await;
    bench.manual.next().await.exit(0);
    bench.wait("b").await;
    assert_eq!(found(&bench, wanted("many")).await, [""; 0]);
    assert_eq!(found(&bench, wanted("many3")).await, ["b"]);
}

#[test]
fn no_text_is_more_than_words() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::new(4, 100));
    let _runs = runtime.block_on(three(&bench));
    let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
    let operators =
        "[\"'*^(){}:+\\-,.;\\\\\0 ]{0,4}(AND|OR|NOT|NEAR|words|manual|\\PC){0,3}[\"'*^(){}:+\\-,.;\0 ]{0,4}";
    proptest!(config, |(text in prop_oneof![".*", operators, "(\\PC){0,20}"])| {
        if let Ok(search) = text.parse::<Search>() {
            let filter = TaskFilter { search: Some(search), ..TaskFilter::default() };
            runtime.block_on(bench.service.list(filter, 10, None)).unwrap();
        }
    });
    // What is found by its own text, whatever that is: all that a word may be is a word on both sides.
    proptest!(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() }, |(text in "\\PC{1,30}", id in 0_u32..u32::MAX)| {
        if text.parse::<Search>().is_ok() {
            runtime.block_on(async {
                let id = format!("p{id}");
                let labels = [("l".to_owned(), text.clone())].into();
                let spec = TaskSpec { id: Some(id.parse().unwrap()), labels, ..TaskSpec::new("instant") };
                bench.service.submit(spec, "tester").await.unwrap();
                let page = bench.service.list(wanted(&text), 100, None).await.unwrap();
                assert!(page.tasks.iter().any(|task| task.id.as_str() == id), "{text:?}");
            });
        }
    });
}

/// The tables as earlier versions of this agent made them, with a task in each state that matters.
const EARLIER: [&str; 2] = [include_str!("version_1.sql"), include_str!("version_2.sql")];
/// What was done to tables of version 2 to become those of version 3.
const TO_VERSION_3: &str = include_str!("to_version_3.sql");

#[tokio::test(flavor = "multi_thread")]
async fn the_tasks_of_earlier_versions_are_found_too() {
    for (version, step) in [(EARLIER[0], ""), (EARLIER[1], ""), (EARLIER[1], TO_VERSION_3)] {
        let folder = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(folder.path().join("agent.db")).unwrap();
        database.execute_batch(version).unwrap();
        database.execute_batch(step).unwrap();
        database.execute("INSERT INTO label (key, value, seq) VALUES ('team', 'web', 1)", []).unwrap();
        database
            .execute(
                r#"UPDATE task SET spec = '{"name":"manual","labels":{"team":"web"}}' WHERE seq = 1"#,
                [],
            )
            .unwrap();
        database.close().unwrap();
        let (service, manual) = open(folder.path(), 2, 10).await;
        let bench = Bench { service, manual, folder };
        bench.manual.next().await.exit(0);
        bench.wait("waits").await;
        assert_eq!(found(&bench, wanted("tester")).await, ["waits", "ran", "ended"]);
        assert_eq!(found(&bench, wanted("agent_died")).await, ["ran"]);
        let labels: std::collections::BTreeMap<_, _> = [("team".to_owned(), "web".to_owned())].into();
        assert_eq!(
            found(&bench, TaskFilter { labels: labels.clone(), ..wanted("team web") }).await,
            ["ended"]
        );
        let since = Some(jiff::Timestamp::from_nanosecond(1000).unwrap());
        assert_eq!(found(&bench, TaskFilter { since, ..TaskFilter::default() }).await.len(), 3);
        let bench = bench.reopen(2, 10).await;
        assert_eq!(found(&bench, wanted("tester")).await.len(), 3);
        // Labels and words go with their task.
        let bench = remove_everything(bench).await;
        assert_eq!([rows_of("label", &bench), rows_of("word", &bench)], [0, 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_among_the_words_of_a_huge_task_is_what_it_was_asked_with_and_not_why_it_failed() {
    let bench = Bench::new(1, 10).await;
    let words: Vec<String> = (0..1000).map(|n| format!("many{n:03}")).collect();
    bench.submit(spec(json!({"id": "huge", "args": words}))).await;
    bench.manual.next().await.exit(1);
    bench.wait("huge").await;
    assert_eq!(found(&bench, wanted("many100")).await, ["huge"]);
    assert_eq!(found(&bench, wanted("many999")).await, [""; 0]);
    assert_eq!(found(&bench, wanted("failed")).await, ["huge"]);
    assert_eq!(rows_of("word", &remove_everything(bench).await), 0);
}

/// A retention that keeps nothing of what has ended.
fn nothing_kept(bench: &Bench) -> task_service::Retention {
    let nothing = std::time::Duration::ZERO;
    task_service::Retention {
        tasks: nothing,
        max_tasks: 0,
        max_bytes: 0,
        workspaces: nothing,
        max_workspaces: 0,
        max_workspace_bytes: 0,
        work_dir: bench.state().join("workspace"),
    }
}

/// Removes all tasks, and stops.
async fn remove_everything(bench: Bench) -> Bench {
    let retention = nothing_kept(&bench);
    bench.service.clean_up(&retention).await.unwrap();
    assert_eq!(bench.service.list(TaskFilter::default(), 1, None).await.unwrap().tasks, []);
    soon(bench.service.drain(std::time::Duration::ZERO)).await;
    bench
}

fn rows_of(table: &str, bench: &Bench) -> i64 {
    let database = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    database.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}
