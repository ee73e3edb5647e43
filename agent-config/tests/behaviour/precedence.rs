//! Defaults, one file, the environment, flags: the later wins.

use agent_config::{Flags, Origin, Settings, Sources};

use crate::Place;

fn port_with(place: &Place, file: bool, environment: bool, flag: bool) -> (u16, String) {
    let config_file = file.then(|| place.write("given.toml", "[http]\nport = 1001\n"));
    let mut sources = Sources { config_file, ..place.sources() };
    if environment {
        let variable = ("DEVOPS_AGENT__HTTP__PORT".into(), "1002".into());
        sources.environment.push(variable);
    }
    if flag {
        sources.flags.port = Some(1003);
    }
    let loaded = Settings::load(sources).unwrap();
    let origin = loaded.origins["http.port"].to_string();
    (loaded.settings.http.port, place.nameless(&origin))
}

#[test]
fn the_later_source_wins_and_is_named() {
    let place = Place::new();
    let (port, origin) = port_with(&place, false, false, false);
    assert_eq!(port, 8848);
    assert!(origin.starts_with("built-in default:"), "{origin}");
    let file = (1001, "[folder]/given.toml:2:8".to_owned());
    assert_eq!(port_with(&place, true, false, false), file);
    let environment = (1002, "DEVOPS_AGENT__HTTP__PORT".to_owned());
    assert_eq!(port_with(&place, true, true, false), environment);
    assert_eq!(port_with(&place, false, true, false), environment);
    let flag = (1003, "--port".to_owned());
    assert_eq!(port_with(&place, true, true, true), flag);
    assert_eq!(port_with(&place, false, false, true), flag);
}

#[test]
fn each_flag_sets_its_key() {
    let place = Place::new();
    let sources = Sources {
        flags: Flags {
            host: Some("::1".to_owned()),
            port: Some(0),
            script_dir: Some("my scripts".into()),
            state_dir: Some("/var/lib/agent".into()),
        },
        ..place.sources()
    };
    let loaded = Settings::load(sources).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.http.host.to_string(), "::1");
    assert_eq!(settings.http.port, 0);
    let executor = &settings.script_executor;
    assert_eq!(executor.script_dir_prefix, place.path().join("my scripts"));
    assert_eq!(executor.state_dir.to_str(), Some("/var/lib/agent"));
    assert_eq!(executor.work_dir_prefix, place.path().join("workspace"));
    let origin = &loaded.origins["script_executor.script_dir_prefix"];
    assert_eq!(*origin, Origin::Flag { name: "--scripts" });
}

#[test]
fn what_a_file_leaves_out_keeps_its_default() {
    let loaded = Place::new().load("[http]\nport = 1\n").unwrap();
    assert_eq!(loaded.settings.http.host.to_string(), "127.0.0.1");
    assert_eq!(loaded.settings.limits.queue, 10_000);
}

#[test]
fn variables_for_scripts_are_joined_by_name() {
    let place = Place::new();
    let text = "[script_executor.env]\nREGION = \"eu\"\nTIER = \"test\"\n";
    let sources = Sources {
        config_file: Some(place.write("given.toml", text)),
        environment: vec![
            ("DEVOPS_AGENT__SCRIPT_EXECUTOR__ENV__TIER".into(), "prod".into()),
            ("DEVOPS_AGENT__SCRIPT_EXECUTOR__ENV__lower_1".into(), "".into()),
        ],
        ..place.sources()
    };
    let loaded = Settings::load(sources).unwrap();
    let variables: Vec<_> = loaded.settings.script_executor.env.iter().collect();
    assert_eq!(variables, [("REGION", "eu"), ("TIER", "prod"), ("lower_1", "")]);
}
