//! No process but the execution's own is ever signalled, though numbers of processes are used again.

use std::fs;
use std::process::{Child, Command};

use executor_core::{ExecuteScriptRequest, KillScope};

use crate::bench::{Bench, eventually, is_live};
use crate::recovery::{dead_agent, instance_file};

/// A process that leads a session of its own, as a script's main process does.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let child = Command::new("setsid").args(["sleep", "300"]).spawn().unwrap();
        let session = |pid: u32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(") ").next().unwrap_or_default().split(' ').nth(3).map(str::to_owned)
        };
        eventually("no session", || session(child.id()) == Some(child.id().to_string()));
        Self(child)
    }

    /// When it was started, in the kernel's own measure (proc_pid_stat(5), field 22).
    fn start_time(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap()
    }

    fn is_live(&self) -> bool {
        is_live(i32::try_from(self.0.id()).unwrap())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // It is dead already where it was to be killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_recovery_leaves_a_process_alone_that_got_the_number_of_an_ended_one() {
    let bench = Bench::new();
    dead_agent(&bench, KillScope::Marker, 1);
    let bystander = Bystander::start();
    let start = bystander.start_time();
    name_as_main(&bench, bystander.0.id(), start - 1);
    bench.executor();
    assert!(bystander.is_live(), "a foreign process was killed");
}

#[test]
fn it_is_the_start_time_that_tells_them_apart() {
    // The twin: with the very start time of the process the recovery takes it for the script's own and kills it.
    let bench = Bench::new();
    dead_agent(&bench, KillScope::Marker, 1);
    let bystander = Bystander::start();
    name_as_main(&bench, bystander.0.id(), bystander.start_time());
    bench.executor();
    eventually("it was not killed", || !bystander.is_live());
}

/// Writes into the file of a dead agent that its main process had this number and start time.
fn name_as_main(bench: &Bench, pid: u32, start: u64) {
    let path = instance_file(bench);
    let text = fs::read_to_string(&path).unwrap();
    let (header, slot) = text.split_at(4096);
    let mut entry: serde_json::Value = serde_json::from_str(slot.trim()).unwrap();
    assert!(entry["main"].is_array(), "{entry}");
    entry["main"] = serde_json::json!([pid, start]);
    fs::write(path, format!("{header}{:<511}\n", entry.to_string())).unwrap();
}

#[test]
fn the_number_of_an_ended_main_process_stays_its_own_until_the_sweep_is_done() {
    let bench = Bench::new();
    // A leftover that takes the whole second between TERM and KILL, so that there is time to look.
    let body = "trap '' TERM; (while :; do sleep 0.01; done) & echo main $$";
    let execution =
        bench.start_on(&bench.executor(), ExecuteScriptRequest::new(bench.script("leak.sh", body)));
    bench.wait_for_output(&execution, "main");
    let output = String::from_utf8(crate::bench::body_of(&execution)).unwrap();
    let main: i32 = output.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let state = || fs::read_to_string(format!("/proc/{main}/stat")).unwrap_or_default();
    eventually("the main process was reaped before the sweep was done", || state().contains(") Z "));
    assert_eq!(execution.result(), None);
    assert!(bench.wait(&execution).leftovers_killed > 0);
    assert_eq!(state(), "", "a zombie was left");
}
