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

#[test]
fn tasks_are_found_by_words_together_with_all_other_filters() {
    let service = Service::usual();
    for (id, name, team) in [("a-1", "hello.sh", "web"), ("b-2", "fail.sh", "web"), ("c-3", "hello.sh", "db")]
    {
        let spec = json!({ "id": id, "name": name, "labels": { "team": team }, "on_behalf_of": "Zoë" });
        assert_eq!(service.post("/api/v1/tasks", &spec).status, 202);
        service.ended(id);
    }
    for (query, expected) in [
        ("q=hello", vec!["c-3", "a-1"]),
        ("q=hell", vec!["c-3", "a-1"]),
        ("q=hello.sh+web", vec!["a-1"]),
        ("q=zo%C3%AB", vec!["c-3", "b-2", "a-1"]),
        ("q=failed", vec!["b-2"]),
        ("q=team&status=failed", vec!["b-2"]),
        ("q=team&name=hello.sh&label=team=web", vec!["a-1"]),
        ("q=team&since=2999-01-01T00:00:00Z", vec![]),
        ("q=team&node=n1", vec![]),
        ("node=n1", vec![]),
        ("q=nothing", vec![]),
    ] {
        let reply = service.get(&format!("/api/v1/tasks?{query}"));
        assert_eq!((reply.status, ids(&reply.json())), (200, expected), "{query}");
    }
    let first = service.get("/api/v1/tasks?q=team&limit=2").json();
    assert_eq!(ids(&first), ["c-3", "b-2"]);
    let next = first["next"].as_str().unwrap();
    let second = service.get(&format!("/api/v1/tasks?q=team&limit=2&cursor={next}")).json();
    assert_eq!((ids(&second), &second["next"]), (vec!["a-1"], &Value::Null));
}

#[test]
fn any_text_is_searched_for_or_refused() {
    let service = Service::usual();
    let id = service.submit("hello.sh", &[]);
    service.ended(&id);
    for text in [
        "%22",
        "*",
        "a*",
        "NOT",
        "AND+OR",
        "NEAR(a+b)",
        "words:a",
        "%00",
        "%FF%FE",
        "a%00b",
        "'",
        "((",
        "^a",
        "{a+b}:c",
    ] {
        let status = service.get(&format!("/api/v1/tasks?q={text}")).status;
        assert!([200, 422].contains(&status), "{text}: {status}");
    }
    // Without a word everything would be found, and by the same filter cancelled.
    for text in ["", "-", "%22%22", &"a+".repeat(17)] {
        let reply = service.get(&format!("/api/v1/tasks?q={text}"));
        assert_eq!((reply.status, &reply.json()["errors"][0]["field"]), (422, &json!("q")), "{text}");
        assert_eq!(
            service.call("admin", "POST", &format!("/api/v1/tasks:cancel?q={text}"), None).status,
            422
        );
    }
}

#[test]
fn words_find_a_token_only_tasks_of_its_scripts() {
    let service = Service::usual();
    for name in ["hello.sh", "deploy/web.sh"] {
        let spec = json!({ "name": name, "labels": { "shared": "word" } });
        let id = service.post("/api/v1/tasks", &spec).json()["id"].as_str().unwrap().to_owned();
        service.ended(&id);
    }
    let found = |token: &str, query: &str| {
        let page = service.call(token, "GET", &format!("/api/v1/tasks?{query}"), None).json();
        page["tasks"].as_array().unwrap().iter().map(|task| task["name"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(found("deployer", "q=word"), ["deploy/web.sh"]);
    assert_eq!(found("deployer", "q=hello"), [""; 0]);
    // The twin: who sees it finds it.
    assert_eq!(found("admin", "q=hello"), ["hello.sh"]);
    assert_eq!(found("admin", "q=word").len(), 2);
}
