//! A log is read from a line on, and searched, also while it is written.

use std::fs;

use serde_json::{Value, json};

use super::get;
use crate::support::{Service, Site, eventually};

/// Some lines, a gate, and one more.
const LINES: &str = "#!/bin/bash\nfor ((i = 1; i <= 300; i++)); do echo \"line $i of it\"; done\nprintf 'wait\\n'\nuntil [ -e \"$1\" ]; do sleep 0.02; done\necho 'line 301 of it'\n";

struct Running {
    service: Service,
    id: String,
}

impl Running {
    fn start() -> Self {
        let site = Site::new("");
        site.write_script("lines.sh", LINES);
        let service = site.start();
        let gate = service.site.path("gate").display().to_string();
        let id = service.submit("lines.sh", &[&gate]);
        let running = Self { service, id };
        eventually("the gate", || running.log("banner=false").ends_with(b"wait\n").then_some(()));
        running
    }

    fn open_the_gate(&self) {
        fs::write(self.service.site.path("gate"), "").unwrap();
    }

    fn log(&self, query: &str) -> Vec<u8> {
        get(&self.service, &format!("/api/v1/tasks/{}/log?{query}", self.id), "").body
    }

    fn search(&self, query: &str) -> Value {
        let reply = get(&self.service, &format!("/api/v1/tasks/{}/log/search?{query}", self.id), "");
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }
}

#[test]
fn a_log_is_read_from_any_line_on_while_it_is_written_and_afterwards() {
    let running = Running::start();
    let from_line = |line: u64, banner: bool| {
        let path = format!("/api/v1/tasks/{}/log?line={line}&banner={banner}", running.id);
        get(&running.service, &path, "Range: bytes=0-0\r\n")
    };
    for is_ended in [false, true] {
        if is_ended {
            running.open_the_gate();
            running.service.ended(&running.id);
        }
        for banner in [false, true] {
            let whole = running.log(&format!("banner={banner}"));
            let mut offset = 0;
            let mut line = 0;
            for text in whole.split_inclusive(|byte| *byte == b'\n') {
                line += 1;
                if line % 50 == 1 {
                    let reply = from_line(line, banner);
                    assert_eq!((reply.status, &reply.body[..]), (200, &whole[offset..]), "line {line}");
                    assert_eq!(reply.header("log-offset"), Some(offset.to_string().as_str()));
                }
                offset += text.len();
            }
            let reply = from_line(line + 1, banner);
            assert_eq!((reply.status, reply.code().as_str()), (404, "no_line"), "{}", reply.text());
        }
    }
    for wrong in ["0", "-1", "x", ""] {
        let reply = get(&running.service, &format!("/api/v1/tasks/{}/log?line={wrong}", running.id), "");
        assert_eq!(
            (reply.status, reply.json()["errors"][0]["field"].as_str()),
            (422, Some("line")),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_log_is_followed_from_a_line_on_as_bytes_and_as_events() {
    let running = Running::start();
    let followed = std::thread::scope(|scope| {
        let bytes = scope.spawn(|| running.log("banner=false&follow=true&line=301"));
        let events = scope.spawn(|| {
            let path = format!("/api/v1/tasks/{}/log?banner=false&line=301", running.id);
            get(&running.service, &path, "Accept: text/event-stream\r\n").text()
        });
        running.open_the_gate();
        (bytes.join().unwrap(), events.join().unwrap())
    });
    assert_eq!(followed.0, b"wait\nline 301 of it\n");
    let offset = running.log("banner=false").len() - followed.0.len();
    assert!(followed.1.contains(&format!("{{\"offset\":{offset},\"text\":\"wait\\n")), "{}", followed.1);
    assert!(followed.1.contains("event: end\n"), "{}", followed.1);
}

#[test]
fn a_search_finds_lines_with_their_numbers_and_offsets_page_by_page() {
    let running = Running::start();
    let found = running.search("q=line+30&banner=false");
    assert_eq!(
        found["matches"][0],
        json!({ "line": 30, "offset": 9 * 13 + 20 * 14, "text": "line 30 of it" })
    );
    // 30 and 300; not yet 301.
    assert_eq!((found["matches"].as_array().unwrap().len(), &found["next"]), (2, &Value::Null));
    running.open_the_gate();
    running.service.ended(&running.id);
    for banner in [true, false] {
        let whole = running.search(&format!("q=1+of&banner={banner}&limit=1000"));
        let expected = whole["matches"].as_array().unwrap();
        assert_eq!(expected.len(), 31);
        let log = running.log(&format!("banner={banner}"));
        for found in expected {
            let offset = usize::try_from(found["offset"].as_u64().unwrap()).unwrap();
            assert!(log[offset..].starts_with(b"1 of it\n"), "{found}");
        }
        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = running.search(&format!("q=1+of&banner={banner}&limit=7{cursor}"));
            pages.extend(page["matches"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(&pages, expected);
    }
    assert_eq!(running.search("q=%00")["matches"], json!([]));
}

#[test]
fn what_is_no_search_is_refused_with_every_mistake() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    let long = "x".repeat(1025);
    for (query, fields) in [
        ("", vec!["q"]),
        ("q=", vec!["q"]),
        ("q=a%0Ab", vec!["q"]),
        (&format!("q={long}"), vec!["q"]),
        ("q=a&limit=0&cursor=x&banner=2&other=1", vec!["banner", "limit", "cursor", "other"]),
    ] {
        let reply = get(&service, &format!("/api/v1/tasks/{id}/log/search?{query}"), "");
        let json = reply.json();
        let named: Vec<&str> =
            json["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        assert_eq!((reply.status, named), (422, fields), "{query}");
    }
    let nobody = get(&service, "/api/v1/tasks/none/log/search?q=a", "");
    assert_eq!((nobody.status, nobody.code().as_str()), (404, "not_found"));
}
