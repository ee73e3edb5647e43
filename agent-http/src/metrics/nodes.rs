//! The fleet's numbers.

use agent_fleet::controller::FleetStats;
use metrics::{counter, gauge};

use super::count;
use super::table::{
    NODE_ASSIGNMENTS, NODE_CONNECTIONS, NODE_GIVEN_UP, NODE_LOG_BYTES, NODE_REFUSALS, NODE_TASKS, NODES,
    NODES_DRAINING,
};

/// Tells the recorder in force how the fleet stands; `waiting` tasks wait for a node.
pub(super) fn record(fleet: &FleetStats, waiting: usize) {
    gauge!(NODES, "state" => "connected").set(count(fleet.connected));
    gauge!(NODES, "state" => "away").set(count(fleet.known.saturating_sub(fleet.connected)));
    gauge!(NODES_DRAINING).set(count(fleet.draining));
    gauge!(NODE_TASKS, "state" => "handed").set(count(fleet.handed));
    gauge!(NODE_TASKS, "state" => "waiting").set(count(waiting));
    counter!(NODE_CONNECTIONS).absolute(fleet.connections);
    counter!(NODE_ASSIGNMENTS).absolute(fleet.assignments);
    counter!(NODE_LOG_BYTES).absolute(fleet.log_bytes);
    counter!(NODE_GIVEN_UP).absolute(fleet.given_up);
    for (code, refusals) in &fleet.refusals {
        counter!(NODE_REFUSALS, "code" => *code).absolute(*refusals);
    }
}
