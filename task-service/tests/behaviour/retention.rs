//! What has been kept long enough is removed, and nothing else.

mod bounds;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::json;
use task_service::{CleanUpError, Records, Removed, Retention, TaskFilter};

use crate::support::{Bench, exited, soon, spec, with_id};

/// Debian's user nobody.
const NOBODY: u32 = 65534;
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Keeps tasks for thirty days and workspaces for one.
pub(crate) fn retention(bench: &Bench) -> Retention {
    Retention {
        tasks: 30 * DAY,
        max_tasks: 0,
        max_bytes: 0,
        workspaces: DAY,
        max_workspaces: 0,
        max_workspace_bytes: 0,
        work_dir: work_dir(bench),
    }
}

pub(crate) fn work_dir(bench: &Bench) -> PathBuf {
    bench.state().join("workspace")
}

pub(crate) fn workspace(bench: &Bench, id: &str) -> PathBuf {
    work_dir(bench).join("tasks").join(id)
}

/// Makes the folder that a task works in, with files in it.
pub(crate) fn make_workspace(bench: &Bench, id: &str) {
    fs::create_dir_all(workspace(bench, id).join("deep/er")).unwrap();
    fs::write(workspace(bench, id).join("deep/er/file"), "x").unwrap();
}

/// Lets a folder look as if nothing had happened in it for so long.
pub(crate) fn age(folder: &Path, by: Duration) {
    File::open(folder).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

/// Lets a task and its folders be so much older.
pub(crate) fn age_task(bench: &Bench, id: &str, by: Duration) {
    let database = rusqlite::Connection::open(bench.state().join("agent.db")).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    let sql = "UPDATE task SET created_at = created_at - ?2, ended_at = ended_at - ?2 WHERE id = ?1";
    assert_eq!(database.execute(sql, rusqlite::params![id, by.as_nanos() as i64]).unwrap(), 1);
    for folder in [bench.state().join("tasks").join(id), workspace(bench, id)] {
        if folder.exists() {
            age(&folder, by);
        }
    }
}

/// A task that has ended, with record and workspace.
pub(crate) async fn ended(bench: &Bench, id: &str) {
    make_workspace(bench, id);
    bench.submit(spec(json!({"id": id, "labels": {"of": "test"}}))).await;
    bench.manual.next().await.exit(0);
    bench.wait(id).await;
    Records::open(&bench.state()).unwrap().write_result(&id.parse().unwrap(), &exited(0)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_needs_stays_until_it_is_let_go_of() {
    let bench = Bench::new(2, 10).await;
    for id in ["needed", "old", "new"] {
        ended(&bench, id).await;
    }
    age_task(&bench, "needed", 40 * DAY);
    age_task(&bench, "old", 31 * DAY);
    let needed = "needed".parse().unwrap();
    bench.service.hold(&needed);
    let tight = Retention { max_tasks: 1, max_bytes: 1, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&tight).await.unwrap().tasks, 2);
    assert!(bench.state().join("tasks/needed/result.json").exists());
    assert_eq!(bench.status("needed").await, "succeeded");

    bench.service.let_go_of(&needed);
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().tasks, 1);
    assert!(!bench.state().join("tasks/needed").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_tasks_go_with_record_and_workspace_when_their_time_has_come() {
    let bench = Bench::new(2, 10).await;
    for id in ["old", "middle", "new"] {
        ended(&bench, id).await;
    }
    age_task(&bench, "old", 31 * DAY);
    age_task(&bench, "middle", 2 * DAY);
    let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
    assert_eq!(removed, Removed { tasks: 1, records: 1, workspaces: 2 });
    let left = |id: &str| {
        let record = bench.state().join("tasks").join(id).join("result.json");
        (record.exists(), workspace(&bench, id).exists())
    };
    assert_eq!([left("old"), left("middle"), left("new")], [(false, false), (true, false), (true, true)]);
    let labelled = TaskFilter { labels: [("of".to_owned(), "test".to_owned())].into(), ..Default::default() };
    let page = bench.service.list(labelled, 10, None).await.unwrap();
    assert_eq!(page.tasks.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["new", "middle"]);
    assert_eq!(bench.service.task(&"old".parse().unwrap()).await.unwrap(), None);
    // Its id is free again, as if it had never been.
    assert!(soon(bench.service.submit(with_id("old"), "tester")).await.unwrap().created);
    bench.manual.next().await.exit(0);
    bench.wait("old").await;
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap(), Removed::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_go_with_their_task_and_not_while_the_next_one_is_waited_for() {
    let (bench, clock) = Bench::stopped(2, 10).await;
    let attempts = bench.state().join("tasks/t/attempts");
    bench.submit(spec(json!({"id": "t", "retries": 1}))).await;
    bench.manual.next().await.exit(1);
    soon(bench.service.wait_attempt(&"t".parse().unwrap(), 1)).await.unwrap();
    age(&bench.state().join("tasks/t"), 400 * DAY);
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap(), Removed::default());
    assert!(attempts.join("1/stdout.txt").exists());
    clock.advance(DAY);
    bench.manual.next().await.exit(0);
    bench.wait("t").await;
    age_task(&bench, "t", 31 * DAY);
    let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
    assert_eq!((removed.tasks, removed.records, attempts.exists()), (1, 1, false));
    // One that no row knows has nobody who would try it again.
    let records = Records::open(&bench.state()).unwrap();
    records.set_aside(&"lost".parse().unwrap(), 1, &exited(1)).unwrap();
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().records, 0);
    age(&bench.state().join("tasks/lost"), 31 * DAY);
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().records, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_ended_stays_however_old_it_is() {
    let bench = Bench::new(1, 10).await;
    for id in ["runs", "waits"] {
        make_workspace(&bench, id);
        bench.submit(with_id(id)).await;
    }
    let running = bench.manual.next().await;
    for id in ["runs", "waits"] {
        age_task(&bench, id, 400 * DAY);
    }
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap(), Removed::default());
    running.exit(0);
    bench.manual.next().await.exit(0);
    for id in ["runs", "waits"] {
        assert_eq!(bench.wait(id).await.status.as_str(), "succeeded");
        assert!(workspace(&bench, id).exists());
    }
    // They ended just now, although they were accepted long ago.
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().tasks, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_no_row_knows_go_when_they_are_old_and_their_task_has_ended() {
    let bench = Bench::new(1, 10).await;
    let records = Records::open(&bench.state()).unwrap();
    // Runs on the command line: one ended long ago, one just now, one goes on; and a workspace whose record is gone.
    for id in ["ended", "fresh", "goes-on"] {
        records.create(&id.parse().unwrap()).unwrap();
        make_workspace(&bench, id);
    }
    make_workspace(&bench, "left");
    for id in ["ended", "fresh"] {
        records.write_result(&id.parse().unwrap(), &exited(0)).unwrap();
    }
    for id in ["ended", "goes-on"] {
        age(&bench.state().join("tasks").join(id), 31 * DAY);
    }
    for id in ["ended", "goes-on", "left"] {
        age(&workspace(&bench, id), 31 * DAY);
    }
    let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
    assert_eq!(removed, Removed { tasks: 0, records: 1, workspaces: 2 });
    for id in ["fresh", "goes-on"] {
        assert!(records.folder(&id.parse().unwrap()).exists() && workspace(&bench, id).exists(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_for_ever_is_kept() {
    let bench = Bench::new(1, 10).await;
    ended(&bench, "old").await;
    age_task(&bench, "old", 100 * 365 * DAY);
    let for_ever = Retention { tasks: Duration::MAX, workspaces: Duration::MAX, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&for_ever).await.unwrap(), Removed::default());
    assert!(bench.service.task(&"old".parse().unwrap()).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_are_forgotten_a_few_at_a_time_while_tasks_are_accepted() {
    let bench = Bench::new(4, 1000).await;
    let instant = || task_service::TaskSpec::new("instant");
    for _ in 0..300 {
        let task = soon(bench.service.submit(instant(), "tester")).await.unwrap().task;
        soon(bench.service.wait(&task.id)).await.unwrap();
    }
    let commits = bench.service.stats().commits;
    let everything = Retention { tasks: Duration::ZERO, ..retention(&bench) };
    let (removed, submitted) = tokio::join!(
        bench.service.clean_up(&everything),
        bench.service.submit(with_id("meanwhile"), "tester")
    );
    assert_eq!(removed.unwrap().tasks, 300);
    assert!(submitted.unwrap().created);
    assert!(bench.service.stats().commits - commits >= 5, "in one commit, others would wait for all of it");
    assert_eq!(bench.service.list(TaskFilter::default(), 1000, None).await.unwrap().tasks.len(), 1);
    bench.manual.next().await.exit(0);
}

/// The ids of the history, oldest first.
async fn ids(bench: &Bench) -> Vec<String> {
    let page = bench.service.list(TaskFilter::default(), 1000, None).await.unwrap();
    page.tasks.iter().rev().map(|task| task.id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_half_removed_goes_in_the_next_round() {
    let bench = Bench::new(1, 10).await;
    ended(&bench, "old").await;
    // Died behind the putting away, before the row was forgotten; and within the removal.
    let tasks = bench.state().join("tasks");
    fs::rename(tasks.join("old"), tasks.join(".leaving-old")).unwrap();
    let half = work_dir(&bench).join("tasks/.leaving-gone");
    fs::create_dir_all(half.join("deep")).unwrap();
    age_task(&bench, "old", 31 * DAY);
    let bench = bench.reopen(1, 10).await;
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().tasks, 1);
    assert!(!tasks.join(".leaving-old").exists() && !half.exists());
    assert_eq!(ids(&bench).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_place_of_all_working_folders_leads_the_removal_nowhere() {
    let bench = Bench::new(1, 10).await;
    let decoy = tempfile::tempdir().unwrap();
    ended(&bench, "old").await;
    age_task(&bench, "old", 31 * DAY);
    fs::create_dir(decoy.path().join("old")).unwrap();
    fs::write(decoy.path().join("old/precious"), "x").unwrap();
    age(&decoy.path().join("old"), 31 * DAY);
    fs::rename(work_dir(&bench).join("tasks"), work_dir(&bench).join("moved")).unwrap();
    std::os::unix::fs::symlink(decoy.path(), work_dir(&bench).join("tasks")).unwrap();
    assert!(bench.service.clean_up(&retention(&bench)).await.is_err());
    assert!(decoy.path().join("old/precious").exists());
    // The twin: the same folder in its own place goes.
    fs::remove_file(work_dir(&bench).join("tasks")).unwrap();
    fs::rename(work_dir(&bench).join("moved"), work_dir(&bench).join("tasks")).unwrap();
    assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().workspaces, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_cleans_up_by_itself_and_stops_doing_so_with_its_end() {
    let bench = Bench::new(1, 10).await;
    ended(&bench, "old").await;
    age_task(&bench, "old", 31 * DAY);
    bench.service.keep_clean(retention(&bench));
    soon(async {
        while bench.service.task(&"old".parse().unwrap()).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(bench.service.drain(Duration::ZERO)).await;
    assert_eq!(bench.service.clean_up(&retention(&bench)).await, Err(CleanUpError::Stopped));
}

/// Without root, for which there are no folders that it may not write.
#[test]
fn folders_that_a_script_made_read_only_go_too() {
    if tempfile::tempdir().unwrap().path().metadata().unwrap().uid() == 0 {
        println!("tier: root, the same is done in a process of user {NOBODY}");
        // The build's folder may be closed to others.
        let area = tempfile::tempdir().unwrap();
        let program = area.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        std::os::unix::fs::chown(area.path(), Some(NOBODY), None).unwrap();
        let mut command = std::process::Command::new(&program);
        command.args(["--exact", "retention::folders_that_a_script_made_read_only_go_too"]);
        command.env("TMPDIR", area.path()).current_dir("/").uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new(1, 10).await;
        ended(&bench, "old").await;
        age_task(&bench, "old", 31 * DAY);
        for folder in ["deep/er", "deep"] {
            let folder = workspace(&bench, "old").join(folder);
            fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
        }
        assert_eq!(bench.service.clean_up(&retention(&bench)).await.unwrap().workspaces, 1);
        assert!(!workspace(&bench, "old").exists());
    });
}

#[test]
fn a_folder_that_cannot_be_put_away_keeps_no_other() {
    const WITHIN: &str = "DEVOPS_AGENT_TEST_OWN_MOUNTS";
    if std::env::var_os(WITHIN).is_none() {
        // Mounts of its own, which go with it.
        let mut command = std::process::Command::new("unshare");
        command.args(["--map-root-user", "--mount"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", "retention::a_folder_that_cannot_be_put_away_keeps_no_other"]);
        let output = command.env(WITHIN, "1").output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::new(1, 10).await;
        for id in ["a", "b", "c", "d"] {
            ended(&bench, id).await;
            age_task(&bench, id, 31 * DAY);
        }
        let stuck = [workspace(&bench, "b"), bench.state().join("tasks/c")];
        for folder in &stuck {
            let mounted =
                std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(folder).status();
            assert!(mounted.unwrap().success());
            age(folder, 31 * DAY);
        }
        let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
        // Whose record cannot be looked into may run yet, as far as its workspace can tell.
        assert_eq!(removed, Removed { tasks: 4, records: 3, workspaces: 2 });
        for folder in &stuck {
            assert!(std::process::Command::new("umount").arg(folder).status().unwrap().success());
            age(folder, 31 * DAY);
        }
        let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
        assert_eq!(removed, Removed { tasks: 0, records: 1, workspaces: 2 });
    });
}
