//! Whatever the file or the environment holds, there is an answer and no panic.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use agent_config::{Settings, Sources};
use proptest::prelude::*;

use crate::Place;

/// Text that looks like configuration, so that it gets past the parser.
fn likely_text() -> impl Strategy<Value = String> {
    let section = prop::sample::select(vec![
        "[http]",
        "[app]",
        "[script_executor]",
        "[script_excutor]",
        "[script_executor.env]",
        "[limits]",
        "[retention]",
        "[auth]",
        "[[auth.token]]",
        "[auth.token]",
        "[[hook]]",
        "[hook.params]",
        "[[hook.when]]",
        "[node]",
        "[",
        "[[x]]",
        "",
    ]);
    let key = prop::sample::select(vec![
        "host",
        "port",
        "hosts",
        "origins",
        "path",
        "name",
        "sha256",
        "scopes",
        "expires",
        "queue",
        "body",
        "drain",
        "kill_grace",
        "env",
        "token",
        "params",
        "when",
        "target",
        "labels",
        "pointer",
        "one_of",
        "state_dir",
        "http.port",
        "http",
        "\"\"",
        "é",
        "a.b.c",
    ]);
    let value = prop_oneof![
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>().prop_map(|n| n.to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<String>().prop_map(|s| format!("{s:?}")),
        "[0-9]{0,25}[a-zA-Z]{0,3}".prop_map(|s| format!("\"{s}\"")),
        prop::sample::select(vec![
            "[]",
            "{}",
            "[[]]",
            "[1, \"x\"]",
            "{ a = 1 }",
            "{ a = { pointer = \"/a\" } }",
            "[{ header = \"a\", equals = [] }]",
            "2027-01-01",
            "07:32:00",
            "0x_f",
            "nan",
            "\"\"\"",
            "[",
            "",
        ])
        .prop_map(str::to_owned),
    ];
    let line = (section, key, value).prop_map(|(s, k, v)| format!("{s}\n{k} = {v}\n"));
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_as_file_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let place = Place::new();
        let config_file = Some(place.write("given.toml", bytes));
        let result = Settings::load(Sources { config_file, ..place.sources() });
        result.map_err(|error| error.to_string()).ok();
    }

    #[test]
    fn arbitrary_text_as_file_never_panics(text in any::<String>()) {
        Place::new().load(&text).map_err(|error| error.to_string()).ok();
    }

    #[test]
    fn text_that_looks_like_configuration_never_panics(text in likely_text()) {
        Place::new().load(&text).map_err(|error| error.to_string()).ok();
    }

    #[test]
    fn an_arbitrary_environment_never_panics(
        pairs in prop::collection::vec(("[A-Z_]{0,30}", prop::collection::vec(1..=255_u8, 0..20)), 0..8)
    ) {
        let place = Place::new();
        let pair = |(name, value): (String, Vec<u8>)| {
            (OsString::from(format!("DEVOPS_AGENT__{name}")), OsString::from_vec(value))
        };
        let environment = pairs.into_iter().map(pair).collect();
        let result = Settings::load(Sources { environment, ..place.sources() });
        result.map_err(|error| error.to_string()).ok();
    }
}

#[test]
fn deep_nesting_is_a_mistake_and_no_overflow_of_the_stack() {
    let place = Place::new();
    for text in [
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}", "{a=".repeat(300_000)),
        format!("[{}a]", "a.".repeat(400_000)),
        format!("http.{}port = 1", "a.".repeat(400_000)),
    ] {
        assert!(place.load(&text).is_err());
    }
}
