//! Many submissions at once share transactions.

use std::sync::atomic::Ordering;

use crate::support::{Bench, soon, with_id};

/// Submissions in each test.
const MANY: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn submissions_that_arrive_together_share_commits() {
    let bench = Bench::new(1, 100).await;
    // Somebody else writes: whatever arrives meanwhile waits for the same transaction.
    let other = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = bench.service.stats().commits;
    let submissions: Vec<_> = (0..MANY)
        .map(|number| {
            let service = bench.service.clone();
            tokio::spawn(async move { service.submit(with_id(&format!("t{number}")), "tester").await })
        })
        .collect();
    soon(async {
        while bench.manual.checks.load(Ordering::SeqCst) < MANY {
            tokio::task::yield_now().await;
        }
    })
    .await;
    other.execute_batch("ROLLBACK").unwrap();
    for submission in submissions {
        assert!(soon(submission).await.unwrap().unwrap().created);
    }
    let commits = bench.service.stats().commits - before;
    assert!((1..=16).contains(&commits), "{commits} commits for {MANY} submissions");
}

#[tokio::test(flavor = "multi_thread")]
async fn submissions_one_after_another_have_a_commit_each() {
    let bench = Bench::new(1, 100).await;
    let before = bench.service.stats().commits;
    for number in 0..MANY {
        bench.submit(with_id(&format!("t{number}"))).await;
    }
    assert_eq!(bench.service.stats().commits - before, MANY as u64);
}
