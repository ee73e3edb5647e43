//! Pages of tasks, filters, and what is accepted while somebody pages.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use task_service::{Cursor, Task, TaskFilter, TaskSpec, TaskStatus};

use crate::support::{Bench, soon};

/// Submits a task that ends at once.
async fn add(bench: &Bench, number: usize, labels: &BTreeMap<String, String>) {
    let spec = TaskSpec {
        id: Some(format!("t{number}").parse().unwrap()),
        labels: labels.clone(),
        on_behalf_of: number.is_multiple_of(3).then(|| "Somebody Else".to_owned()),
        ..TaskSpec::new("instant")
    };
    let created_by = if number.is_multiple_of(3) { "alice" } else { "bob" };
    soon(bench.service.submit(spec, created_by)).await.unwrap();
    bench.wait(&format!("t{number}")).await;
}

async fn pages(bench: &Bench, filter: &TaskFilter, limit: usize) -> Vec<Task> {
    let (mut tasks, mut cursor) = (Vec::new(), None);
    loop {
        let page = soon(bench.service.list(filter.clone(), limit, cursor)).await.unwrap();
        assert!(page.tasks.len() <= limit);
        tasks.extend(page.tasks);
        // Through its text, as a caller of the API gives it back.
        match page.next.map(|next| next.to_string().parse::<Cursor>().unwrap()) {
            None => return tasks,
            next => cursor = next,
        }
    }
}

fn numbers(tasks: &[Task]) -> Vec<usize> {
    tasks.iter().map(|task| task.id.as_str()[1..].parse().unwrap()).collect()
}

#[test]
fn while_tasks_are_accepted_paging_gives_every_older_task_exactly_once() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(count in 0_usize..25, limit in 1_usize..9, inserts in prop::collection::vec(0_usize..4, 25))| {
        runtime.block_on(async {
            let bench = Bench::new(1, 100).await;
            for number in 0..count {
                add(&bench, number, &BTreeMap::new()).await;
            }
            let (mut seen, mut cursor, mut added) = (Vec::new(), None, count);
            for insert in inserts {
                let page = bench.service.list(TaskFilter::default(), limit, cursor).await.unwrap();
                seen.extend(numbers(&page.tasks));
                let Some(next) = page.next else { break };
                cursor = Some(next);
                for _ in 0..insert {
                    add(&bench, added, &BTreeMap::new()).await;
                    added += 1;
                }
            }
            let expected: Vec<usize> = (0..count).rev().collect();
            assert_eq!(seen, expected);
            bench.service.drain(std::time::Duration::ZERO).await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_gives_what_trying_it_on_every_task_gives() {
    let bench = Bench::new(2, 100).await;
    for number in 0..40 {
        let labels = [("team", ["web", "db"][number % 2]), ("tier", ["1", "2", "3"][number % 3])];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        add(&bench, number, &labels.into_iter().take(number % 3).collect()).await;
    }
    for number in 40..46 {
        let fields = json!({"id": format!("t{number}"), "labels": {"team": "web"}});
        bench.submit(crate::support::spec(fields)).await;
    }
    let all = pages(&bench, &TaskFilter::default(), 7).await;
    assert_eq!(numbers(&all), (0..46).rev().collect::<Vec<_>>());
    let since = all[20].created_at;
    let label = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let mut both = label("team", "web");
    both.extend(label("tier", "2"));
    let mut tried = 0;
    for statuses in [
        vec![],
        vec![TaskStatus::Queued],
        vec![TaskStatus::Succeeded, TaskStatus::Running],
        vec![TaskStatus::Lost],
    ] {
        for name in [None, Some("manual"), Some("instant"), Some("nobody")] {
            for labels in [BTreeMap::new(), label("team", "web"), both.clone(), label("team", "none")] {
                for created_by in [None, Some("alice"), Some("tester")] {
                    // Go's and other languages' zero times lie before all that the database holds.
                    let first = Some(jiff::Timestamp::MIN);
                    let all_times = [(None, None), (Some(since), None), (first, None), (None, Some("web"))];
                    for (since, search) in all_times {
                        let filter = TaskFilter {
                            statuses: statuses.clone(),
                            name: name.map(str::to_owned),
                            labels: labels.clone(),
                            created_by: created_by.map(str::to_owned),
                            since,
                            search: search.map(|text| text.parse().unwrap()),
                            ..TaskFilter::default()
                        };
                        let expected: Vec<usize> = numbers(
                            &all.iter().filter(|task| fits(&filter, task)).cloned().collect::<Vec<_>>(),
                        );
                        assert_eq!(numbers(&pages(&bench, &filter, 5).await), expected, "{filter:?}");
                        tried += usize::from(!expected.is_empty());
                    }
                }
            }
        }
    }
    assert!(tried > 20, "only {tried} filters gave anything");
}

fn fits(filter: &TaskFilter, task: &Task) -> bool {
    (filter.statuses.is_empty() || filter.statuses.contains(&task.status))
        && filter.name.as_ref().is_none_or(|name| *name == task.name)
        && filter.created_by.as_ref().is_none_or(|by| *by == task.created_by)
        && filter.since.is_none_or(|since| task.created_at >= since)
        && (filter.search.is_none() || task.spec.labels.values().any(|value| value == "web"))
        && filter.labels.iter().all(|(key, value)| task.spec.labels.get(key) == Some(value))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_holds_only_what_its_reader_may_see() {
    let bench = Bench::new(1, 100).await;
    for number in 0..30 {
        add(&bench, number, &BTreeMap::new()).await;
    }
    let filter = TaskFilter {
        visible: Some(std::sync::Arc::new(|spec: &TaskSpec| spec.on_behalf_of.is_some())),
        ..TaskFilter::default()
    };
    let expected: Vec<usize> = (0..30).rev().filter(|number: &usize| number.is_multiple_of(3)).collect();
    for limit in [1, 3, 10, 1000] {
        assert_eq!(numbers(&pages(&bench, &filter, limit).await), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_tasks_ends_early_and_the_next_one_goes_on() {
    let bench = Bench::new(1, 100).await;
    for number in 0..12 {
        let stdin = Some("x".repeat(1 << 20));
        let id = Some(format!("t{number}").parse().unwrap());
        soon(bench.service.submit(TaskSpec { id, stdin, ..TaskSpec::new("instant") }, "tester"))
            .await
            .unwrap();
    }
    let page = bench.service.list(TaskFilter::default(), 100, None).await.unwrap();
    assert!(page.tasks.len() < 12 && page.next.is_some());
    assert_eq!(numbers(&pages(&bench, &TaskFilter::default(), 100).await), (0..12).rev().collect::<Vec<_>>());
}
