//! Hands tasks to the nodes that their targets mean: to the one that is named, or to the least loaded one of a pool.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use task_runners::{
    Execution, ExecutionResult, Mirror, NODE_RUNNER, Outcome, Plan, Refusal, SCRIPT_RUNNER, StartError,
    StartFuture, Target, TaskOrder, TaskRunner, TaskSpec, remove_folder,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::door::{Door, Version, room_behind};
use super::fleet::{Fleet, Inner, Seat};
use super::intents::Whereabouts;
use super::store::Intent;
use super::view::View;
use super::work::{Input, Remote};
use crate::keys::Nonce;

/// What is expected in the place of a runner's name.
const RUNNER: &str = "the name of a script that the node offers: runners of nodes cannot be named; in the place of the runner \
    `script` with `params.script`, that script's own name";

/// Time between two tries to take a task up.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Hands tasks with a target to nodes.
pub(super) struct NodeRunner {
    pub(super) fleet: Fleet,
}

/// What came of the search for a task's node.
enum Found {
    Place(Box<Begun>),
    /// It is not looked for any more.
    Ended(Execution),
    Nowhere,
}

/// A task whose turn has come, with its place.
struct Begun {
    seat: Arc<Seat>,
    execution: Execution,
    remote: Remote,
}

impl NodeRunner {
    async fn hand_out(&self, order: TaskOrder) -> Result<Execution, StartError> {
        let (id, is_pools) = (order.id.clone(), matches!(order.spec.target, Some(Target::Labels(_))));
        let away = || StartError::Away(self.door(&order));
        let Begun { seat, execution, remote } = match self.found(order.clone()).await {
            Found::Place(begun) => *begun,
            Found::Ended(execution) => return Ok(execution),
            Found::Nowhere => return Err(away()),
        };
        let given_up = remote.given_up.clone();
        // Another node of the pool takes what this one is not there for any more.
        let (stays, is_there) = oneshot::channel();
        let submit = Input::Submit(Box::new(remote), is_pools.then_some(stays));
        // Where the work has ended the agent stops, and the task is taken up at the next start.
        let is_sent = seat.inputs.send(submit).await.is_ok();
        if is_sent && is_pools && is_there.await.is_err() {
            self.left(&order).await;
            return Err(away());
        }
        watch_cancels(&execution, seat.inputs.clone());
        if let Some(given_up) = given_up {
            let _ = seat.inputs.send(Input::GiveUp { task: id, given_up, answer: None }).await;
        }
        Ok(execution)
    }

    /// A node has left before it heard of a task, which waits again, without a record.
    async fn left(&self, order: &TaskOrder) {
        let (inner, id, order) = (self.fleet.inner.clone(), order.id.clone(), order.clone());
        let removed = tokio::task::spawn_blocking(move || remove_record(&inner, &order)).await;
        if let Err(error) = removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
            tracing::warn!(task_id = %id, %error, "the record of a task that waits again cannot be removed");
        }
    }

    /// What a task waits for.
    fn door(&self, order: &TaskOrder) -> String {
        let target = order.spec.target.as_ref();
        target.map(|target| Door::of(&self.fleet.inner.seats(), order, target).text()).unwrap_or_default()
    }

    /// Finds a task's node. That may run the task by now, so that what does not work is tried until it does: it is no end.
    async fn found(&self, order: TaskOrder) -> Found {
        let mut is_told = false;
        loop {
            let (fleet, order) = (self.fleet.clone(), order.clone());
            let id = order.id.clone();
            let found = tokio::task::spawn_blocking(move || begin(&fleet, &order)).await;
            match found.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(found) => return found,
                Err(error) if !is_told => {
                    tracing::error!(task_id = %id, %error, "a node's task cannot be taken up; trying until it can");
                    is_told = true;
                }
                Err(_) => {}
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

/// Finds a task's node: that which may have heard of it, or else one that is meant and has room; none where there is none.
/// Nobody has heard of the task then, and it waits in the queue, where it can still be cancelled. It also waits for a node
/// that may still have an older task of its id: what such a node says could be of either.
fn begin(fleet: &Fleet, order: &TaskOrder) -> io::Result<Found> {
    let inner = &fleet.inner;
    let (found, intent) = match inner.whereabouts(order)? {
        // A node that this agent does not know is away.
        Whereabouts::Handed(intent) => {
            let (node, view) = (intent.node.clone(), View::default());
            (Some((node.clone(), fleet.seat(node, view, Vec::new()))), Some(intent))
        }
        Whereabouts::Unheard { shut } => (chosen(inner, order, &shut), None),
        Whereabouts::Unknown => return end_unknown(inner, order).map(Found::Ended),
    };
    let Some((node, seat)) = found else {
        if order.is_taken_up {
            remove_record(inner, order)?;
        }
        return Ok(Found::Nowhere);
    };
    seat.view().tasks.insert(order.id.clone());
    // A node that was forgotten meanwhile gets none; with the task in its place it is not forgotten.
    if !inner.seat(&node).is_some_and(|now| Arc::ptr_eq(&now, &seat)) {
        return Ok(Found::Nowhere);
    }
    match remote(inner, order, intent) {
        Ok((execution, remote)) => {
            Ok(Found::Place(Box::new(Begun { seat, execution: execution.on_node(&node), remote })))
        }
        Err(error) => {
            seat.view().tasks.remove(&order.id);
            inner.room.notify_one();
            Err(error)
        }
    }
}

/// Ends a task that some node may have started, and nobody knows which.
fn end_unknown(inner: &Inner, order: &TaskOrder) -> io::Result<Execution> {
    let (execution, mut mirror) = Mirror::open(&inner.records, &order.id)?;
    let message = "this agent has lost what it knew of tasks that nodes have; which of them had this one, and whether and how \
        it ran, is not known";
    mirror.finish(ExecutionResult::without_run(Outcome::Interrupted, "history_gone", message))?;
    Ok(execution)
}

/// Removes the record that an earlier run of this agent has begun of a task of which nobody has heard: one that waits has none.
fn remove_record(inner: &Inner, order: &TaskOrder) -> io::Result<()> {
    match remove_folder(&inner.records.folder(&order.id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What the work for a node needs of a task.
fn remote(inner: &Inner, order: &TaskOrder, intent: Option<Intent>) -> io::Result<(Execution, Remote)> {
    let (was_handed, nonce, given_up) = match intent {
        Some(Intent { nonce, given_up, .. }) => (true, nonce, given_up),
        None => (false, Nonce::random().map_err(io::Error::other)?, None),
    };
    let (execution, mirror) = Mirror::open(&inner.records, &order.id)?;
    let away = order.unreachable_since;
    Ok((
        execution,
        Remote {
            order: order.clone(),
            mirror,
            nonce,
            was_handed,
            withheld: None,
            on_its_way: Weak::new(),
            given_up,
            away,
            overdue_at: None,
            is_written: false,
        },
    ))
}

/// The node that a task goes to, where one has room for it, with the place taken there; none of those that are `shut` for it.
fn chosen(inner: &Inner, order: &TaskOrder, shut: &[String]) -> Option<(String, Arc<Seat>)> {
    // Held all the time, so that nobody else takes the place.
    let seats = inner.seats();
    let target = order.spec.target.as_ref()?;
    if let Target::Node(name) = target {
        let seat = seats.get(name).filter(|seat| seat.view().is_open() && !shut.contains(name))?;
        return Some((name.clone(), seat.clone()));
    }
    let door = Door::of(&seats, order, target);
    let mut open = Vec::new();
    for (name, seat) in seats.iter() {
        let view = seat.view();
        if view.room() > 0 && !shut.contains(name) && door.leads_to(name, &view) {
            let capacity = view.facts.capacity.unwrap_or(1);
            open.push((view.tasks.len() as u128, capacity as u128, name, seat));
        }
    }
    // The smaller share of what each runs at once, without fractions. Of equals the first by name.
    open.sort_by(|(a, most_a, ..), (b, most_b, ..)| (a * most_b).cmp(&(b * most_a)));
    let (.., name, seat) = open.into_iter().next()?;
    seat.view().tasks.insert(order.id.clone());
    Some((name.clone(), seat.clone()))
}

impl Fleet {
    /// The variables that a script lets callers set, wherever it may run for that target: what one of the nodes does not
    /// open is not open.
    pub fn open_variables(&self, target: &Target, script: &str) -> Vec<String> {
        let seats = self.inner.seats();
        let views = seats.iter().map(|(name, seat)| (name, seat.view()));
        let meant = views.filter(|(name, view)| target.means(name, &view.facts.labels));
        let open = meant.filter_map(|(_, view)| {
            let declared = view.offered.scripts.get(script)?.declared.as_ref();
            Some(declared.map_or_else(Vec::new, |declared| declared.env.clone()))
        });
        open.reduce(|all, one| all.into_iter().filter(|name| one.contains(name)).collect())
            .unwrap_or_default()
    }
}

impl TaskRunner for NodeRunner {
    fn name(&self) -> &str {
        NODE_RUNNER
    }

    fn description(&self) -> &str {
        "Hands tasks with a target to nodes."
    }

    /// Checks by what the nodes offer that are meant, there or not: what one of them takes is accepted.
    fn check(&self, spec: &TaskSpec) -> Result<Plan, Refusal> {
        let not_found = || Refusal::NotFound { name: spec.name.clone() };
        let target = spec.target.as_ref().ok_or_else(not_found)?;
        let mut is_runner = spec.name == SCRIPT_RUNNER;
        let meant: Vec<_> = {
            let seats = self.fleet.inner.seats();
            let views = seats.iter().map(|(name, seat)| (name, seat.view()));
            let meant = views.filter(|(name, view)| target.means(name, &view.facts.labels));
            let seen = meant.inspect(|(_, view)| is_runner |= view.facts.runners.contains(&spec.name));
            seen.map(|(_, view)| (view.offered.clone(), view.facts.opens.clone())).collect()
        };
        if meant.is_empty() {
            return Err(Refusal::NoNode { target: target.clone() });
        }
        // What it takes only the node could say; and there a runner wins over a script of its name.
        if is_runner {
            return Err(Refusal::invalid("name", "script", RUNNER));
        }
        let found =
            meant.iter().filter_map(|(offered, opens)| Some((offered.scripts.get(&spec.name)?, opens)));
        let mut scripts: Vec<_> = found.map(|(script, opens)| (&script.sha256, opens, script)).collect();
        // The same script is on most nodes of a pool, and they open the same.
        scripts.sort_by_key(|(sha256, opens, _)| (*sha256, *opens));
        scripts.dedup_by_key(|(sha256, opens, _)| (*sha256, *opens));
        let digest = scripts.first().map(|(sha256, ..)| (*sha256).clone());
        let is_the_same = scripts.iter().all(|(sha256, ..)| Some(*sha256) == digest.as_ref());
        let (mut accepted, mut refused) = (None::<Vec<String>>, None);
        let (mut will_do, all) = (BTreeSet::new(), scripts.len());
        for (sha256, opens, script) in scripts {
            match script.check(spec, opens.as_ref()) {
                // What one of them holds to be secret is kept as such.
                Ok(secrets) => {
                    accepted.get_or_insert_default().extend(secrets);
                    will_do.insert(Version { sha256: sha256.clone(), opens: opens.clone() });
                }
                Err(problems) => refused = refused.or(Some(problems)),
            }
        }
        let Some(mut secrets) = accepted else {
            return Err(refused.map_or_else(not_found, Refusal::Invalid));
        };
        secrets.sort();
        secrets.dedup();
        // What was checked is what runs. Where nodes of a pool differ it is what the chosen one offers.
        let pinned = digest.filter(|_| is_the_same);
        let door = Door::to(target, &spec.name, will_do, all);
        let is_shut = room_behind(&self.fleet.inner.seats(), &door, 1, &mut HashMap::new()) == 0;
        Ok(Plan { secrets, pinned, door: Some(door.text()), is_shut, ..Plan::default() })
    }

    fn start(&self, order: TaskOrder) -> StartFuture<'_> {
        Box::pin(self.hand_out(order))
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }
}

/// Tells the work for a node when the end of a task is asked for: the first time, and once more.
fn watch_cancels(execution: &Execution, inputs: mpsc::Sender<Input>) {
    let execution = execution.clone();
    tokio::spawn(async move {
        for times in 1..=2 {
            tokio::select! {
                () = execution.cancel_asked(times) => {}
                _ = execution.wait() => return,
            }
            if inputs.send(Input::Cancel { task: execution.id().clone() }).await.is_err() {
                return;
            }
        }
    });
}
