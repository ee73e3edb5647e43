//! Ten thousand nodes that only stand there: the memory that each takes, and what it costs others when many come back at
//! the same moment.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::bounds::Bounds;
use crate::simulated::{Address, Simulated, stand};
use crate::site::{Agent, api_server, section, token};
use crate::{Result, median, percentile};

const NODES: usize = 10_000;
/// How many come back at once, and how often that happens.
const BACK: usize = 1000;
const ROUNDS: usize = 3;
/// The time over which nodes spread their first try.
const SPREAD: Duration = Duration::from_secs(3);
/// Nodes that dial at the same time when they come for the first time.
const AT_ONCE: usize = 200;
/// For how long nothing happens but pings.
const QUIET: Duration = Duration::from_secs(20);
/// Pause between two honest requests of one caller, and how many callers there are.
const PAUSE: Duration = Duration::from_millis(5);
const CALLERS: usize = 4;

/// Memory of a node at an API server without TLS, KiB; the time in which all are back when they come as nodes do, and the
/// 99th percentile of requests of others meanwhile, milliseconds.
const MEMORY: f64 = 20.0;
const ALL_BACK: f64 = 30.0;
const HONEST: f64 = 250.0;

/// The nodes, and what reads each one's line.
struct Crowd {
    nodes: Vec<Arc<Simulated>>,
    lines: Vec<Option<JoinHandle<Result<()>>>>,
    address: Address,
}

pub(crate) fn measure(place: &Path, bounds: &mut Bounds, is_tls: bool) -> Result<()> {
    let mut settings: String = (0..NODES).map(|number| section(&Simulated::name(number), "node")).collect();
    if is_tls {
        make_certificate(place)?;
        settings = format!("[tls]\ncertificate = \"../cert.pem\"\nkey = \"../key.pem\"\n{settings}");
    }
    let begun = Instant::now();
    let server = api_server(place, &[], &settings)?;
    println!("{}  an API server with {NODES} tokens listens after {:.2?}", what(is_tls), begun.elapsed());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(crowd(place, &server, bounds, is_tls));
    runtime.shutdown_background();
    outcome
}

fn what(is_tls: bool) -> &'static str {
    if is_tls { "idle, TLS  " } else { "idle       " }
}

async fn crowd(place: &Path, server: &Agent, bounds: &mut Bounds, is_tls: bool) -> Result<()> {
    let keys = place.join("keys");
    let nodes: Result<Vec<_>> =
        (0..NODES).map(|number| Simulated::new(number, &keys).map(Arc::new)).collect();
    let tls = if is_tls { Some(trust(place)?) } else { None };
    let address = Address { at: server.at, tls };
    let lines = (0..NODES).map(|_| None).collect();
    let mut crowd = Crowd { nodes: nodes?, lines, address };
    // What the first request makes once is no node's.
    ask(&crowd.address).await?;
    let before = server.memory("VmRSS")?;
    let (begun, busy) = (Instant::now(), server.busy()?);
    for first in (0..NODES).step_by(AT_ONCE) {
        crowd.connect(first..first + AT_ONCE, Duration::ZERO).await?;
    }
    let (came, each) = (begun.elapsed(), (server.busy()? - busy) * 1e6 / NODES as f64);
    sleep(Duration::from_secs(1)).await;
    let after = server.memory("VmRSS")?;
    let busy = server.busy()?;
    sleep(QUIET).await;
    let later = (server.memory("VmRSS")? - before) as f64 / NODES as f64;
    let held = match is_tls {
        true => String::new(),
        false => bounds.hold("memory of a node that stands there", later, ..=MEMORY, "KiB"),
    };
    println!(
        "{}  {NODES} nodes came in {came:.2?}, {each:.0} us of a processor each: {:.1} KiB a node, {later:.1} later{held}; \
         {:.1} % of a processor while nothing happens",
        what(is_tls),
        (after - before) as f64 / NODES as f64,
        (server.busy()? - busy) / QUIET.as_secs_f64() * 100.0
    );
    come_back(&mut crowd, bounds, is_tls).await?;
    println!(
        "{}  {:.1} KiB a node after that",
        what(is_tls),
        (server.memory("VmRSS")? - before) as f64 / NODES as f64
    );
    Ok(())
}

/// Many come back after a cut: over three seconds, as nodes do, and then all at the same moment, which they do not.
async fn come_back(crowd: &mut Crowd, bounds: &mut Bounds, is_tls: bool) -> Result<()> {
    for (how, spread) in [("over 3 s", SPREAD), ("in one moment", Duration::ZERO)] {
        let mut back = Vec::new();
        let mut honest = Vec::new();
        for round in 0..ROUNDS {
            let nodes = round * BACK..(round + 1) * BACK;
            crowd.cut(nodes.clone());
            let callers = Callers::start(&crowd.address);
            let begun = Instant::now();
            crowd.connect(nodes, spread).await?;
            back.push(begun.elapsed().as_secs_f64());
            honest.extend(callers.stop()?);
        }
        let (back, most) = (median(back), percentile(honest.clone(), 99));
        let mut held = [String::new(), String::new()];
        // In one moment they do not come; that is for information.
        if !spread.is_zero() {
            let kind = what(is_tls).trim_end();
            held[0] = bounds.hold(&format!("{kind}: all are back"), back, ..=ALL_BACK, "s");
            held[1] = bounds.hold(&format!("{kind}: requests of others meanwhile"), most, ..=HONEST, "ms");
        }
        println!(
            "{}  {BACK} come back {how}: after {back:.2} s all are there (median of {ROUNDS}){}; {} requests of others \
             meanwhile: p50 {:.1} ms, p99 {most:.1} ms{}, longest {:.1} ms",
            what(is_tls),
            held[0],
            honest.len(),
            percentile(honest.clone(), 50),
            held[1],
            percentile(honest.clone(), 100)
        );
    }
    Ok(())
}

impl Crowd {
    /// Connects these, spread evenly over a time.
    async fn connect(&mut self, numbers: std::ops::Range<usize>, spread: Duration) -> Result<()> {
        let mut dialling = JoinSet::new();
        let (first, count) = (numbers.start, numbers.len());
        for number in numbers {
            let (node, address) = (self.nodes[number].clone(), self.address.clone());
            let wait = spread * u32::try_from(number - first)? / u32::try_from(count)?;
            dialling.spawn(async move {
                sleep(wait).await;
                (number, node.connect(&address).await)
            });
        }
        while let Some(dialled) = dialling.join_next().await {
            let (number, line) = dialled?;
            self.lines[number] = Some(tokio::spawn(stand(line?)));
        }
        Ok(())
    }

    fn cut(&mut self, numbers: std::ops::Range<usize>) {
        self.lines[numbers].iter_mut().filter_map(Option::take).for_each(|line| line.abort());
    }
}

/// Others who call meanwhile, on a thread of their own, so that what nodes do here does not hold them up.
struct Callers {
    is_over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<Vec<f64>>>,
}

impl Callers {
    fn start(address: &Address) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (address, over) = (address.clone(), is_over.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let callers = (0..CALLERS).map(|_| call(&address, &over));
                let times: Result<Vec<_>> =
                    futures_util::future::join_all(callers).await.into_iter().collect();
                Ok(times?.concat())
            })
        });
        Self { is_over, thread }
    }

    /// The times of their requests, milliseconds.
    fn stop(self) -> Result<Vec<f64>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_| Err("a caller panicked".into()))
    }
}

/// Asks again and again until it is over, each time by a connection of its own; the times in milliseconds.
async fn call(address: &Address, is_over: &AtomicBool) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        ask(address).await?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        sleep(PAUSE).await;
    }
    Ok(times)
}

async fn ask(address: &Address) -> Result<()> {
    let mut stream = address.connect().await?;
    let token = token("admin");
    let request = format!(
        "GET /api/v1/tasks?limit=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    match answer.starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(format!("expected 200: {}", String::from_utf8_lossy(&answer)).into()),
    }
}

fn make_certificate(place: &Path) -> Result<()> {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj /CN=localhost -days 30 \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out cert.pem";
    let mut command = Command::new("openssl");
    command.args(arguments.split_whitespace()).current_dir(place).stderr(Stdio::null());
    if !command.status()?.success() {
        return Err("openssl makes no certificate".into());
    }
    fs::set_permissions(place.join("key.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// Trusts that certificate alone.
fn trust(place: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(place.join("cert.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
