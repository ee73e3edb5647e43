//! A disk that is full, and has room again. It is a small memory file system, mounted where only a helper process sees
//! it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use task_service::{SubmitError, TaskSpec, TaskStatus};

use crate::support::{open, soon, spec, with_id};

/// Where the helper process finds the small file system; unset, this binary is an ordinary test.
const SMALL: &str = "TASK_SERVICE_SMALL_DISK";

/// Runs the helper on a file system of its own, in a mount namespace that vanishes with it.
#[test]
fn a_full_disk_refuses_tasks_loses_none_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$TASK_SERVICE_SMALL_DISK\" && exec \"$@\"";
    let ran = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "disk::helper_process_on_the_small_disk", "--nocapture"])
        .env(SMALL, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    if !said.contains("the small disk is there") {
        println!(
            "THIS HOST GIVES NO MOUNT NAMESPACE ({}): a full disk was not tried",
            String::from_utf8_lossy(&ran.stderr).trim()
        );
        return;
    }
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
}

/// Fills the disk to the last byte.
fn fill(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    for size in [65_536, 512, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn helper_process_on_the_small_disk() {
    let Ok(state) = std::env::var(SMALL) else {
        return;
    };
    println!("the small disk is there");
    let state = Path::new(&state);
    let (service, manual) = open(state, 2, 100).await;
    soon(service.submit(with_id("before"), "tester")).await.unwrap();
    let before = manual.next().await;

    fill(&state.join("filler"));
    let large = || TaskSpec { stdin: Some("x".repeat(200_000)), ..spec(json!({})) };
    let error = soon(service.submit(large(), "tester")).await.unwrap_err();
    assert!(matches!(error, SubmitError::Unavailable(_)), "{error}");
    assert_eq!((service.stats().running, service.stats().queued), (1, 0), "the refused task holds no place");
    // What was written before can be read, and a task that ends meanwhile is not told to have ended.
    assert_eq!(service.task(&"before".parse().unwrap()).await.unwrap().unwrap().status, TaskStatus::Running);
    let mut large_end = crate::support::exited(0);
    large_end.output_params.insert("big".to_owned(), "y".repeat(60_000));
    before.driver.finish(large_end.clone());
    soon(async {
        while service.stats().unwritten == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(service.task(&"before".parse().unwrap()).await.unwrap().unwrap().status, TaskStatus::Running);

    std::fs::remove_file(state.join("filler")).unwrap();
    let ended = soon(service.wait(&"before".parse().unwrap())).await.unwrap().unwrap();
    assert_eq!((ended.status, &*ended.result.unwrap()), (TaskStatus::Succeeded, &large_end));
    // Its runner could not write the record, and nobody but the service can do that later.
    assert!(state.join("tasks/before/result.json").is_file());
    let after = soon(service.submit(large(), "tester")).await.unwrap();
    assert!(after.created);
    manual.next().await.exit(0);
    assert_eq!(soon(service.wait(&after.task.id)).await.unwrap().unwrap().status, TaskStatus::Succeeded);
    let stats = service.stats();
    assert_eq!((stats.unwritten, stats.running, stats.queued), (0, 0, 0));
}
