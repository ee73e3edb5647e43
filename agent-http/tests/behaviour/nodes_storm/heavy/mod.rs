//! A thousand tasks under two hundred faults, and the same storm on what was weakened on purpose.

mod again;
mod weak;

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Memory};
use super::load::Load;
use super::verdict::{Count, Ends, all_ended, look, verdict};
use super::{TOO_SHORT, USUAL};
use crate::support::Random;

/// Faults between two looks at what callers are told, and between two that take so long that they are noticed.
const LOOK_EVERY: usize = 20;
const LONG_EVERY: usize = 60;
/// What a node says that has noticed.
const NOTICED: &str = "nothing came for 7 s";

/// A storm: tasks, and faults while they come.
struct Storm {
    cluster: Cluster,
    load: Load,
}

impl Storm {
    fn new(cluster: Cluster, tasks: usize, faults: usize) -> Self {
        let starts = cluster.server().site.path("starts");
        std::fs::write(&starts, "").unwrap();
        let (at, nodes, progress) = (cluster.at, cluster.nodes.len(), Default::default());
        Self { cluster, load: Load { at, starts, tasks, nodes, faults, progress } }
    }

    /// Begins to submit the tasks.
    fn submitting(&self) -> JoinHandle<()> {
        let load = self.load.clone();
        thread::spawn(move || load.submit_all())
    }

    /// Rages until all is submitted, and judges; what is wrong then, if anything is.
    fn rage(&mut self) -> Result<Count, String> {
        let (mut random, mut ends) = (Random::new(), Ends::new());
        let began = Instant::now();
        let submitting = self.submitting();
        while let Some(fault) = self.load.next_fault() {
            match fault % LONG_EVERY == LONG_EVERY / 2 {
                true => self.cluster.long_fault(fault / LONG_EVERY),
                false => self.cluster.fault(&mut random),
            }
            if fault % LOOK_EVERY == 0 {
                look(self.cluster.server(), &mut ends)?;
            }
            thread::sleep(Duration::from_millis(random.below(60)));
        }
        submitting.join().expect("the tasks are submitted");
        let raged = began.elapsed();
        self.cluster.calm();
        all_ended(self.cluster.server());
        let calmed = began.elapsed() - raged;
        look(self.cluster.server(), &mut ends)?;
        let count = verdict(&self.cluster, &self.load, &ends)?;
        println!("{} faults in {raged:?}, {calmed:?} to the last end: {count:?}", self.load.faults);
        Ok(count)
    }
}

#[test]
fn a_thousand_tasks_under_two_hundred_faults_start_once_end_once_and_have_whole_logs() {
    // One proxy closes what is idle before a node would notice, the other one leaves that to the node.
    let mut storm = Storm::new(Cluster::start(&[TOO_SHORT, USUAL], Memory::Kept), 1000, 200);
    let count = storm.rage().unwrap();
    assert!(count.succeeded > 500 && count.failed > 0, "{count:?}");
    assert!(count.interrupted > 0 && count.cancelled > 0, "{count:?}");
    let [first, second] = &storm.cluster.nodes[..] else { panic!("two nodes") };
    let (idle_cuts, noticed) = (first.line.counts().1, second.said(NOTICED));
    println!("{idle_cuts} connections were closed for being idle, {noticed} for being silent");
    assert!(idle_cuts > 0 && noticed > 0, "{idle_cuts} {noticed}");
}
