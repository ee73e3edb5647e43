//! The shipped file is the one statement of all defaults.

use agent_config::{Origin, Settings};

use crate::{Place, default_file};

#[test]
fn without_any_source_the_shipped_file_is_in_force() {
    let place = Place::new();
    let loaded = Settings::load(place.sources()).unwrap();
    insta::assert_snapshot!(place.nameless(&format!("{:#?}", loaded.settings)));
    assert_eq!(loaded.file, None);
    assert!(loaded.warnings.is_empty());
}

#[test]
fn loading_the_shipped_file_as_a_file_changes_nothing() {
    let place = Place::new();
    let built_in = Settings::load(place.sources()).unwrap();
    let from_file = place.load(&default_file()).unwrap();
    assert_eq!(built_in.settings, from_file.settings);
}

/// The pretty debug form lists every field there is: sections at 4 blanks, their fields at 8.
#[test]
fn each_field_of_the_settings_stands_in_the_shipped_file() {
    let place = Place::new();
    let settings = Settings::load(place.sources()).unwrap().settings;
    let file = default_file();
    let mut section = String::new();
    let mut seen = 0;
    for line in format!("{settings:#?}").lines() {
        let depth = line.len() - line.trim_start().len();
        let Some((name, _)) = line.trim().split_once(':') else {
            continue;
        };
        match depth {
            4 => section = name.to_owned(),
            8 => {
                seen += 1;
                let written = match (section.as_str(), name) {
                    ("auth", "tokens") => file.contains("\n#[[auth.token]]\n"),
                    ("script_executor", "env") => file.contains("\n[script_executor.env]\n"),
                    _ => key_of_section(&file, &section, name),
                };
                assert!(written, "{section}.{name} is missing in etc/application.toml");
            }
            _ => {}
        }
    }
    assert!(seen > 20, "the debug form is not what this test expects");
}

#[test]
fn each_key_has_a_default_or_is_shown_as_an_example() {
    let place = Place::new();
    let loaded = Settings::load(place.sources()).unwrap();
    for (key, origin) in &loaded.origins {
        let (section, name) = key.split_once('.').unwrap();
        assert!(key_of_section(&default_file(), section, name), "{key}");
        let without_default =
            ["script_executor.is_verify_script_integrity", "http.socket", "http.socket_group"];
        let is_node = section == "node" && !["assignment_public_keys", "env"].contains(&name);
        let expected_unset = without_default.contains(&key.as_str()) || section == "tls" || is_node;
        assert_eq!(*origin == Origin::Unset, expected_unset, "{key}: {origin}");
    }
}

#[test]
fn the_examples_of_the_shipped_file_are_valid() {
    let example = |line: &str| {
        let rest = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        rest.unwrap_or(line).to_owned()
    };
    let text: Vec<String> = default_file().lines().map(example).collect();
    let loaded = Place::new().load(&text.join("\n")).unwrap();
    let token = &loaded.settings.auth.tokens[0];
    assert_eq!(token.name, "ci");
    assert_eq!(token.expires.unwrap().to_string(), "2027-01-01T00:00:00Z");
    let env: Vec<_> = loaded.settings.script_executor.env.iter().collect();
    assert_eq!(env, [("REGION", "eu-1")]);
    let verify = loaded.settings.script_executor.is_verify_script_integrity;
    assert_eq!(verify, Some(true));
}

fn key_of_section(file: &str, section: &str, key: &str) -> bool {
    let header = format!("\n[{section}]\n");
    let start = file.find(&header).map(|at| at + header.len());
    let body = &file[start.unwrap_or(file.len())..];
    let body = &body[..body.find("\n[").unwrap_or(body.len())];
    body.lines().any(|line| {
        let line = line.strip_prefix('#').unwrap_or(line);
        line.starts_with(&format!("{key} = "))
    })
}
