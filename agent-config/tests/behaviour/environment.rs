//! Variables of the environment: every type, and every way to get one wrong.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use agent_config::{Loaded, Settings, Sources};
use executor_core::Leftovers;

use crate::{Place, mistakes};

fn with(variables: &[(&str, &str)]) -> Result<Loaded, agent_config::ConfigError> {
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    let place = Place::new();
    Settings::load(Sources { environment: variables.iter().map(pair).collect(), ..place.sources() })
}

#[test]
fn each_type_can_be_set() {
    let loaded = with(&[
        ("DEVOPS_AGENT__APP__NAME", "web-1"),
        ("DEVOPS_AGENT__HTTP__HOST", "localhost"),
        ("DEVOPS_AGENT__HTTP__PORT", "9000"),
        ("DEVOPS_AGENT__HTTP__PUBLIC_METRICS", "true"),
        ("DEVOPS_AGENT__HTTP__HOSTS", "A.example.com, b.example.com"),
        ("DEVOPS_AGENT__HTTP__ORIGINS", ""),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__IS_VERIFY_SCRIPT_INTEGRITY", "false"),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__SCRIPT_DIR_PREFIX", "/srv/scripts"),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__KILL_GRACE", "500ms"),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__LEFTOVERS", "report"),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__MAX_LOG_BYTES", "1MB"),
        ("DEVOPS_AGENT__LIMITS__CONCURRENT", "7"),
        ("DEVOPS_AGENT__LIMITS__DRAIN", "90d"),
    ]);
    let settings = loaded.unwrap().settings;
    assert_eq!(settings.app.name, "web-1");
    assert_eq!(settings.http.host.to_string(), "127.0.0.1");
    assert_eq!(settings.http.port, 9000);
    assert!(settings.http.public_metrics);
    assert_eq!(settings.http.hosts, ["a.example.com", "b.example.com"]);
    assert!(settings.http.origins.is_empty());
    let executor = settings.script_executor;
    assert_eq!(executor.is_verify_script_integrity, Some(false));
    assert_eq!(executor.script_dir_prefix.to_str(), Some("/srv/scripts"));
    assert_eq!(executor.kill_grace, Duration::from_millis(500));
    assert_eq!(executor.leftovers, Leftovers::Report);
    assert_eq!(executor.max_log_bytes, 1_000_000);
    assert_eq!(settings.limits.concurrent, 7);
    assert_eq!(settings.limits.drain, Duration::from_secs(90 * 86_400));
}

#[test]
fn variables_of_others_are_not_looked_at() {
    let foreign = OsString::from_vec(vec![b'X', 0xff]);
    let place = Place::new();
    let sources = Sources {
        environment: vec![
            ("DEVOPS_AGENT_HTTP_PORT".into(), "nonsense".into()),
            ("HTTP__PORT".into(), "1".into()),
            (foreign.clone(), foreign),
        ],
        ..place.sources()
    };
    assert_eq!(Settings::load(sources).unwrap().settings.http.port, 8848);
}

#[test]
fn each_mistake_is_told_with_the_name_of_its_variable() {
    let result = with(&[
        ("DEVOPS_AGENT__HTTP__PORT", "80a"),
        ("DEVOPS_AGENT__HTTP__PROT", "80"),
        ("DEVOPS_AGENT__http__port", "80"),
        ("DEVOPS_AGENT__HTTP__HOSTS", "good.example.com,http://bad"),
        ("DEVOPS_AGENT__HTTP__PUBLIC_METRICS", "yes"),
        ("DEVOPS_AGENT__LIMITS__BODY", ""),
        ("DEVOPS_AGENT__", "1"),
        ("DEVOPS_AGENT__HTTP", "1"),
        ("DEVOPS_AGENT__HOOK__NAME", "db-1"),
        ("DEVOPS_AGENT__AUTH__TOKEN", "secret"),
        ("DEVOPS_AGENT__SCRIPT_EXECUTOR__ENV__1X", "1"),
        ("DEVOPS_AGENT__X\u{1b}[2J", "1"),
    ]);
    insta::assert_snapshot!(result.unwrap_err().to_string());
}

#[test]
fn bytes_that_are_no_text_are_a_mistake() {
    let place = Place::new();
    let bytes = || OsString::from_vec(vec![0xff]);
    let mut name = OsString::from("DEVOPS_AGENT__");
    name.push(bytes());
    let sources = Sources {
        environment: vec![("DEVOPS_AGENT__APP__NAME".into(), bytes()), (name, "1".into())],
        ..place.sources()
    };
    assert_eq!(mistakes(Settings::load(sources)).len(), 2);
}
