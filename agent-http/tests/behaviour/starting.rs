//! The first start, the next ones, and starts that cannot be.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use nix::sys::signal::Signal;

use crate::support::{Service, Site, eventually, exchange, request_text};

/// Starts a service that ends by itself.
fn fails(site: &Site, args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = site.command().args(args).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn status(at: std::net::SocketAddr, token: &str) -> u16 {
    exchange(at, request_text("GET", "/api/v1/scripts", Some(token), None).as_bytes()).status
}

#[test]
fn the_first_start_makes_a_token_that_only_its_owner_reads_and_says_how_to_use_it() {
    let service = Site::bare("[script_executor]\nstate_dir = \"the agent's state\"").start();
    let path = service.site.path("the agent's state/token");
    let token = fs::read_to_string(&path).unwrap().trim().to_owned();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(token.starts_with("dag_") && token.len() == 68, "{}", token.len());
    assert_eq!(status(service.at, &token), 200);
    assert_eq!(status(service.at, &token[..67]), 401);
    let said = service.said();
    assert!(!said.contains(&token), "the token itself was said");
    let command = said.lines().find(|line| line.contains("curl ")).expect("a command").to_owned();
    let shell = |command: &str| {
        std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(service.site.folder())
            .output()
            .unwrap()
    };
    let output = shell(&format!("{command} -s -f"));
    assert!(output.status.success() && output.stdout.starts_with(b"{\"scripts\""), "{command}: {output:?}");
    // Arguments of programs are there for all to read; those that the shell itself runs are not programs.
    let output = shell(&command.replace("curl ", "echo "));
    assert!(
        output.status.success() && !String::from_utf8_lossy(&output.stdout).contains(&token),
        "{output:?}"
    );
    assert!(said.contains(&format!("http://{}/", service.at)), "{said}");

    let again = service.stop().start();
    assert_eq!(status(again.at, &token), 200);
    assert!(!again.said().contains("admin token"), "{}", again.said());
    assert!(!again.site.path("the agent's state/token.new").exists());
}

#[test]
fn with_a_configured_token_none_is_made_and_one_that_was_made_is_not_accepted() {
    let bare = Site::bare("").start();
    let token = fs::read_to_string(bare.site.path("state/token")).unwrap().trim().to_owned();
    let site = bare.stop();
    let usual = Site::new("");
    fs::copy(usual.path("application.toml"), site.path("application.toml")).unwrap();
    let service = site.start();
    assert_eq!(status(service.at, &token), 401);
    assert_eq!(status(service.at, &Site::token("reader")), 200);
    let service = usual.start();
    assert!(!service.site.path("state/token").exists());
}

#[test]
fn a_first_token_that_others_may_read_or_that_is_none_keeps_the_service_from_starting() {
    let site = Site::bare("");
    let path = site.path("state/token");
    fs::create_dir(site.path("state")).unwrap();
    fs::write(&path, "dag_0123456789012345678901234567890123456789").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (code, said) = fails(&site, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("others may read") && said.contains("0600"), "{said}");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "").unwrap();
    let (code, said) = fails(&site, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no token in"), "{said}");

    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
    let (code, said) = fails(&site, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("cannot open the first token"), "{said}");

    // The twin: what is a token, and readable by its owner only, is used.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "dag_0123456789012345678901234567890123456789\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let service = site.start();
    assert_eq!(status(service.at, "dag_0123456789012345678901234567890123456789"), 200);
}

#[test]
fn a_second_service_on_one_state_folder_refuses_and_harms_nothing() {
    let service = Site::new("").start();
    let id = service.submit("hello.sh", &[]);
    let (code, said) = fails(&service.site, &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("runs a service on the state folder"), "{said}");
    assert_eq!(service.ended(&id)["status"], "succeeded");
    assert_eq!(service.get("/readyz").status, 200);
}

#[test]
fn a_port_in_use_is_said_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let site = Site::new("");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_agent-http"));
    let output = command
        .args(["--config", "application.toml", "--port", &port])
        .current_dir(site.folder())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("is in use") && said.contains("--port"), "{said}");
}

#[test]
fn all_mistakes_in_the_settings_are_said_at_once_and_nothing_is_made() {
    let site = Site::bare("[http]\nhost = \"192.0.2.1\"\ncolour = \"red\"\n[limits]\ndrain = \"soon\"\n");
    let (code, said) = fails(&site, &[]);
    assert_eq!(code, Some(2));
    for word in ["behind_tls_proxy", "colour", "limits.drain"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!site.path("state").exists());
}

#[test]
fn flags_win_over_the_file_and_the_environment() {
    let site = Site::bare("[script_executor]\nstate_dir = \"from-file\"\n");
    fs::rename(site.path("scripts"), site.path("others")).unwrap();
    let mut child = site
        .command()
        .args(["--state", "from-flag", "--scripts", "others", "--host", "::1"])
        .env("DEVOPS_AGENT__SCRIPT_EXECUTOR__STATE_DIR", "from-environment")
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    while !said.contains("listening on http://[::1]:") {
        assert_ne!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap(), 0, "{said}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(site.path("from-flag/token").exists());
    assert!(!site.path("from-file").exists() && !site.path("from-environment").exists());
}

#[test]
fn scripts_get_the_limit_of_open_files_that_the_agent_was_started_with() {
    let site = Site::new("");
    site.write_script("limit.sh", "#!/bin/sh\nulimit -Sn\nulimit -Hn\n");
    // A soft limit that differs from the hard one: the service raises its own.
    let limited = site.command_after("ulimit -Sn 300");
    let service = site.start_by(limited);
    let id = service.submit("limit.sh", &[]);
    service.ended(&id);
    let log = service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text();
    assert!(log.starts_with("300\n"), "{log}");
    let own = fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let own = own.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(!own.contains(" 300 "), "{own}");
}

#[test]
fn scratch_folders_are_in_the_services_runtime_folder_where_that_is_in_memory() {
    let scratch_with = |runtime: &std::path::Path| {
        let site = Site::new("");
        site.write_script("scratch.sh", "#!/bin/sh\necho \"$TMPDIR\"\n");
        let mut command = site.command();
        command.env("RUNTIME_DIRECTORY", format!("{}:/somewhere/else", runtime.display()));
        let service = site.start_by(command);
        let id = service.submit("scratch.sh", &[]);
        service.ended(&id);
        std::path::PathBuf::from(service.get(&format!("/api/v1/tasks/{id}/log?banner=false")).text())
    };
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    assert!(scratch_with(in_memory.path()).starts_with(in_memory.path()));
    // The twin: a folder that is not in memory is not used.
    let on_disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    assert!(!scratch_with(on_disk.path()).starts_with(on_disk.path()));
}

#[test]
fn settings_are_checked_without_starting_anything() {
    let site = Site::new("");
    let (code, said) = fails(&site, &["--check-config"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the settings are right: ") && said.contains("application.toml"), "{said}");
    assert!(!site.path("state").exists(), "it made a state folder");
    fs::write(site.path("application.toml"), "[http]\nport = \"x\"\nhots = []\n").unwrap();
    let (code, said) = fails(&site, &["--check-config"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("http.port") && said.contains("hots"), "{said}");
}

#[test]
fn files_of_a_node_that_cannot_be_used_are_found_before_it_starts() {
    let site = Site::new(
        "[node]\napi_server = \"ws://127.0.0.1:9\"\nname = \"db-1\"\ntoken_file = \"node.token\"\n",
    );
    for (token, why) in [
        (None, "No such file"),
        (Some(" \n"), "there is no text in it"),
        (Some("two words"), "expected a token, as `agent-cli token create` prints it"),
    ] {
        token.into_iter().for_each(|token| site.write_secret("node.token", token));
        for flags in [&["--check-config"][..], &[]] {
            let (code, said) = fails(&site, flags);
            assert_eq!(code, Some(2), "{why}: {said}");
            assert!(said.contains("cannot be a node: node.token_file: ") && said.contains(why), "{said}");
            assert!(!site.path("state").exists(), "{why}");
        }
    }
    // The twin.
    site.write_secret("node.token", &Site::token("node"));
    let (code, said) = fails(&site, &["--check-config"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_start_that_fails_has_started_none_of_the_tasks_that_wait() {
    let site = Site::new("[limits]\nconcurrent = 1");
    site.write_script("count.sh", "#!/bin/sh\necho started >> \"$1\"\n");
    let service = site.start();
    let (gate, count) = (service.site.path("gate"), service.site.path("count"));
    let runs = service.submit("gate.sh", &[gate.to_str().unwrap()]);
    let waits = service.submit("count.sh", &[count.to_str().unwrap()]);
    service.signal(Signal::SIGTERM);
    fs::write(&gate, "").unwrap();
    let (_, site, said) = service.ended_with();
    assert!(said.contains("1 waiting tasks are kept"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for _ in 0..3 {
        let output = site.command_at(port).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("the port is in use"), "{output:?}");
    }
    assert!(!count.exists());
    let service = site.start();
    assert_eq!(service.ended(&waits)["status"], "succeeded");
    assert_eq!(service.ended(&runs)["status"], "succeeded");
    assert_eq!(fs::read_to_string(&count).unwrap(), "started\n");
}

#[test]
fn more_working_folders_than_are_to_be_kept_are_gone_after_a_start() {
    let site = Site::new("");
    site.write_script("fill.sh", "#!/bin/sh\nhead -c 700000 /dev/zero > file\n");
    let mut service = site.start();
    let run = |_| {
        let id = service.submit("fill.sh", &[]);
        service.ended(&id);
        id
    };
    let ids: Vec<String> = (0..3).map(run).collect();
    let of = |service: &Service| -> Vec<bool> {
        let folder = |id| service.site.path("workspace/tasks").join(id);
        ids.iter().map(|id| folder(id).join("file").exists()).collect()
    };
    for (setting, left) in [
        ("max_workspaces = 2", [false, true, true]),
        ("max_workspace_bytes = \"1MiB\"", [false, false, true]),
    ] {
        assert_ne!(of(&service), left);
        service.change_settings(|text| format!("retention.{setting}\n{text}"));
        service = service.stop().start();
        eventually("the oldest folders go", || (of(&service) == left).then_some(()));
    }
}
