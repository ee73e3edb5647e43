//! `agent-cli token create`: a token for its owner, and the section for the service's configuration.

use std::process::ExitCode;

use agent_config::{NewToken, Scope};
use serde_json::json;

use crate::args::{TokenArgs, TokenCommand};
use crate::manifest::time;
use crate::output::{self, Failure, say};

/// Carries one of the token's commands out.
pub(crate) fn run(command: &TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create(args) => create(args),
    }
}

fn create(args: &TokenArgs) -> Result<ExitCode, Failure> {
    for scope in &args.scopes {
        if Scope::parse(scope).is_none() {
            let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
            return Err(Failure::new(format!("'{scope}' is no scope; there are {}", known.join(", "))));
        }
    }
    let expires = args.expires.as_deref().map(time).transpose()?;
    let token = NewToken::generate()
        .map_err(|error| Failure::agent(format!("cannot get random numbers for a token: {error}")))?;
    let sha256 = hex::encode(token.digest().as_bytes());
    let section = section(args, &sha256, expires.map(|time| time.to_string()));
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

fn section(args: &TokenArgs, sha256: &str, expires: Option<String>) -> String {
    let mut lines = vec![
        "[[auth.token]]".to_owned(),
        format!("name = {}", quoted(&args.name)),
        format!("sha256 = \"{sha256}\""),
        format!("scopes = {}", list(&args.scopes)),
        format!("scripts = {}", list(&args.scripts)),
    ];
    for (key, values) in [("work_dirs", &args.work_dirs), ("env", &args.env)] {
        if !values.is_empty() {
            lines.push(format!("{key} = {}", list(values)));
        }
    }
    lines.extend(expires.map(|time| format!("expires = \"{time}\"")));
    lines.join("\n")
}

fn list(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
    format!("[{}]", values.join(", "))
}

/// A basic string of TOML; JSON's escapes are a part of TOML's.
fn quoted(text: &str) -> String {
    json!(text).to_string()
}
