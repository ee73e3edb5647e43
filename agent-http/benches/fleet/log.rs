//! A log of a gibibyte: its time over the link beside the time without one, and the memory of both ends.

use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::bounds::Bounds;
use crate::http::Client;
use crate::node::node;
use crate::site::{api_server, section};

const BYTES: u64 = 1 << 30;
/// Lines of 64 bytes.
const SCRIPT: &[(&str, &str)] = &[(
    "log.sh",
    "#!/bin/sh\nyes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | head -c \"$1\"\n",
)];

/// What the node may take of the time here, and the memory that either end may gain, KiB.
const RATIO: f64 = 2.0;
const GROWTH: f64 = 16384.0;

pub(crate) fn measure(place: &Path, bounds: &mut Bounds) -> Result<()> {
    let server = api_server(place, SCRIPT, &section("node", "node"))?;
    let node = node(place, &server, SCRIPT, "")?;
    let mut client = Client::connect(server.at)?;
    let mut times = [0.0; 3];
    let mut lines = Vec::new();
    // The other one between two of these, so that weather falls on both.
    for (side, time) in [None, Some("node"), None].into_iter().zip(&mut times) {
        server.forget_peak()?;
        node.forget_peak()?;
        let before = [server.memory("VmRSS")?, node.memory("VmRSS")?];
        let begun = Instant::now();
        let task = client.submit("log.sh", &[&BYTES.to_string()], side, "")?;
        let task = client.ended(task["id"].as_str().unwrap_or_default())?;
        *time = begun.elapsed().as_secs_f64();
        if task["status"] != "succeeded" || task["log_bytes"].as_u64().is_none_or(|bytes| bytes < BYTES) {
            return Err(format!("expected a log of {BYTES} bytes: {task}").into());
        }
        let side = side.unwrap_or("here");
        for (end, agent, before) in [("API server", &server, before[0]), ("node", &node, before[1])] {
            let grown = agent.memory("VmHWM")?.saturating_sub(before);
            let what = format!("memory of the {end} by a log {side}");
            let held = bounds.hold(&what, grown as f64, ..=GROWTH, "KiB");
            lines.push(format!("{what}: +{grown} KiB{held}"));
        }
    }
    let here = (times[0] + times[2]) / 2.0;
    let ratio = times[1] / here;
    let held = bounds.hold("the time of a log on the node", ratio, ..=RATIO, "of that here");
    println!("log of 1 GiB  {here:.2} s here, {:.2} s on the node: {ratio:.2} of it{held}", times[1]);
    lines.iter().for_each(|line| println!("  {line}"));
    Ok(())
}
