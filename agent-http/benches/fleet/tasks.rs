//! A task on a node beside the same task on the API server itself: until it is started, until the first byte of its log is
//! there, and how many of them end in a second.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Instant;

use nix::sys::stat::Mode;

use crate::bounds::Bounds;
use crate::http::Client;
use crate::node::node;
use crate::site::{Agent, api_server, section};
use crate::{Result, median};

/// Tasks of one turn, one after the other; and of one turn by many clients together.
const SEQUENCE: usize = 20;
const MANY: usize = 384;
const CLIENTS: usize = 64;
/// Turns; the median of them counts. They are short, so that both sides meet the same weather.
const TURNS: usize = 15;
const SLOTS: &str = "[limits]\nconcurrent = 64\n";

/// What runs where: here, and on the node.
const SIDES: [Option<&str>; 2] = [None, Some("node")];
/// The first tells that it was started, and the second writes a line and waits a little, so that its end is not in the way.
const SCRIPTS: &[(&str, &str)] = &[
    ("start.sh", "#!/bin/sh\necho >\"$1\"\n"),
    ("line.sh", "#!/bin/sh\necho line\nsleep 0.02\n"),
    ("exit.sh", "#!/bin/sh\nexit 0\n"),
];

/// How much longer than here things may take on the node, milliseconds; and the part of the rate that is left there.
const START: f64 = 3.0;
const FIRST_BYTE: f64 = 5.0;
const RATE: f64 = 0.7;

/// Times until the start, and until the first byte of the log.
pub(crate) fn starts(place: &Path, bounds: &mut Bounds) -> Result<()> {
    let (server, _node) = pair(place)?;
    let fifo = place.join("started");
    nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Open for writing as well: it has no end then, and opening it waits for nobody.
    let mut started = OpenOptions::new().read(true).write(true).open(&fifo)?;
    let name = fifo.display().to_string();
    let mut client = Client::connect(server.at)?;
    let both =
        in_turns("start", "ms p50", |side| sequence(|| start(&mut client, &mut started, &name, side)))?;
    println!("{both}{}", bounds.hold("a start on the node", both.difference, ..=START, "ms more"));
    let both = in_turns("first byte", "ms p50", |side| sequence(|| first_byte(&server, &mut client, side)))?;
    let what = "the first byte of a log on the node";
    println!("{both}{}", bounds.hold(what, both.difference, ..=FIRST_BYTE, "ms more"));
    Ok(())
}

/// Tasks that end in a second.
pub(crate) fn rate(place: &Path, bounds: &mut Bounds) -> Result<()> {
    let (server, node) = pair(place)?;
    let (mut busy, mut there) = ([0.0; 2], [0.0; 2]);
    let both = in_turns("tasks", "/s", |side| {
        let (before, before_there) = (server.busy()?, node.busy()?);
        let rate = many(&server, side)?;
        let index = usize::from(side.is_some());
        busy[index] += server.busy()? - before;
        there[index] += node.busy()? - before_there;
        Ok(rate)
    })?;
    println!("{both}{}", bounds.hold("tasks on the node", both.ratio, RATE.., "of those here"));
    let each = |seconds: f64| seconds * 1e6 / (TURNS * MANY) as f64;
    println!(
        "processor     {:.0} us a task here; on the node {:.0} us of the API server and {:.0} us of the node",
        each(busy[0]),
        each(busy[1]),
        each(there[1])
    );
    Ok(())
}

fn pair(place: &Path) -> Result<(Agent, Agent)> {
    let settings = format!("{SLOTS}{}", section("node", "node"));
    let server = api_server(place, SCRIPTS, &settings)?;
    let node = node(place, &server, SCRIPTS, SLOTS)?;
    Ok((server, node))
}

/// Medians of both sides, and the medians of the turns' own differences and ratios.
struct Both {
    what: &'static str,
    unit: &'static str,
    here: f64,
    there: f64,
    difference: f64,
    ratio: f64,
}

impl fmt::Display for Both {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, unit, here, there, difference, ratio } = self;
        write!(
            f,
            "{what:<12}  {here:8.3} {unit} here, {there:8.3} on the node: {difference:+.3}, {ratio:.2} of it"
        )
    }
}

/// Measures both sides in turns.
fn in_turns(
    what: &'static str,
    unit: &'static str,
    mut turn: impl FnMut(Option<&str>) -> Result<f64>,
) -> Result<Both> {
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        turns.push([turn(SIDES[0])?, turn(SIDES[1])?]);
    }
    let of = |value: fn(&[f64; 2]) -> f64| median(turns.iter().map(value).collect());
    let [here, there] = [of(|turn| turn[0]), of(|turn| turn[1])];
    let [difference, ratio] = [of(|turn| turn[1] - turn[0]), of(|turn| turn[1] / turn[0])];
    Ok(Both { what, unit, here, there, difference, ratio })
}

/// The median of one after the other, milliseconds.
fn sequence(mut one: impl FnMut() -> Result<f64>) -> Result<f64> {
    let times: Result<Vec<f64>> = (0..SEQUENCE).map(|_| one()).collect();
    Ok(median(times?))
}

fn start(client: &mut Client, started: &mut File, fifo: &str, side: Option<&str>) -> Result<f64> {
    let begun = Instant::now();
    let task = client.submit("start.sh", &[fifo], side, "")?;
    started.read_exact(&mut [0])?;
    let took = begun.elapsed();
    client.ended(task["id"].as_str().unwrap_or_default())?;
    Ok(took.as_secs_f64() * 1e3)
}

fn first_byte(server: &Agent, client: &mut Client, side: Option<&str>) -> Result<f64> {
    // What is followed is not read to its end, so that the connection is good for nothing after.
    let mut following = Client::connect(server.at)?;
    let begun = Instant::now();
    let task = client.submit("line.sh", &[], side, "")?;
    let id = task["id"].as_str().unwrap_or_default();
    following.get_until(&format!("/api/v1/tasks/{id}/log?follow=true&banner=false"), "", "line")?;
    let took = begun.elapsed();
    client.ended(id)?;
    Ok(took.as_secs_f64() * 1e3)
}

fn many(server: &Agent, side: Option<&str>) -> Result<f64> {
    let begun = Instant::now();
    let work = || -> Result<()> {
        let mut client = Client::connect(server.at)?;
        for _ in 0..MANY / CLIENTS {
            let task = client.submit("exit.sh", &[], side, "Prefer: wait=30\r\n")?;
            if task["status"] != "succeeded" {
                return Err(format!("expected success: {task}").into());
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(work)).collect();
        clients.into_iter().try_for_each(|client| client.join().unwrap_or(Err("a client panicked".into())))
    })?;
    Ok(MANY as f64 / begun.elapsed().as_secs_f64())
}
