//! The API describes itself: an OpenAPI document, and a page that needs nothing from anywhere else.

use crate::support::{Reply, Service, exchange, request_text};

fn public(service: &Service, path: &str) -> Reply {
    exchange(service.at, request_text("GET", path, None, None).as_bytes())
}

#[test]
fn the_document_describes_the_api_as_it_did() {
    let service = Service::usual();
    let reply = public(&service, "/openapi.json");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let mut document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    document["info"]["version"] = "[version]".into();
    insta::assert_json_snapshot!(document);
}

#[test]
fn every_operation_has_a_name_of_its_own() {
    let service = Service::usual();
    let document = public(&service, "/openapi.json").json();
    let items = document["paths"].as_object().unwrap().values();
    let operations = items.flat_map(|item| item.as_object().unwrap().values());
    let mut names: Vec<&str> = operations.map(|one| one["operationId"].as_str().unwrap()).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn every_reference_in_the_document_leads_somewhere() {
    let service = Service::usual();
    let document = public(&service, "/openapi.json").json();
    let text = document.to_string();
    let references = text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    let mut count = 0;
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

#[test]
fn the_page_of_the_api_is_whole_and_names_no_other_host() {
    let service = Service::usual();
    let moved = public(&service, "/docs");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/docs/")));
    let page = public(&service, "/docs/");
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    assert!(!policy.contains("http"), "{policy}");
    let html = page.text();
    let mut linked = 0;
    for part in html.split(['"', '\'']).filter(|part| part.ends_with(".css") || part.ends_with(".js")) {
        let file = public(&service, &format!("/docs/{}", part.trim_start_matches("./")));
        assert_eq!(file.status, 200, "{part}");
        assert_eq!(file.header("content-security-policy"), Some(policy));
        linked += 1;
    }
    assert!(linked >= 4, "{linked}");
    assert!(!html.contains("http://") && !html.contains("https://"), "{html}");
    let set_up = public(&service, "/docs/swagger-initializer.js").text();
    assert!(set_up.contains("/openapi.json") && !set_up.contains("petstore"), "{set_up}");
    assert!(set_up.contains("\"validatorUrl\": \"none\""), "{set_up}");
    // Once a token is typed in, the description is asked for again with it.
    for part in
        ["const ScriptsOfToken", "plugins: [\n      ScriptsOfToken,", "requestInterceptor: withToken,"]
    {
        assert_eq!(set_up.matches(part).count(), 1, "{part}: {set_up}");
    }
    let none = public(&service, "/docs/none.js");
    assert_eq!((none.status, none.code().as_str()), (404, "no_route"));
}

#[test]
fn the_first_page_says_what_this_is_and_its_links_work() {
    let service = Service::usual();
    let page = public(&service, "/");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let html = page.text();
    for link in html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert_eq!(public(&service, link).status, 200, "{link}");
    }
    assert_eq!(html.matches("href=").count(), 3);
}

#[test]
fn every_answer_forbids_what_a_browser_could_be_tricked_into() {
    let service = Service::usual();
    for path in ["/", "/docs/", "/openapi.json", "/healthz", "/readyz", "/api/v1/tasks"] {
        let reply = public(&service, path);
        let is_sandboxed = reply.header("content-security-policy").unwrap().contains("sandbox");
        let has_policy_for_openers = reply.header("cross-origin-opener-policy").is_some();
        // Exactly one: with both, browsers show an error in place of the page.
        assert_ne!(is_sandboxed, has_policy_for_openers, "{path}");
    }
    for reply in [public(&service, "/healthz"), public(&service, "/api/v1/tasks"), service.get("/nothing")] {
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(reply.header("set-cookie"), None);
    }
}
