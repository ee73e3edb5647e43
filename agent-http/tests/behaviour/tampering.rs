//! A tampered scripts folder is refused over HTTP in the cases of the command line's tests: everything that is wrong is named,
//! and nothing is executed.

use std::fs;

use serde_json::json;

use crate::support::{Service, Site};
use crate::tampering_cases::{CASES, Vouched};

/// The site, with its folder signed by the key that it trusts.
pub(crate) fn signed(site: Site) -> (Site, Vouched) {
    let vouched = Vouched::new(site.folder());
    let path = site.path("application.toml");
    let settings = fs::read_to_string(&path).unwrap();
    let key = format!("[script_executor]\nmanifest_public_keys = [\"{}\"]\n", vouched.public_key);
    fs::write(path, key + &settings).unwrap();
    (site, vouched)
}

#[test]
fn each_way_of_tampering_is_refused_with_409_and_all_its_problems_and_nothing_is_executed() {
    let spec = json!({ "name": "marks.sh" });
    for (what, tamper, codes) in CASES {
        let (site, vouched) = signed(Site::new(""));
        let mark = vouched.mark();
        // The folder verifies before: what is refused afterwards is the tampering alone.
        let service = site.start();
        let task = service.ended(&service.post("/api/v1/tasks", &spec).id());
        assert!(task["status"] == "succeeded" && mark.exists(), "before {what}: {task}");
        fs::remove_file(&mark).unwrap();
        let site = service.stop();

        tamper(&vouched);

        let service = site.start();
        for path in ["/api/v1/tasks", "/api/v1/scripts/marks.sh/run"] {
            let body = if path == "/api/v1/tasks" { spec.clone() } else { json!({}) };
            let refused = service.post(path, &body);
            assert_eq!((refused.status, refused.code().as_str()), (409, "scripts_unverified"), "{what}");
            assert_all_named(&refused.json()["problems"], codes, what);
            let mend = refused.json()["mend"].as_str().unwrap().to_owned();
            assert!(mend.contains("manifest create") && mend.contains("manifest sign"), "{what}: {mend}");
        }
        assert_all_named(&service.get("/api/v1/scripts").json()["verification"]["problems"], codes, what);
        assert_eq!(service.get("/readyz").code(), "scripts_unverified", "{what}");
        assert_nothing_ran(&service, &vouched, what);
    }
}

fn assert_all_named(problems: &serde_json::Value, codes: &[&str], what: &str) {
    let problems = problems.as_array().unwrap();
    assert_eq!(problems.len(), codes.len(), "{what}: {problems:?}");
    for code in codes {
        let is_named = problems.iter().any(|problem| problem.as_str().unwrap().contains(code));
        assert!(is_named, "{what}, {code}: {problems:?}");
    }
}

/// The task from before is the only one.
fn assert_nothing_ran(service: &Service, vouched: &Vouched, what: &str) {
    assert!(!vouched.mark().exists(), "{what}: it was executed");
    assert_eq!(service.count(), 1, "{what}");
    assert_eq!(fs::read_dir(service.site.path("state/tasks")).unwrap().count(), 1, "{what}");
}
