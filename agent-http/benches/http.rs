//! What a task costs through HTTP, from request to result (`Prefer: wait`), beside a bare posix_spawn(3) of the same
//! script and beside `webhook`, which does nothing but run and answer; measured in turns in one run.
//!
//! ```text
//! cargo bench --package agent-http --bench http [-- FOLDER]
//! ```
//!
//! FOLDER is where state, workspace and scripts go; a memory file system unless it is named.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Requests of one turn by one client. Turns are short, so that all sides of a ratio meet the same weather.
const SEQUENCE: usize = 25;
/// Requests of one turn by many clients together.
const MANY: usize = 512;
/// Turns; the median of them counts.
const TURNS: usize = 21;
/// Clients at once.
const CLIENTS: [usize; 2] = [16, 64];
/// Time that a service has to answer for the first time.
const START: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A server under test; killed when dropped.
struct Server {
    name: &'static str,
    child: Child,
    at: SocketAddr,
    request: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() -> Result<()> {
    let folder = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let place = tempfile::tempdir_in(folder.unwrap_or_else(|| "/dev/shm".to_owned()))?;
    let script = write_script(place.path())?;
    let mut servers = vec![agent(place.path())?];
    match webhook(place.path(), &script) {
        Ok(server) => servers.push(server),
        Err(error) => println!("webhook is not measured: {error}"),
    }
    println!("place  {}", place.path().display());
    let mut times = Table::new(&servers);
    for _ in 0..TURNS {
        let mut turn = vec![sequence_of(|| spawn(&script))?];
        for server in &servers {
            let mut client = Client::connect(server)?;
            turn.push(sequence_of(|| client.call())?);
        }
        times.add(turn);
    }
    times.print("1 client", "ms p50");
    for clients in CLIENTS {
        let mut rates = Table::new(&servers);
        for _ in 0..TURNS {
            let mut turn = vec![rate_of(clients, || Ok(|| spawn(&script)))?];
            for server in &servers {
                turn.push(rate_of(clients, || {
                    let mut client = Client::connect(server)?;
                    Ok(move || client.call())
                })?);
            }
            rates.add(turn);
        }
        rates.print(&format!("{clients} clients"), "/s");
    }
    Ok(())
}

/// What the floor and each server took, turn by turn.
struct Table {
    names: Vec<&'static str>,
    turns: Vec<Vec<f64>>,
}

impl Table {
    fn new(servers: &[Server]) -> Self {
        let names = std::iter::once("floor").chain(servers.iter().map(|server| server.name)).collect();
        Self { names, turns: Vec::new() }
    }

    fn add(&mut self, turn: Vec<f64>) {
        self.turns.push(turn);
    }

    /// Medians, and the medians of the turns' own ratios to the floor.
    fn print(&self, what: &str, unit: &str) {
        for (column, name) in self.names.iter().enumerate() {
            let value = median(self.turns.iter().map(|turn| turn[column]).collect());
            let ratio = median(self.turns.iter().map(|turn| turn[column] / turn[0]).collect());
            println!("{what:<10}  {name:<8} {value:8.3} {unit}, {ratio:.2} of the floor");
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn write_script(place: &Path) -> Result<std::path::PathBuf> {
    let folder = place.join("scripts");
    std::fs::create_dir(&folder)?;
    let script = folder.join("exit.sh");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

fn agent(place: &Path) -> Result<Server> {
    let config = place.join("application.toml");
    std::fs::write(&config, "[limits]\nconcurrent = 64\n")?;
    let at = free_port()?;
    let child = Command::new(env!("CARGO_BIN_EXE_agent-http"))
        .arg("--config")
        .arg(&config)
        .args(["--port", &at.port().to_string()])
        .env("RUST_LOG", "error")
        .current_dir(place)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut server = Server { name: "agent", child, at, request: String::new() };
    wait_for(at)?;
    let token = std::fs::read_to_string(place.join("state/token"))?;
    let body = r#"{"name":"exit.sh"}"#;
    server.request = format!(
        "POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nPrefer: wait=30\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token.trim(),
        body.len()
    );
    Ok(server)
}

fn webhook(place: &Path, script: &Path) -> Result<Server> {
    let hooks = place.join("hooks.json");
    let script = script.display();
    std::fs::write(
        &hooks,
        format!(
            r#"[{{"id":"exit","execute-command":"{script}","include-command-output-in-response":true}}]"#
        ),
    )?;
    let at = free_port()?;
    let child = Command::new("webhook")
        .args(["-ip", "127.0.0.1", "-port", &at.port().to_string(), "-hooks"])
        .arg(&hooks)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let request = "GET /hooks/exit HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned();
    let server = Server { name: "webhook", child, at, request };
    wait_for(at)?;
    Ok(server)
}

fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn wait_for(at: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    while TcpStream::connect(at).is_err() {
        if Instant::now() > deadline {
            return Err(format!("nobody listens on {at}").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// One connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    request: String,
}

impl Client {
    fn connect(server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(server.at)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), request: server.request.clone() })
    }

    fn call(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(self.request.as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(format!("expected 200: {line}").into());
        }
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(())
    }
}

/// The standard library starts by posix_spawn where nothing special is asked of it.
fn spawn(script: &Path) -> Result<()> {
    let mut command = Command::new(script);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status()?;
    Ok(())
}

/// The median of one call after the other, milliseconds.
fn sequence_of(mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(SEQUENCE);
    for _ in 0..SEQUENCE {
        let start = Instant::now();
        call()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(times))
}

/// The rate of many callers together, calls a second.
fn rate_of<C>(clients: usize, make: impl Fn() -> Result<C> + Sync) -> Result<f64>
where
    C: FnMut() -> Result<()>,
{
    let start = Instant::now();
    let work = |client: usize| -> std::result::Result<(), String> {
        let mut call = make().map_err(|error| error.to_string())?;
        for _ in (client..MANY).step_by(clients) {
            call().map_err(|error| error.to_string())?;
        }
        Ok(())
    };
    let work = &work;
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|client| scope.spawn(move || work(client))).collect();
        threads.into_iter().find_map(|thread| match thread.join() {
            Ok(done) => done.err(),
            Err(_) => Some("a client panicked".to_owned()),
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(MANY as f64 / start.elapsed().as_secs_f64()),
    }
}
