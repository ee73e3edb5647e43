//! A history as a site of some hundred scripts has it: what is in it, what it is asked for, and how it is written.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};
use serde_json::json;
use task_service::TaskSpec;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The tables of version 2, with a few rows that are removed.
const VERSION_2: &str = include_str!("../../tests/behaviour/version_2.sql");
/// The history's length in time.
const DAYS: i64 = 30;
const VERBS: [&str; 10] =
    ["deploy", "backup", "check", "db", "web", "net", "build", "report", "clean", "sync"];
const SERVICES: [&str; 20] = [
    "web", "api", "shop", "cart", "mail", "auth", "search", "index", "cache", "queue", "jobs", "files",
    "users", "pages", "logs", "disk", "cert", "dns", "node", "host",
];

/// Lists by one condition at most. `since` is in hours ago.
pub(crate) const LISTS: [&str; 16] = [
    "",
    "status=succeeded",
    "status=failed",
    "status=interrupted",
    "status=lost",
    "name=deploy/web.sh",
    "name=once.sh",
    "name=nobody.sh",
    "env=prod",
    "team=t7",
    "ticket=T-500",
    "ticket=none",
    "node=n1",
    "since=1",
    "since=168",
    "since=1000000",
];
pub(crate) const PAIRS: [&str; 14] = [
    "name=deploy/web.sh&status=failed",
    "name=check/dns.sh&status=failed",
    "name=once.sh&status=succeeded",
    "env=prod&status=failed",
    "team=t7&status=failed",
    "team=t7&env=dev",
    "ticket=T-500&status=succeeded",
    "name=deploy/web.sh&env=dev",
    "since=168&team=t7",
    "since=168&status=failed",
    "since=1&status=interrupted",
    "status=failed&status=timed_out",
    "half=even&parity=odd",
    "half=even&status=failed",
];
pub(crate) const SEARCHES: [&str; 24] = [
    "q=sh",
    "q=prod",
    "q=deploy web",
    "q=once",
    "q=nothing",
    "q=T-500",
    "q=v1234",
    "q=script_failed",
    "q=s",
    "q=t",
    "q=0",
    "q=dep",
    "q=team t",
    "q=even odd",
    "q=sh de",
    "q=user7 prod deploy",
    "q=sh&status=failed",
    "q=sh&status=interrupted",
    "q=sh&status=lost",
    "q=prod&ticket=T-500",
    "q=once&env=prod",
    "q=even&parity=odd",
    "q=sh&since=1",
    "q=nothing&status=succeeded",
];

pub(crate) fn ago(hours: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_hours(hours)
}

/// The script that is run beside the history.
pub(crate) const SCRIPT: &str = "version.sh";

/// What is submitted beside the history.
pub(crate) fn spec(number: usize) -> TaskSpec {
    let spec = json!({"name": SCRIPT, "params": {"version": format!("v{}", number % 5000)},
        "labels": {"team": format!("t{}", number % 30), "env": "prod"}});
    TaskSpec::from_json(spec).unwrap_or_else(|_| TaskSpec::new(SCRIPT))
}

/// Writes the database of so many ended tasks.
pub(crate) fn write(state: &Path, tasks: usize) -> Result<()> {
    fs::create_dir_all(state)?;
    let mut db = Connection::open(state.join("agent.db"))?;
    db.pragma_update(None, "synchronous", "OFF")?;
    db.execute_batch(VERSION_2)?;
    let transaction = db.transaction()?;
    transaction.execute("DELETE FROM task", [])?;
    {
        let mut insert = transaction.prepare(
            "INSERT INTO task (id, name, runner, status, attempt, created_by, created_at, started_at, ended_at,
                log_bytes, request_sha256, spec, result)
            VALUES (?1, ?2, 'script', ?3, 1, ?4, ?5, ?5, ?6, ?7, zeroblob(32), ?8, ?9)",
        )?;
        let mut label = transaction.prepare("INSERT INTO label (key, value, seq) VALUES (?1, ?2, ?3)")?;
        let begin = ago(DAYS * 24).as_nanosecond() as i64;
        let step = DAYS * 24 * 3600 * 1_000_000_000 / tasks as i64;
        for number in 0..tasks {
            let task = Row::of(number);
            let at = begin + step * number as i64;
            let result = task.result();
            insert.execute(params![
                task.id(at / 1_000_000),
                task.name,
                task.status,
                task.user(),
                at,
                at + 1_500_000_000,
                (1000 + task.random % 5000) as i64,
                task.spec().to_string(),
                result.to_string()
            ])?;
            let place = transaction.last_insert_rowid();
            for (key, value) in task.labels() {
                label.execute(params![key, value, place])?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Says what the database takes.
pub(crate) fn room(state: &Path, tasks: usize) -> Result<()> {
    let db = Connection::open(state.join("agent.db"))?;
    let sql = "SELECT name, sum(pgsize) FROM dbstat GROUP BY 1 HAVING sum(pgsize) > 1000000 ORDER BY 2 DESC";
    println!(
        "bytes a task        {:>9.0}",
        fs::metadata(state.join("agent.db"))?.len() as f64 / tasks as f64
    );
    let mut parts = db.prepare(sql)?;
    let mut rows = parts.query([])?;
    while let Some(row) = rows.next()? {
        let (name, bytes): (String, i64) = (row.get(0)?, row.get(1)?);
        println!("  {name:<25} {:>6.0}", bytes as f64 / tasks as f64);
    }
    Ok(())
}

/// One task, made from its number alone.
struct Row {
    number: usize,
    random: u64,
    name: String,
    status: &'static str,
}

impl Row {
    fn of(number: usize) -> Self {
        let random = mixed(number as u64);
        let pick = |shift: u32, of: usize| (random >> shift) as usize % of;
        // A few scripts are run most: the lower of two numbers is more often small.
        let verb = VERBS[pick(0, 10).min(pick(8, 10))];
        let service = SERVICES[pick(16, 20).min(pick(24, 20))];
        let name = if number == 777 { "once.sh".to_owned() } else { format!("{verb}/{service}.sh") };
        let status = match pick(32, 1000) {
            // The script that never fails.
            _ if name == "check/dns.sh" => "succeeded",
            0..80 => "failed",
            80..95 => "timed_out",
            95..100 => "cancelled",
            _ if number % 50_000 == 7 => "interrupted",
            _ => "succeeded",
        };
        Self { number, random, name, status }
    }

    fn id(&self, milliseconds: i64) -> String {
        let (high, low) = (milliseconds >> 16, milliseconds & 0xffff);
        let (a, b) = (self.random & 0xfff, self.random >> 12 & 0x3fff | 0x8000);
        format!("{high:08x}-{low:04x}-7{a:03x}-{b:04x}-{:012x}", mixed(self.random) & 0xffff_ffff_ffff)
    }

    fn user(&self) -> String {
        format!("user{}", self.random >> 40 & 15)
    }

    fn labels(&self) -> Vec<(&'static str, String)> {
        let env = ["prod", "prod", "staging", "dev"][(self.random >> 44 & 3) as usize];
        let mut labels = vec![("team", format!("t{}", (self.random >> 46) % 30)), ("env", env.to_owned())];
        // Labels that half of the tasks have each, and none both.
        labels.push(if self.number.is_multiple_of(2) {
            ("half", "even".to_owned())
        } else {
            ("parity", "odd".to_owned())
        });
        if self.number.is_multiple_of(100) {
            labels.push(("ticket", format!("T-{}", self.number / 1000)));
        }
        labels
    }

    fn spec(&self) -> serde_json::Value {
        let labels: serde_json::Map<_, _> =
            self.labels().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        json!({"name": self.name, "labels": labels, "on_behalf_of": format!("person{}@example.com", self.random % 300),
            "params": {"version": format!("v{}", self.random % 5000), "replicas": self.random % 20}})
    }

    fn result(&self) -> serde_json::Value {
        let success = self.status == "succeeded";
        let error = (!success).then(
            || json!({"code": "script_failed", "message": "the script ended with code 1; its log says why"}),
        );
        json!({"outcome": {"kind": "exited", "code": i32::from(!success)}, "success": success,
            "exit_code": i32::from(!success), "duration_ms": 1500, "command": [format!("/srv/agent/state/store/{}", self.name)],
            "script_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "manifest": "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
            "output_params": {}, "output_error": null, "kill_scope": "cgroup", "containment": "guaranteed",
            "confinement": "none", "leftovers_killed": 0, "leaked_output": false,
            "log": {"bytes": 1234, "header_bytes": 180, "footer_bytes": 120, "truncated_bytes": 0, "incomplete": null},
            "usage": {"user_ms": 3, "system_ms": 2, "max_rss_kib": null}, "error": error})
    }
}

/// A number that looks random, the same in each run (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
