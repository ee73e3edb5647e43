//! The fleet's numbers.

use agent_fleet::controller::FleetStats;
use metrics::{counter, gauge};

use super::count;
use super::table::{
    NODES, NODES_ASSIGNMENTS, NODES_CONNECTIONS, NODES_DRAINING, NODES_GIVEN_UP, NODES_LOG_BYTES,
    NODES_REFUSALS, NODES_TASKS,
};

/// Tells the recorder in force how the fleet stands; `waiting` tasks wait for a node.
pub(super) fn record(fleet: &FleetStats, waiting: usize) {
    gauge!(NODES, "state" => "connected").set(count(fleet.connected));
    gauge!(NODES, "state" => "away").set(count(fleet.known.saturating_sub(fleet.connected)));
    gauge!(NODES_DRAINING).set(count(fleet.draining));
    gauge!(NODES_TASKS, "state" => "handed").set(count(fleet.handed));
    gauge!(NODES_TASKS, "state" => "waiting").set(count(waiting));
    counter!(NODES_CONNECTIONS).absolute(fleet.connections);
    counter!(NODES_ASSIGNMENTS).absolute(fleet.assignments);
    counter!(NODES_LOG_BYTES).absolute(fleet.log_bytes);
    counter!(NODES_GIVEN_UP).absolute(fleet.given_up);
    for (code, refusals) in &fleet.refusals {
        counter!(NODES_REFUSALS, "code" => *code).absolute(*refusals);
    }
}
