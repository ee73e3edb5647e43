//! What the program says on its standard error: lines for people, or a JSON object for each.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use agent_config::LogFormat;
use jiff::Timestamp;
use serde_json::json;
use tracing_subscriber::EnvFilter;

/// Whether JSON is spoken: said once, when the settings are known.
static SPEAKS_JSON: AtomicBool = AtomicBool::new(false);

/// Starts the log. Whatever was said before was for whoever started this.
pub(crate) fn start(format: LogFormat) {
    let is_terminal = io::stderr().is_terminal();
    let is_json = match format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    SPEAKS_JSON.store(is_json, Ordering::Relaxed);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr);
    if is_json {
        lines.json().flatten_event(true).with_span_list(false).init();
    } else {
        // People get colours on a terminal; in a pipe lines are plain.
        lines.with_ansi(is_terminal).init();
    }
}

/// Says something to whoever started this, however little the log is to say.
pub(crate) fn say(text: &str) {
    put("INFO", text);
}

/// Says why this does not start.
pub(crate) fn complain(text: &str) {
    put("ERROR", text);
}

fn put(level: &str, text: &str) {
    let line = if SPEAKS_JSON.load(Ordering::Relaxed) {
        json!({ "timestamp": Timestamp::now(), "level": level, "message": text }).to_string()
    } else {
        text.to_owned()
    };
    // Where there is no stderr any more, nobody listens.
    let _ = writeln!(io::stderr(), "{line}");
}
