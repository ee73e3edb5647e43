//! Behaviour of the protocol of nodes through the crate's public interface.
#![allow(clippy::unwrap_used, clippy::panic)]

mod authenticity;
mod controller;
mod journal;
mod node_ids;
mod node_state;
mod node_work;
mod opens;
mod scripted;
mod storm;
mod websocket;
mod wire;
