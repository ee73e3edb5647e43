//! What nodes offer, as their API server shows it: their scripts in the form in which each shows its own.

use serde_json::{Value, json};

use super::{connected, connected_as, named_site, node_site, server_of};
use crate::support::{Reply, Service, Site, eventually, exchange, request_text};
use crate::verifying::vouch;

/// Says much of itself.
const DEPLOY: &str = "#!/bin/sh\n#TASK description=\"Deploy\" group=\"release\" tag=\"web\" effect=\"write\"\n\
    #TASK type.replicas=\"int\" min.replicas=1 max.replicas=20 secret=\"key\" output.TAG=\"What is there\"\n\
    #USAGE arg \"<where>\" { choices \"a\" \"b\" }\n#USAGE flag \"--replicas <n>\" default=\"2\"\n\
    #USAGE flag \"--key <key>\"\n";

fn scripts(service: &Service, query: &str) -> Vec<Value> {
    let reply = service.get(&format!("/api/v1/scripts{query}"));
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    reply.json()["scripts"].as_array().unwrap().clone()
}

fn names(scripts: &[Value]) -> Vec<&str> {
    scripts.iter().map(|script| script["name"].as_str().unwrap()).collect()
}

/// A site of a node whose scripts a manifest vouches for, some of which cannot be run or are not listed.
fn vouched_site(server: &Service) -> Site {
    let site = node_site(server, "[script_executor]\nis_verify_script_integrity = true");
    site.write_script("deploy/app.sh", DEPLOY);
    site.write_script("warned.sh", "#!/bin/sh\n#TASK description=\"Says not what it does\"\n");
    site.write_script("broken.sh", "#!/bin/sh\n#TASK effect=\"nonsense\"\n");
    site.write_script("hidden.sh", "#!/bin/sh\n#TASK hidden=#true effect=\"read\"\n");
    vouch(&site, 1);
    site
}

#[test]
fn the_scripts_of_a_node_are_shown_as_it_shows_them_itself_also_while_it_is_away() {
    let server = Service::usual();
    let node = vouched_site(&server).start();
    connected(&server);
    let own: Vec<Value> =
        scripts(&node, "").into_iter().filter(|script| script["broken"] == json!([])).collect();
    assert!(names(&own).contains(&"deploy/app.sh") && own[0]["verified"] == true, "{own:?}");
    let shown = |server: &Service| {
        assert_eq!(scripts(server, "?node=node"), own);
        for script in &own {
            let path = format!("/api/v1/scripts/{}", script["name"].as_str().unwrap());
            let found = server.get(&format!("{path}?node=node"));
            assert_eq!((found.status, &found.json()), (200, script));
        }
    };
    shown(&server);
    assert!(own.contains(&node.get("/api/v1/scripts/deploy/app.sh").json()));
    // This agent has no such script itself.
    assert_eq!(server.get("/api/v1/scripts/where.sh").status, 404);

    drop(node.stop());
    let port = server.at.port();
    let site = server.stop();
    let command = site.command_at(port);
    let server = site.start_by(command);
    shown(&server);
}

#[test]
fn a_hidden_script_of_a_node_is_in_no_list_and_is_shown_and_run_by_its_name_as_at_home() {
    let server = Service::usual();
    let node = vouched_site(&server).start();
    connected(&server);
    for (service, query) in [(&node, ""), (&server, "?node=node")] {
        assert!(!names(&scripts(service, query)).contains(&"hidden.sh"), "{query}");
    }
    assert!(server.get("/api/v1/nodes/node").json()["scripts"]["hidden.sh"].is_null());
    let by_name = |service: &Service, query: &str| {
        let reply = service.get(&format!("/api/v1/scripts/hidden.sh{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()
    };
    assert_eq!(by_name(&server, "?node=node"), by_name(&node, ""));
    let runs = |service: &Service, spec: Value| {
        let id = service.post("/api/v1/tasks", &spec).id();
        assert_eq!(service.ended(&id)["status"], "succeeded", "{spec}");
    };
    runs(&node, json!({ "name": "hidden.sh" }));
    runs(&server, json!({ "name": "hidden.sh", "target": { "node": "node" } }));
}

#[test]
fn a_form_made_of_what_is_shown_is_what_the_node_takes() {
    let server = Service::usual();
    let node = vouched_site(&server);
    let _node = node.start();
    connected(&server);
    let schema = server.get("/api/v1/scripts/deploy/app.sh?node=node").json()["parameters"].clone();
    assert_eq!(schema["properties"]["where"]["enum"], json!(["a", "b"]), "{schema}");
    let submit = |params: Value| {
        let spec = json!({ "name": "deploy/app.sh", "params": params, "target": { "node": "node" } });
        server.post("/api/v1/tasks", &spec)
    };
    let params = |at: &str| json!({ "where": at, "replicas": 3, "key": "k" });
    assert_eq!(submit(params("c")).status, 422);
    let id = submit(params(schema["properties"]["where"]["enum"][1].as_str().unwrap())).id();
    assert_eq!(server.ended(&id)["status"], "succeeded");
}

#[test]
fn scripts_of_nodes_come_by_pages_filters_and_patterns_and_with_a_tag() {
    let server = Service::usual();
    let _node = vouched_site(&server).start();
    connected(&server);
    let all = scripts(&server, "?node=node");
    let (mut found, mut query) = (Vec::new(), "?node=node&limit=3".to_owned());
    loop {
        let page = server.get(&format!("/api/v1/scripts{query}")).json();
        assert!(page["scripts"].as_array().unwrap().len() <= 3 && page["verification"].is_null());
        found.extend(page["scripts"].as_array().unwrap().clone());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?node=node&limit=3&cursor={next}");
    }
    assert_eq!(found, all);
    for (query, expected) in [("&group=release", vec!["deploy/app.sh"]), ("&tag=web&group=none", vec![])] {
        assert_eq!(names(&scripts(&server, &format!("?node=node{query}"))), expected, "{query}");
    }
    let get = |token: &str, path: &str| server.call(token, "GET", path, None);
    let seen = get("deployer", "/api/v1/scripts?node=node").json()["scripts"].as_array().unwrap().clone();
    assert_eq!(names(&seen), ["deploy/app.sh", "deploy/web.sh"]);
    assert_eq!(get("deployer", "/api/v1/scripts/where.sh?node=node").status, 404);
    assert_eq!(get("runner", "/api/v1/scripts?node=node").code(), "scope_missing");

    let first = server.get("/api/v1/scripts?node=node");
    let header = format!("\r\nIf-None-Match: {}\r\n", first.header("etag").unwrap());
    let text = request_text("GET", "/api/v1/scripts?node=node", Some(&Site::token("admin")), None);
    assert_eq!(exchange(server.at, text.replacen("\r\n", &header, 1).as_bytes()).status, 304);
}

#[test]
fn scripts_of_no_node_are_not_found_and_what_is_not_understood_is_named() {
    let server = Service::usual();
    let _node = node_site(&server, "labels = { role = \"db\" }").start();
    connected(&server);
    for path in ["/api/v1/scripts", "/api/v1/scripts/where.sh"] {
        for (query, status, code) in [
            ("node=other", 404, "node_not_found"),
            ("label=role=web", 404, "node_not_found"),
            ("label=role=db&label=zone=a", 404, "node_not_found"),
            ("node=node&label=role=web", 404, "node_not_found"),
            ("node=other&label=role=db", 404, "node_not_found"),
            ("node=node&node=node", 422, "invalid"),
            ("label=role", 422, "invalid"),
        ] {
            let reply = server.get(&format!("{path}?{query}"));
            assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}?{query}");
        }
    }
    assert_eq!(scripts(&server, "?node=node&label=role=db"), scripts(&server, "?node=node"));
    let gone = |query: &str| server.get(&format!("/api/v1/scripts/gone.sh?{query}")).code();
    assert_eq!([gone("node=node"), gone("label=role=db")], ["not_found", "not_found"]);
}

#[test]
fn a_pool_shows_what_most_of_its_nodes_have_and_which_have_something_else() {
    let server = server_of(&["n1", "n2", "n3"]);
    let start = |name: &str, zone: &str| {
        let site = named_site(server.at, name, &format!("labels = {{ role = \"db\", zone = \"{zone}\" }}"));
        if name == "n1" {
            site.write_script("choice.sh", "#!/bin/sh\n#TASK effect=\"write\"\n#USAGE arg \"<what>\"\n");
            site.write_script("only.sh", "#!/bin/sh\n");
        }
        site.start()
    };
    let nodes = [start("n1", "a"), start("n2", "a"), start("n3", "b")];
    ["n1", "n2", "n3"].iter().for_each(|name| drop(connected_as(&server, name)));
    let get = |path: &str| -> Reply { server.get(&format!("/api/v1/scripts{path}")) };
    let pool = scripts(&server, "?label=role=db");
    let of = |name: &str| pool.iter().find(|script| script["name"] == name).unwrap();
    let have = |name: &str| {
        let versions = of(name)["versions"].as_array().unwrap().clone();
        versions
            .into_iter()
            .map(|version| (version["count"].clone(), version["nodes"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(have("where.sh"), [(json!(3), json!(["n1", "n2", "n3"]))]);
    assert_eq!(have("only.sh"), [(json!(1), json!(["n1"]))]);
    assert_eq!(have("choice.sh"), [(json!(2), json!(["n2", "n3"])), (json!(1), json!(["n1"]))]);
    let mut most = nodes[1].get("/api/v1/scripts/choice.sh").json();
    most["versions"] = of("choice.sh")["versions"].clone();
    assert_eq!((of("choice.sh"), &get("/choice.sh?label=role=db").json()), (&most, &most));
    assert_eq!(most["versions"][0]["sha256"], most["sha256"]);
    // With more labels there are fewer nodes, and none is meant without one.
    let zone = get("/choice.sh?label=role=db&label=zone=b").json();
    assert_eq!(zone["versions"], json!([{ "sha256": most["sha256"], "count": 1, "nodes": ["n3"] }]));
    assert!(get("/choice.sh?node=n1").json()["versions"].is_null());

    nodes[0].site.write_script("only.sh", "#!/bin/sh\n# another\n");
    eventually("the changed script", || {
        (get("/only.sh?label=role=db").json()["sha256"] != of("only.sh")["sha256"]).then_some(())
    });
}
