//! All mistakes of a file at once, each with its place, what was found and what would be right.

use agent_config::{Flags, Settings, Sources};

use crate::{Place, mistakes};

const TWENTY: &str = r#"
port = 8848
colour = "blue"
[app]
name = "my agent"
[htpp]
port = 1
[http]
host = "0.0.0.0"
port = 80000
prot = 80
hosts = ["ok.example.com", "https://no.example.com", 7]
origins = "https://ops.example.com"
public_metrics = "yes"
[script_excutor]
state_dir = ""
is_verify_script_integrity = 1
manifest_public_keys = ["untrusted comment: minisign public key"]
path = "/usr/bin:bin"
default_timeout = 60
max_timeout = "10m"
kill_grace = "0s"
leftovers = "keep"
max_log_bytes = "1G"
[script_executor.env]
"A B" = "1"
NUMBER = 1
[limits]
queue = -1
drian = "30s"
[retention]
tasks = "30"
[node]
api_server = "https://api.example.com:8848"
[[notify]]
name = "mail"
"#;

#[test]
fn a_file_with_many_mistakes_tells_them_all() {
    let place = Place::new();
    let text = TWENTY.replace("[script_excutor]", "[script_executor]");
    assert!(mistakes(place.load(&text)).len() > 20);
    insta::assert_snapshot!(place.complaint(&text));
}

#[test]
fn mistakes_of_all_sources_are_told_together() {
    let place = Place::new();
    let sources = Sources {
        config_file: Some(place.write("given.toml", "http.port = \"x\"\n")),
        environment: vec![("DEVOPS_AGENT__LIMITS__QUEUE".into(), "many".into())],
        flags: Flags { host: Some("example.com".to_owned()), ..Flags::default() },
        ..place.sources()
    };
    let error = Settings::load(sources).unwrap_err().to_string();
    insta::assert_snapshot!(place.nameless(&error));
}

#[test]
fn text_that_is_no_toml_is_told_line_by_line_beside_the_other_mistakes() {
    let text =
        "[http\nport = 1\n[limits]\nqueue = \ndrain = \"30\"\nqueue = 5\nbody = \"1MiB\nconcurrent = 08\n";
    insta::assert_snapshot!(Place::new().complaint(text));
}

#[test]
fn both_spellings_of_the_section_are_read_but_not_together() {
    let place = Place::new();
    let kill_grace = |text: &str| {
        let settings = place.load(text).unwrap().settings;
        settings.script_executor.kill_grace.as_secs()
    };
    assert_eq!(kill_grace("[script_excutor]\nkill_grace = \"3s\"\n"), 3);
    assert_eq!(kill_grace("[script_executor]\nkill_grace = \"4s\"\n"), 4);
    let both = "[script_excutor]\nkill_grace = \"3s\"\n[script_executor]\nmax_timeout = \"25h\"\n";
    insta::assert_snapshot!(place.complaint(both));
}

#[test]
fn the_configuration_that_the_project_began_with_is_read() {
    let text = "[app]\nname = \"devops_agent\"\n[http]\nport = 8848\n[script_excutor]\n\
                work_dir_prefix = \"workspace\"\nscript_dir_prefix = \"scripts\"\nis_verify_script_integrity = false\n";
    let settings = Place::new().load(text).unwrap().settings;
    let verify = settings.script_executor.is_verify_script_integrity;
    assert_eq!(verify, Some(false));
}

#[test]
fn what_this_version_cannot_enforce_is_refused() {
    let place = Place::new();
    for section in ["[fleet]", "[[notify]]", "notify = 1"] {
        let complaint = place.complaint(&format!("{section}\n"));
        assert!(complaint.contains("not supported by this version"), "{complaint}");
    }
}

#[test]
fn a_node_has_an_api_server_a_name_and_a_token_or_none_of_them() {
    let place = Place::new();
    let all = "[node]\napi_server = \"ws://127.0.0.1:1\"\nname = \"db-1\"\ntoken_file = \"t\"\nlabels = { role = \"db\" }\n";
    let node = place.load(all).unwrap().settings.node;
    assert_eq!(node.labels["role"], "db");
    assert!(node.token_file.unwrap().is_absolute());
    for part in ["name = \"db-1\"", "api_server = \"wss://x:1\"", "token_file = \"t\""] {
        let complaint = place.complaint(&format!("[node]\n{part}\n"));
        assert!(complaint.contains("all or none"), "{complaint}");
    }
    let clear = place.complaint(&all.replace("127.0.0.1", "192.0.2.1"));
    assert!(clear.contains("ws:// to loopback only"), "{clear}");
    let label = place.complaint(&all.replace("role =", "\"a b\" ="));
    assert!(label.contains("node.labels"), "{label}");
}

#[test]
fn a_node_trusts_nobody_by_default_and_sends_nothing_in_clear_through_a_proxy() {
    let place = Place::new();
    let node = |rest: &str| format!("[node]\nname = \"db-1\"\n{rest}\n");
    let tls = "api_server = \"wss://x:1\"\nca = \"ca.pem\"\n";
    let pair = "certificate = \"node.pem\"\nkey = \"node.key\"\n";
    let proxy = "proxy = \"http://proxy:3128\"\nproxy_credentials_file = \"p\"\n";
    let all = place.load(&node(&format!("{tls}{pair}{proxy}"))).unwrap().settings.node;
    assert!(all.certificate.unwrap().is_absolute() && all.proxy_credentials_file.unwrap().is_absolute());

    let by_token = "token_file = \"t\"\n";
    let clear = "api_server = \"ws://127.0.0.1:1\"\n";
    for (rest, words) in [
        (format!("api_server = \"wss://x:1\"\n{by_token}"), "node.ca is not given"),
        (
            format!("{tls}{by_token}certificate = \"node.pem\""),
            "node.certificate is given and node.key is not",
        ),
        (format!("{tls}{by_token}key = \"node.key\""), "node.key is given and node.certificate is not"),
        (format!("{clear}{by_token}{pair}"), "node.certificate is given and node.api_server is ws://"),
        (
            format!("{clear}{by_token}proxy = \"http://proxy:1\""),
            "node.proxy is given and node.api_server is ws://",
        ),
        (format!("{tls}{by_token}proxy_credentials_file = \"p\""), "node.proxy is not"),
        (tls.to_owned(), "node.certificate may stand for node.token_file"),
    ] {
        let complaint = place.complaint(&node(&rest));
        assert!(complaint.contains(words), "{words}: {complaint}");
    }
    // A password that was put where it does not belong is not repeated.
    let complaint = place.complaint(&node(&format!("{tls}{by_token}proxy = \"http://u:c4n4ry@proxy:1\"")));
    assert!(
        complaint.contains("node.proxy_credentials_file") && !complaint.contains("c4n4ry"),
        "{complaint}"
    );
}

#[test]
fn another_address_than_loopback_needs_tls_or_a_proxy_that_speaks_it() {
    let place = Place::new();
    for host in ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        let text = format!("http.host = \"{host}\"\n");
        let complaint = place.complaint(&text);
        assert!(complaint.contains("expected a section [tls]"), "{complaint}");
        assert!(complaint.contains("given.toml:1:13"), "{complaint}");
        let behind = place.load(&format!("{text}http.behind_tls_proxy = true\n"));
        assert!(behind.is_ok(), "{behind:?}");
        let encrypted = place.load(&format!("{text}[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\n"));
        assert!(encrypted.is_ok(), "{encrypted:?}");
    }
    for host in ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"] {
        let loaded = place.load(&format!("http.host = \"{host}\"\n"));
        assert!(loaded.unwrap().settings.http.host.is_loopback(), "{host}");
    }
}

#[test]
fn certificate_and_key_belong_together_and_certificates_of_callers_need_their_ca() {
    let place = Place::new();
    let token = format!(
        "[[auth.token]]\nname = \"ci\"\ncertificate_sha256 = \"{}\"\nscopes = [\"read\"]\n",
        "ab".repeat(32)
    );
    for (text, words) in [
        (
            "[tls]\ncertificate = \"c.pem\"\n",
            ":2:15: tls.certificate: tls.certificate is given and tls.key is not",
        ),
        ("[tls]\nkey = \"k.pem\"\n", ":2:7: tls.key: tls.key is given and tls.certificate is not"),
        ("[tls]\nclient_ca = \"ca.pem\"\n", "tls.client_ca is given and tls.certificate is not"),
        ("[tls]\ncertificate = 1\nkey = \"\"\n", "expected a path"),
        (&token, ":1:1: auth.token.ci: certificate_sha256 is given and tls.client_ca is not"),
    ] {
        let complaint = place.complaint(text);
        assert!(complaint.contains(words), "{text}: {complaint}");
    }
    let all = format!("[tls]\ncertificate = \"c.pem\"\nkey = \"k.pem\"\nclient_ca = \"ca.pem\"\n{token}");
    let settings = place.load(&all).unwrap().settings;
    assert_eq!(settings.tls.key, Some(place.path().join("k.pem")));
    assert_eq!(settings.auth.tokens[0].sha256, None);
    assert_eq!(settings.auth.tokens[0].certificate_sha256.unwrap().as_bytes(), &[0xab; 32]);
}

#[test]
fn a_ceiling_below_the_default_is_a_mistake_at_the_one_that_was_set() {
    let complaint = Place::new().complaint("script_executor.max_timeout = \"30m\"\n");
    insta::assert_snapshot!(complaint);
}

#[test]
fn nothing_may_be_written_into_the_scripts_folder() {
    let place = Place::new();
    for (work, scripts, state, right) in [
        ("workspace", "scripts", "state", true),
        ("var", "scripts", "var/state", true),
        ("scripts/work", "scripts", "state", false),
        ("workspace", ".", "state", false),
        ("workspace", "state/../x/./scripts", "x/scripts", false),
        ("workspace", "workspace/scripts", "state", false),
        ("var", "scripts", "./var", false),
    ] {
        let text = format!(
            "[script_executor]\nwork_dir_prefix = \"{work}\"\nscript_dir_prefix = \"{scripts}\"\nstate_dir = \"{state}\"\n"
        );
        let loaded = place.load(&text);
        assert_eq!(loaded.is_ok(), right, "{text}: {loaded:?}");
    }
}

#[test]
fn a_flood_of_mistakes_is_counted_and_not_printed() {
    let text: String = (0..50_000).map(|n| format!("k{n} = 1\n")).collect();
    let complaint = Place::new().complaint(&text);
    assert!(complaint.contains("50000 mistakes"), "{}", &complaint[..200]);
    assert!(complaint.ends_with("and 49900 more"));
    assert_eq!(complaint.lines().count(), 102);
}

#[test]
fn a_message_carries_no_control_characters() {
    let text =
        "\"a\\u001b[31m\\n\" = 1\n[app]\nname = \"x\\u001b]0;title\\u0007\"\n[http]\n\"\\u202e\" = 1\n";
    let complaint = Place::new().complaint(text);
    let plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(complaint.chars().all(plain), "{complaint:?}");
    assert_eq!(complaint.lines().count(), 4, "{complaint}");
}

#[test]
fn a_peer_is_left_as_many_connections_as_a_reverse_proxy_needs() {
    let place = Place::new();
    let load = |number: &str| place.load(&format!("limits.connections_per_peer = {number}\n"));
    for (given, expected) in [("0", 0), ("64", 64), ("1000000", 1_000_000)] {
        assert_eq!(load(given).unwrap().settings.limits.connections_per_peer, expected);
    }
    for wrong in ["1", "63", "1000001", "-1", "\"many\""] {
        let complaint = place.complaint(&format!("limits.connections_per_peer = {wrong}\n"));
        assert!(complaint.contains("limits.connections_per_peer"), "{complaint}");
    }
    assert!(place.complaint("limits.connections_per_peer = 8\n").contains("from 64 to 1000000"));
}
