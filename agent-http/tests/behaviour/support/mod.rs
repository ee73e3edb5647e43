//! A service of its own for each test: a folder with scripts and settings, and the real program on a free port.

mod authority;
mod http;
mod random;
mod site;
mod tls;

pub(crate) use authority::Authority;
pub(crate) use http::{Reply, connect, connect_local, exchange, exchange_over, read_reply, request_text};
pub(crate) use random::Random;
pub(crate) use site::{Service, Site, memory_kib, tasks, with, without};
pub(crate) use tls::{TLS, TlsConnection, install, tls_connect, tls_site};

use std::time::{Duration, Instant};

/// Longest time that anything in here may take; the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The promise: changed settings are in force by then.
pub(crate) const IN_FORCE: Duration = Duration::from_secs(1);

/// Looks again and again until what is waited for has come.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
