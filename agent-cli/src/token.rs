//! `agent-cli token create`: a token for its owner, and the section for the service's configuration.

use std::io::Write;
use std::process::ExitCode;

use agent_config::{ConfigError, NewToken, Settings, Sources};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::args::{TokenArgs, TokenCommand};
use crate::failure::Failure;
use crate::output::{self, say};

/// Carries one of the token's commands out.
pub(crate) fn run(command: &TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create(args) => create(args),
    }
}

fn create(args: &TokenArgs) -> Result<ExitCode, Failure> {
    let token = NewToken::generate()
        .map_err(|error| Failure::agent(format!("cannot get random numbers for a token: {error}")))?;
    let sha256 = hex::encode(token.digest().as_bytes());
    let section = section(args, &sha256);
    check(&section)?;
    if args.json {
        output::print_json(&json!({ "token": token.secret(), "sha256": sha256, "section": section }));
        return Ok(ExitCode::SUCCESS);
    }
    output::print(token.secret());
    say("\nThe line above is the token. It is shown this once; give it to its owner in a file of mode 0600.");
    say("This goes into the service's application.toml:\n");
    say(&section);
    Ok(ExitCode::SUCCESS)
}

fn section(args: &TokenArgs, sha256: &str) -> String {
    let mut lines = vec![
        "[[auth.token]]".to_owned(),
        format!("name = {}", quoted(&args.name)),
        format!("sha256 = \"{sha256}\""),
        format!("scopes = {}", list(&args.scopes)),
        format!("scripts = {}", list(&args.patterns)),
    ];
    for (key, values) in [("work_dirs", &args.work_dirs), ("env", &args.env)] {
        if !values.is_empty() {
            lines.push(format!("{key} = {}", list(values)));
        }
    }
    lines.extend(args.expires.as_ref().map(|time| format!("expires = {}", quoted(time))));
    lines.join("\n")
}

/// Reads the section as the service will: what it would not accept is told now.
fn check(section: &str) -> Result<(), Failure> {
    let mut file = NamedTempFile::new()?;
    file.write_all(section.as_bytes())?;
    let mut sources = Sources::new("/", 0);
    sources.config_file = Some(file.path().to_owned());
    let ConfigError::Mistakes { mistakes, .. } = (match Settings::load(sources) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    }) else {
        return Err(Failure::agent(format!("cannot check the section in {}", file.path().display())));
    };
    let details = mistakes
        .iter()
        .map(|mistake| format!("{}: {}; {}", mistake.key.escape_debug(), mistake.problem, mistake.remedy));
    Err(Failure::new("no token was made; mend the following").with_details(details.collect()))
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A basic string of TOML; JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
