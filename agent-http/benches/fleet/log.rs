//! A log of a gibibyte: its time over the link beside the time without one, and the memory of both ends.

use std::path::Path;
use std::time::Instant;

use crate::Result;
use crate::http::Client;
use crate::site::{api_server, node, section};

const BYTES: u64 = 1 << 30;
/// Lines of 64 bytes.
const SCRIPT: &[(&str, &str)] = &[(
    "log.sh",
    "#!/bin/sh\nyes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde | head -c \"$1\"\n",
)];

pub(crate) fn measure(place: &Path) -> Result<()> {
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
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        lines.push(format!(
            "{}: API server +{} KiB, node +{} KiB",
            side.unwrap_or("here"),
            grown(server.memory("VmHWM")?, before[0]),
            grown(node.memory("VmHWM")?, before[1])
        ));
    }
    let here = (times[0] + times[2]) / 2.0;
    println!("log of 1 GiB  {here:.2} s here, {:.2} s on the node: {:.2} of it", times[1], times[1] / here);
    lines.iter().for_each(|line| println!("  {line}"));
    Ok(())
}
