//! Many attackers at once, wave after wave: a thousand who are slow at every point where a caller can be, and two hundred
//! watchers that never read a log which is written all the time. In plain HTTP and over TLS.

mod attackers;
mod flood;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_http::{Agent, Host};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use self::attackers::{Attacker, HEADERS, SILENT, WATCHERS_OF_EACH_FORM, Way};
use self::flood::Flood;
use super::{is_closed, plain};
use crate::support::{Authority, Service, Site, eventually, memory_kib, tls_site};

/// For how long waves come.
const STORM: Duration = Duration::from_secs(60);
/// The promises.
const CUT_WITHIN: Duration = Duration::from_secs(15);
const HONEST_P99: Duration = Duration::from_millis(250);
const MOST_GROWTH_KIB: u64 = 64 << 10;
/// Open files beside connections that come and go: logs that are read, scripts that run.
const OTHER_FILES: usize = 40;
/// Pause between two drops of those who drip.
const DROP_EVERY: Duration = Duration::from_millis(500);
/// Who follows the log, as bytes and as events: an honest one, and all watchers beside it.
const THE_HONEST_ONE: [usize; 2] = [1, 0];
const ALL_FOLLOWERS: [usize; 2] = [1 + WATCHERS_OF_EACH_FORM, WATCHERS_OF_EACH_FORM];

/// A site whose script writes a log for as long as a storm lasts; and this process may open all files that it needs.
fn with_flood(site: Site) -> Site {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    Flood::write_script(&site);
    site
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// What came of a storm.
#[derive(Default)]
struct Storm {
    /// How long the attackers of a wave were there at most, from when the last of them had come.
    longest: Duration,
    /// Of the honest requests, while attackers were there.
    times: Vec<Duration>,
    waves: usize,
}

/// Sets a flag when it is dropped, also by a panic: who waits for it must not wait for ever.
struct SetBehind<'a>(&'a AtomicBool);

impl Drop for SetBehind<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Wave after wave, each until its last attacker is gone, and honest requests meanwhile.
fn storm(service: &Service, way: &Way<'_>, flood: &Flood) -> Storm {
    way.submit("hello.sh", &[], "wait=60");
    let before = open_files(service.pid());
    let (began, mut storm) = (Instant::now(), Storm::default());
    while began.elapsed() < STORM {
        let mut attackers = way.wave(&flood.log);
        let is_over = AtomicBool::new(false);
        let all_here = Instant::now();
        thread::scope(|scope| {
            let _over = SetBehind(&is_over);
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    attackers.iter_mut().for_each(Attacker::drip);
                    thread::sleep(DROP_EVERY);
                }
            });
            // The log goes on, so that nothing but being cut ends a watcher.
            while open_files(service.pid()) > before + OTHER_FILES || way.followers() != THE_HONEST_ONE {
                assert!(all_here.elapsed() < 2 * CUT_WITHIN, "{} files are open", open_files(service.pid()));
                let asked = Instant::now();
                assert_eq!(way.submit("hello.sh", &[], "x").status, 202);
                storm.times.push(asked.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
        });
        storm.longest = storm.longest.max(all_here.elapsed());
        storm.waves += 1;
    }
    storm
}

fn check(service: &Service, way: &Way<'_>) {
    let hello = way.submit("hello.sh", &[], "wait=60");
    assert_eq!(hello.status, 200);
    let memory = memory_kib(service.pid(), "VmHWM");
    let flood = Flood::begin(way, &service.site);
    let follower = flood.follow(way);
    let Storm { longest, mut times, waves } = storm(service, way, &flood);
    let (last, to_its_end) = flood.end(way);
    follower.got_all_to(last);
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    let grown = memory_kib(service.pid(), "VmHWM") - memory;
    let (count, median) = (times.len(), times[times.len() / 2]);
    println!(
        "{waves} waves, the last attacker gone after {longest:?}; {count} honest requests, median {median:?}, \
         p99 {p99:?}; {grown} KiB more; the script's end {to_its_end:?} after its last portion"
    );
    assert!(longest < CUT_WITHIN, "{longest:?}");
    assert!(p99 < HONEST_P99, "{p99:?}");
    assert!(grown < MOST_GROWTH_KIB, "{grown} KiB");
}

#[test]
fn waves_of_twelve_hundred_attackers_are_cut_off_while_honest_callers_are_served_quickly() {
    let service = with_flood(Site::new("")).start();
    check(&service, &Way::Plain(service.at));
}

#[test]
fn waves_of_twelve_hundred_attackers_over_tls_are_cut_off_likewise() {
    let authority = Authority::new();
    authority.issue("service", 365);
    let service = with_flood(tls_site(&authority, "service", "")).start();
    check(&service, &Way::Tls(service.at, &authority));
}

/// The same routes behind the server that comes with axum.
#[test]
fn the_twin_on_a_plain_server_keeps_them() {
    let site = with_flood(Site::new(""));
    let settings = site.settings();
    let runtime = Runtime::new().unwrap();
    let agent = runtime.block_on(Agent::open(&settings, Host::default())).unwrap();
    runtime.block_on(async { agent.begin() });
    let way = Way::Plain(plain(&runtime, agent.app()));
    let flood = Flood::begin(&way, &site);
    let follower = flood.follow(&way);
    let mut attackers = way.wave(&flood.log);
    let began = Instant::now();
    eventually("the time in which they should be cut off", || {
        thread::sleep(DROP_EVERY);
        attackers.iter_mut().for_each(Attacker::drip);
        (began.elapsed() > CUT_WITHIN).then_some(())
    });
    assert_eq!(way.followers(), ALL_FOLLOWERS);
    // Slow bodies are the routes' own to cut, and were; those who asked for a log have bytes waiting, whoever has closed.
    let mut silent_and_slow = attackers.iter_mut().take(SILENT + HEADERS);
    assert!(!silent_and_slow.any(|attacker| is_closed(attacker.connection.socket())));
    let (last, _) = flood.end(&way);
    follower.got_all_to(last);
}
