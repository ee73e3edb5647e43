//! Lists: filters, pages, and mistakes in both.

use serde_json::{Value, json};

use crate::support::Service;

fn ids(page: &Value) -> Vec<&str> {
    page["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap()).collect()
}

#[test]
fn tasks_are_listed_newest_first_by_pages_and_filters() {
    let service = Service::usual();
    for (id, name, team) in [("a", "hello.sh", "web"), ("b", "fail.sh", "web"), ("c", "hello.sh", "db")] {
        let spec = json!({ "id": id, "name": name, "labels": { "team": team, "x": "y=z" } });
        assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
        service.ended(id);
    }
    let list = |query: &str| {
        let reply = service.get(&format!("/api/v1/tasks{query}"));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        reply.json()
    };
    for (query, expected) in [
        ("", vec!["c", "b", "a"]),
        ("?name=hello.sh", vec!["c", "a"]),
        ("?status=failed", vec!["b"]),
        ("?status=failed,succeeded", vec!["c", "b", "a"]),
        ("?status=failed&status=succeeded", vec!["c", "b", "a"]),
        ("?status=running", vec![]),
        ("?label=team=web", vec!["b", "a"]),
        ("?label=team%3Dweb&label=x=y=z&name=fail.sh", vec!["b"]),
        ("?since=2000-01-01T00:00:00Z", vec!["c", "b", "a"]),
        ("?since=2999-01-01T00:00:00Z", vec![]),
    ] {
        let page = list(query);
        assert_eq!(ids(&page), expected, "{query}");
        assert_eq!(page["next"], Value::Null, "{query}");
    }
    let first = list("?limit=2");
    assert_eq!(ids(&first), ["c", "b"]);
    let second = list(&format!("?limit=2&cursor={}", first["next"].as_str().unwrap()));
    assert_eq!((ids(&second), &second["next"]), (vec!["a"], &Value::Null));
}

#[test]
fn every_mistake_in_a_query_is_named_at_once() {
    let service = Service::usual();
    let query = "?status=done&limit=0&cursor=x&since=yesterday&label=team&colour=red&name=a&name=b";
    let reply = service.get(&format!("/api/v1/tasks{query}"));
    assert_eq!(reply.status, 422);
    insta::assert_json_snapshot!(reply.json());
}

#[test]
fn a_list_shows_a_token_only_tasks_of_its_scripts() {
    let service = Service::usual();
    for name in ["hello.sh", "deploy/web.sh", "hello.sh", "deploy/web.sh", "hello.sh"] {
        let id = service.submit(name, &[]);
        service.ended(&id);
    }
    let seen = service.call("deployer", "GET", "/api/v1/tasks?limit=1", None).json();
    assert_eq!(seen["tasks"][0]["name"], "deploy/web.sh");
    let rest = service.call(
        "deployer",
        "GET",
        &format!("/api/v1/tasks?cursor={}", seen["next"].as_str().unwrap()),
        None,
    );
    assert_eq!(rest.json()["tasks"].as_array().unwrap().len(), 1);
    assert_eq!(rest.json()["next"], Value::Null);
    assert_eq!(service.count(), 5);
}
