//! A followed log whose connection is lost while its task goes on.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::service::Service;
use crate::support::eventually;

#[test]
fn a_connection_that_is_lost_is_taken_up_at_the_byte_where_it_was_cut() {
    let (site, service) = Service::on_a_free_port();
    site.script("waits.sh", "#!/bin/sh\necho one\nread -r _ <\"$1\"\necho two\nexit 7\n");
    let go_on = site.fifo("go-on");
    assert_eq!(site.ended(["task", "submit", "--id", "long", "waits.sh", &go_on]).code, Some(0));
    let (port, asked) = cutting_proxy(service.port, "one\n");
    let server = format!("http://127.0.0.1:{port}");
    let mut live =
        site.live(["task", "logs", "-f", "--server", &server, "--token-file", "state/token", "long"]);
    assert_eq!(live.line(), "one\n");
    // The script goes on only now, so that its log is still being written.
    eventually("the log to be asked for again", || {
        asked.lock().unwrap().to_lowercase().contains("range: bytes=4-\r\n").then_some(())
    });
    fs::write(&go_on, "\n").unwrap();
    let ended = live.ended();
    assert_eq!((ended.text().as_str(), ended.code), ("two\n", Some(7)), "{}", ended.stderr);
}

/// Hands connections on to a service and cuts the first one that has brought a text; gives what was asked, too.
fn cutting_proxy(to: u16, text: &'static str) -> (u16, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(String::new()));
    let (heard, is_cut) = (asked.clone(), Arc::new(AtomicBool::new(false)));
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let service = TcpStream::connect(("127.0.0.1", to)).unwrap();
            let (heard, is_cut) = (heard.clone(), is_cut.clone());
            let ends = (client.try_clone().unwrap(), service.try_clone().unwrap());
            thread::spawn(move || {
                hand_on(&client, &service, |bytes| {
                    heard.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
                    true
                });
            });
            thread::spawn(move || {
                let mut brought = String::new();
                hand_on(&ends.1, &ends.0, |bytes| {
                    brought.push_str(&String::from_utf8_lossy(bytes));
                    !brought.contains(text) || is_cut.swap(true, Ordering::SeqCst)
                });
            });
        }
    });
    (port, asked)
}

/// Hands bytes on for as long as there are some and `goes_on` says so; then neither end gets any more.
fn hand_on(mut from: &TcpStream, mut to: &TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 4096];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || to.write_all(&buffer[..read]).is_err() || !goes_on(&buffer[..read]) {
            break;
        }
    }
    // They may be closed already.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
