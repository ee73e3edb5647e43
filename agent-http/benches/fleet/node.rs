//! A node of an API server, and what an agent uses of a processor.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::Result;
use crate::http::Client;
use crate::site::{Agent, folder, token, until};

/// A node of the name `node`, when it is there.
pub(crate) fn node(place: &Path, server: &Agent, scripts: &[(&str, &str)], settings: &str) -> Result<Agent> {
    let folder = folder(place, "node", scripts)?;
    let (at, file) = (server.at, folder.join("node.token"));
    fs::write(&file, token("node"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let node = format!("[node]\napi_server = \"ws://{at}\"\nname = \"node\"\ntoken_file = \"node.token\"\n");
    fs::write(folder.join("application.toml"), format!("{settings}\n{node}"))?;
    let agent = Agent::start(&folder)?;
    let mut client = Client::connect(server.at)?;
    until("the node", || {
        // It has never been there at first.
        let nodes = client.get("/api/v1/nodes")?;
        let seen: Value = nodes["nodes"].get(0).cloned().unwrap_or_default();
        let offered = seen["scripts"].as_object().map_or(0, serde_json::Map::len);
        Ok(seen["connected"] == true && offered == scripts.len())
    })?;
    Ok(agent)
}

impl Agent {
    /// The processor time that it has used, seconds.
    pub(crate) fn busy(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        let behind = stat.rsplit(") ").next().ok_or("no fields")?;
        let ticks: u64 =
            behind.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / 100.0)
    }
}
