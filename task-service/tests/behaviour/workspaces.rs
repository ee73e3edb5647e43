//! Folders that tasks worked in are removed by age, number and bytes, whatever scripts left in them, and those that are in
//! use are not.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, mkdirat};
use task_service::{Records, Removed, Retention, TaskSpec};

use crate::retention::{DAY, age, age_task, ended, make_workspace, retention, workspace};
use crate::support::{Bench, exited, soon, with_id};

/// Blocks of a disk, and what folders and entries take, differ; what is written here is far more.
const MIB: u64 = 1 << 20;

/// Tasks that ended one after the other, each with so many bytes in the folder that it worked in.
async fn ended_with(bench: &Bench, ids: &[&str], bytes: u64) {
    for id in ids {
        ended(bench, id).await;
        write(&workspace(bench, id).join("deep/file"), bytes);
    }
}

fn write(file: &Path, bytes: u64) {
    fs::write(file, vec![1; usize::try_from(bytes).unwrap()]).unwrap();
}

/// Which of these have their folder yet.
fn left<'i>(bench: &Bench, ids: &[&'i str]) -> Vec<&'i str> {
    ids.iter().copied().filter(|id| workspace(bench, id).exists()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_folders_those_of_the_tasks_that_ended_first_go() {
    let bench = Bench::new(1, 10).await;
    ended_with(&bench, &["a", "b", "c"], 10).await;
    // A script that sets its folder's time lets it look neither old nor new.
    let in_a_year = std::time::SystemTime::now() + 365 * DAY;
    fs::File::open(workspace(&bench, "a")).unwrap().set_modified(in_a_year).unwrap();
    for id in ["runs", "waits"] {
        make_workspace(&bench, id);
        bench.submit(with_id(id)).await;
    }
    let runs = bench.manual.next().await;
    let at_most = |max_workspaces| Retention { max_workspaces, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most(0)).await.unwrap(), Removed::default());
    assert_eq!(bench.service.clean_up(&at_most(3)).await.unwrap(), Removed::default());
    assert_eq!(bench.service.clean_up(&at_most(1)).await.unwrap().workspaces, 2);
    let all = ["a", "b", "c", "runs", "waits"];
    assert_eq!(left(&bench, &all), ["c", "runs", "waits"]);
    assert_eq!(bench.status("a").await, "succeeded", "the task and its record stay");
    // As soon as they have ended they count.
    runs.exit(0);
    bench.manual.next().await.exit(0);
    bench.wait("waits").await;
    assert_eq!(bench.service.clean_up(&at_most(1)).await.unwrap().workspaces, 2);
    assert_eq!(left(&bench, &all), ["waits"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_too_many_bytes_as_many_folders_go_as_it_takes_and_none_that_is_in_use() {
    let bench = Bench::new(1, 10).await;
    make_workspace(&bench, "runs");
    write(&workspace(&bench, "runs").join("file"), 8 * MIB);
    ended_with(&bench, &["a", "b", "c", "d"], MIB).await;
    bench.submit(with_id("runs")).await;
    let runs = bench.manual.next().await;
    let at_most = |max_workspace_bytes| Retention { max_workspace_bytes, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most(5 * MIB)).await.unwrap(), Removed::default());
    assert_eq!(bench.service.clean_up(&at_most(3 * MIB + MIB / 2)).await.unwrap().workspaces, 1);
    let all = ["a", "b", "c", "d", "runs"];
    assert_eq!(left(&bench, &all), ["b", "c", "d", "runs"]);
    // Both bounds at once: the tighter one counts.
    let both = Retention { max_workspaces: 1, ..at_most(2 * MIB + MIB / 2) };
    assert_eq!(bench.service.clean_up(&both).await.unwrap().workspaces, 2);
    runs.exit(0);
    bench.wait("runs").await;
    // The newest one is too much by itself.
    assert_eq!(bench.service.clean_up(&at_most(5 * MIB)).await.unwrap().workspaces, 2);
    assert_eq!(left(&bench, &all), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_measured_again_when_something_is_made_in_it_and_not_before() {
    let bench = Bench::new(1, 10).await;
    ended_with(&bench, &["a"], 10).await;
    let at_most = Retention { max_workspace_bytes: MIB, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap(), Removed::default());
    write(&workspace(&bench, "a").join("deep/file"), 2 * MIB);
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap(), Removed::default());
    write(&workspace(&bench, "a").join("file"), 10);
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap().workspaces, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_measured_again_when_its_task_ran_another_time() {
    let bench = Bench::new(1, 10).await;
    ended_with(&bench, &["a"], 10).await;
    let at_most = Retention { max_workspace_bytes: MIB, ..retention(&bench) };
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap(), Removed::default());
    // Its task goes, and its id is used again.
    let no_task = Retention { tasks: Duration::ZERO, ..at_most.clone() };
    assert_eq!(bench.service.clean_up(&no_task).await.unwrap().tasks, 1);
    bench.submit(with_id("a")).await;
    let again = bench.manual.next().await;
    write(&workspace(&bench, "a").join("deep/file"), 2 * MIB);
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap(), Removed::default());
    again.exit(0);
    bench.wait("a").await;
    assert_eq!(bench.service.clean_up(&at_most).await.unwrap().workspaces, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_runs_on_the_command_line_only_those_that_have_ended_count_and_go() {
    let bench = Bench::new(1, 10).await;
    let records = Records::open(&bench.state()).unwrap();
    // One has just begun and has no record yet, one goes on, one has ended; and a folder whose record went long ago.
    let all = ["begins", "ended", "forgotten", "goes-on"];
    for id in all {
        make_workspace(&bench, id);
    }
    for id in ["ended", "goes-on"] {
        records.create(&id.parse().unwrap()).unwrap();
    }
    records.write_result(&"ended".parse().unwrap(), &exited(0)).unwrap();
    age(&workspace(&bench, "forgotten"), Duration::from_secs(3 * 60 * 60));
    let at_most = |max_workspaces, max_workspace_bytes| Retention {
        max_workspaces,
        max_workspace_bytes,
        ..retention(&bench)
    };
    assert_eq!(bench.service.clean_up(&at_most(1, 0)).await.unwrap().workspaces, 1);
    assert_eq!(left(&bench, &all), ["begins", "ended", "goes-on"]);
    assert_eq!(bench.service.clean_up(&at_most(1, 1)).await.unwrap().workspaces, 1);
    assert_eq!(left(&bench, &all), ["begins", "goes-on"]);
}

/// Makes a folder in which folders stand in each other, deeper than any stack or table of descriptors; gives the innermost.
fn nest(folder: &Path) -> OwnedFd {
    // As the agent does: without that, who recurses is saved by running out of descriptors.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let raised = setrlimit(Resource::RLIMIT_NOFILE, 65_536.max(most), 65_536.max(most));
    raised.or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, most, most)).unwrap();
    fs::create_dir_all(folder).unwrap();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut inner = open(folder, flags, Mode::empty()).unwrap();
    for _ in 0..20_000 {
        mkdirat(&inner, "d", Mode::S_IRWXU).unwrap();
        inner = openat(&inner, "d", flags, Mode::empty()).unwrap();
    }
    inner
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_nested_deeper_than_any_stack_are_removed_too() {
    let bench = Bench::new(1, 10).await;
    ended(&bench, "old").await;
    // In memory, since disks take their time for so many.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let deep = place.path().join("tasks/old");
    drop(nest(&deep));
    age_task(&bench, "old", 31 * DAY);
    age(&deep, 31 * DAY);
    let kept = Retention { work_dir: place.path().to_owned(), ..retention(&bench) };
    let removed = bench.service.clean_up(&kept).await.unwrap();
    assert_eq!(removed, Removed { tasks: 1, records: 1, workspaces: 1 });
    assert!(!deep.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_a_script_left_lead_the_removal_nowhere() {
    let bench = Bench::new(1, 10).await;
    let decoy = tempfile::tempdir().unwrap();
    fs::write(decoy.path().join("precious"), "x").unwrap();
    ended(&bench, "old").await;
    std::os::unix::fs::symlink(decoy.path(), workspace(&bench, "old").join("link")).unwrap();
    std::os::unix::fs::symlink(decoy.path(), workspace(&bench, "planted")).unwrap();
    age_task(&bench, "old", 31 * DAY);
    let removed = bench.service.clean_up(&retention(&bench)).await.unwrap();
    assert_eq!(removed, Removed { tasks: 1, records: 1, workspaces: 1 });
    assert!(decoy.path().join("precious").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_found_at_any_depth_and_links_lead_the_measuring_nowhere() {
    let bench = Bench::new(1, 10).await;
    ended_with(&bench, &["deep", "links"], 10).await;
    // In memory, since disks take their time for so many.
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let decoy = tempfile::tempdir_in("/dev/shm").unwrap();
    write(&decoy.path().join("precious"), 8 * MIB);
    let [deep, links] = ["deep", "links"].map(|id| place.path().join("tasks").join(id));
    let innermost = nest(&deep);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    let file = openat(&innermost, "file", flags, Mode::S_IRWXU).unwrap();
    write(Path::new(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))), 4 * MIB);
    drop((innermost, file));
    fs::create_dir_all(links.join("inner")).unwrap();
    for (to, name) in [(decoy.path(), "inner/folder"), (&decoy.path().join("precious"), "file")] {
        std::os::unix::fs::symlink(to, links.join(name)).unwrap();
    }
    fs::File::create(links.join("hole")).unwrap().set_len(1 << 40).unwrap();
    let at_most = |max_workspace_bytes| Retention {
        max_workspace_bytes,
        work_dir: place.path().to_owned(),
        ..retention(&bench)
    };
    assert_eq!(bench.service.clean_up(&at_most(6 * MIB)).await.unwrap(), Removed::default());
    assert_eq!(bench.service.clean_up(&at_most(3 * MIB)).await.unwrap().workspaces, 1);
    assert!(!deep.exists() && links.exists());
    assert!(decoy.path().join("precious").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_start_and_end_while_a_large_folder_is_measured_and_removed() {
    let bench = Bench::new(4, 10).await;
    ended_with(&bench, &["large"], MIB).await;
    let place = tempfile::tempdir_in("/dev/shm").unwrap();
    let large = place.path().join("tasks/large");
    fs::create_dir_all(&large).unwrap();
    write(&large.join("file"), MIB);
    for number in 0..100_000 {
        fs::hard_link(large.join("file"), large.join(number.to_string())).unwrap();
    }
    let work_dir = place.path().to_owned();
    let too_much = Retention { max_workspace_bytes: 1, work_dir, ..retention(&bench) };
    let cleaning = tokio::spawn({
        let service = bench.service.clone();
        async move { service.clean_up(&too_much).await }
    });
    for _ in 0..5 {
        let task = soon(bench.service.submit(TaskSpec::new("instant"), "tester")).await.unwrap().task;
        assert!(soon(bench.service.wait(&task.id)).await.unwrap().unwrap().status.is_terminal());
    }
    assert!(!cleaning.is_finished(), "otherwise nothing is shown");
    assert_eq!(cleaning.await.unwrap().unwrap().workspaces, 1);
    assert!(!large.exists());
}
