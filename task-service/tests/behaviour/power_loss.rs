//! What is acknowledged was flushed before: seen in the order of the system calls, by strace.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;

use crate::support::{open, soon, spec, with_id};

/// Where the helper process finds the state folder; unset, this binary is an ordinary test.
const STATE: &str = "TASK_SERVICE_FLUSH_STATE";
/// The words of the helper, in its order.
const WORDS: [&str; 2] = ["the task is accepted", "the task has ended"];

/// The process that is watched.
#[tokio::test(flavor = "multi_thread")]
async fn helper_process_that_is_watched_while_it_writes() {
    let Ok(state) = std::env::var(STATE) else {
        return;
    };
    let (service, manual) = open(Path::new(&state), 1, 10).await;
    soon(service.submit(with_id("watched"), "tester")).await.unwrap();
    println!("{}", WORDS[0]);
    manual.next().await.exit(0);
    soon(service.wait(&"watched".parse().unwrap())).await.unwrap();
    println!("{}", WORDS[1]);
}

#[test]
fn a_task_is_acknowledged_and_its_end_told_only_after_both_were_flushed() {
    let Some((_, calls)) = watched("helper_process_that_is_watched_while_it_writes") else { return };
    assert_eq!(unflushed_words(&calls), Ok(Vec::<&str>::new()), "{calls}");
}

/// The process that writes much at once.
#[tokio::test(flavor = "multi_thread")]
async fn helper_process_that_is_watched_while_many_tasks_come_together() {
    let Ok(state) = std::env::var(STATE) else {
        return;
    };
    let (service, _manual) = open(Path::new(&state), 1, 2000).await;
    for turn in 0..20_u64 {
        let mut together = tokio::task::JoinSet::new();
        for number in 0..64 {
            // Words that lie far from each other in their index.
            let word = |salt: u64| (turn * 64 + number + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let labels = [("a", 1), ("b", 2), ("c", 3)]
                .map(|(label, salt)| (label, format!("{:x}", word(salt << 32))));
            let task = spec(serde_json::json!({"labels": BTreeMap::from(labels)}));
            let service = service.clone();
            together.spawn(async move { service.submit(task, "tester").await });
        }
        for submitted in soon(together.join_all()).await {
            submitted.unwrap();
        }
    }
}

#[test]
fn nothing_of_a_task_is_written_anywhere_but_into_the_state_folder() {
    let Some((state, calls)) = watched("helper_process_that_is_watched_while_many_tasks_come_together")
    else {
        return;
    };
    let writes = |call: &&str| call.contains("pwrite64(");
    let is_elsewhere = |call: &&str| !call.contains(&format!("<{state}/"));
    assert!(calls.lines().filter(writes).count() > 100, "{calls}");
    let elsewhere: Vec<&str> = calls.lines().filter(writes).filter(is_elsewhere).take(3).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
}

/// Runs one of the helper processes, and gives its state folder and what it wrote and flushed.
fn watched(helper: &str) -> Option<(String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (state, trace) = (folder.path().join("state"), folder.path().join("trace"));
    let ran = Command::new("strace")
        .args(["-f", "-y", "-s", "64", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("power_loss::{helper}"), "--nocapture"])
        .env(STATE, &state)
        .output();
    let Ok(ran) = ran else {
        println!("THERE IS NO strace ON THIS HOST: the order of flushes was not looked at");
        return None;
    };
    let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    Some((state.display().to_string(), std::fs::read_to_string(&trace).unwrap()))
}

#[test]
fn words_that_come_before_the_flush_would_be_noticed() {
    let log = "</state/agent.db-wal>";
    let good = format!(
        "1 pwrite64(7{log}, \"\", 24, 0) = 24\n1 fdatasync(7{log}) = 0\n2 write(1<pipe:[1]>, \"{}\\n\", 21) = 21\n\
         1 pwrite64(7{log}, \"\", 24, 24) = 24\n1 fdatasync(7{log} <unfinished ...>\n1 <... fdatasync resumed>) = 0\n\
         2 write(1<pipe:[1]>, \"{}\\n\", 19) = 19\n",
        WORDS[0], WORDS[1]
    );
    assert_eq!(unflushed_words(&good), Ok(Vec::new()));
    let without_the_last = good.replace("1 <... fdatasync resumed>) = 0\n", "");
    assert_eq!(unflushed_words(&without_the_last), Ok(vec![WORDS[1]]));
    assert!(unflushed_words("").is_err());
}

/// The words before which something was written to the database and not flushed. An error when a word is missing, or
/// nothing was written before it at all: then this has seen nothing.
fn unflushed_words(calls: &str) -> Result<Vec<&'static str>, String> {
    let mut words = WORDS.iter().copied().peekable();
    let (mut dirty, mut written, mut unflushed) = (false, false, Vec::new());
    let mut flushing = HashSet::new();
    for call in calls.lines() {
        let thread = call.split(' ').next().unwrap_or_default();
        let on_database = call.contains("agent.db-wal>");
        if on_database && call.contains("write") {
            (dirty, written) = (true, true);
        } else if on_database && call.contains("sync(") {
            // A flush counts from its end.
            if call.contains("<unfinished") {
                flushing.insert(thread);
            } else {
                dirty = false;
            }
        } else if call.contains("sync resumed>") && flushing.remove(thread) {
            dirty = false;
        } else if let Some(word) = words.next_if(|word| call.contains("write(1<") && call.contains(*word)) {
            if !std::mem::take(&mut written) {
                return Err(format!("nothing was written before '{word}'"));
            }
            if dirty {
                unflushed.push(word);
            }
        }
    }
    words.next().map_or(Ok(unflushed), |word| Err(format!("'{word}' was never said")))
}
