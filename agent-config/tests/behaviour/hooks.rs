//! `[[hook]]`: what is read, what is refused, and that values do not show.

use agent_config::{HookParam, HookPlace, HookScheme, HookTarget, HookTest, HookValue};

use crate::Place;

const HOOK: &str = r#"
[[hook]]
name = "deploy-web"
script = "deploy/web.sh"
scheme = "github"
secret_file = "hook.secret"
requests_per_minute = 60
confirm = "deploy/web.sh"
labels = { team = "web" }
target = { labels = { role = "web" } }
when = [{ pointer = "/ref", equals = "refs/heads/main" }, { header = "x-github-event", one_of = ["push", 1, true] }]
[hook.params]
service = "web"
count = -3
force = false
names = ["a", "b"]
commit = { pointer = "/head_commit/id" }
event = { header = "X-GitHub-Event" }
[[hook]]
name = "tagged"
script = "tag.sh"
scheme = "standard"
secret_file = "/etc/tagged.secret"
target = { node = "db-1" }
[[hook.when]]
pointer = "/ref"
starts_with = "refs/tags/v"
"#;

#[test]
fn a_hook_is_read_with_all_that_it_says() {
    let place = Place::new();
    let loaded = place.load(HOOK).unwrap();
    let [web, tagged] = loaded.settings.hooks.as_slice() else { panic!("two hooks are expected") };
    assert_eq!(
        (web.name.as_str(), web.script.as_str(), web.scheme),
        ("deploy-web", "deploy/web.sh", HookScheme::GitHub)
    );
    assert_eq!(web.secret_file, place.path().join("hook.secret"));
    assert_eq!((web.requests_per_minute, web.confirm.as_deref()), (Some(60), Some("deploy/web.sh")));
    assert_eq!(web.labels["team"], "web");
    assert_eq!(web.target, Some(HookTarget::Labels([("role".to_owned(), "web".to_owned())].into())));
    let text = |text: &str| HookValue::Text(text.to_owned());
    for (name, param) in [
        ("service", HookParam::Fixed(text("web"))),
        ("count", HookParam::Fixed(HookValue::Integer(-3))),
        ("force", HookParam::Fixed(HookValue::Truth(false))),
        ("names", HookParam::Fixed(HookValue::List(vec![text("a"), text("b")]))),
        ("commit", HookParam::From(HookPlace::Body("/head_commit/id".to_owned()))),
        ("event", HookParam::From(HookPlace::Header("X-GitHub-Event".to_owned()))),
    ] {
        assert!(web.params[name] == param, "{name}");
    }
    let [main, event] = web.when.as_slice() else { panic!("two rules are expected") };
    assert_eq!(main.place, HookPlace::Body("/ref".to_owned()));
    assert!(main.test == HookTest::OneOf(vec![text("refs/heads/main")]));
    assert!(event.test == HookTest::OneOf(vec![text("push"), HookValue::Integer(1), HookValue::Truth(true)]));
    assert_eq!(tagged.secret_file.to_str(), Some("/etc/tagged.secret"));
    assert_eq!(tagged.target, Some(HookTarget::Node("db-1".to_owned())));
    assert!(tagged.when[0].test == HookTest::StartsWith("refs/tags/v".to_owned()));
    assert!(tagged.params.is_empty() && tagged.labels.is_empty() && tagged.confirm.is_none());
    assert!(loaded.origins.contains_key("hook.deploy-web"));
}

#[test]
fn each_mistake_of_a_hook_is_told_at_its_place() {
    let text = r##"
[[hook]]
name = "a b"
script = "../x"
scheme = "none"
secret_file = ""
params = { a = { pointer = "ref" }, b = 1.5, "" = 1, c = { pointer = "/a", header = "b" }, d = ["x", 2.5], e = {} }
when = [{ pointer = "/a" }, { equals = 1 }, { pointer = "#", equals = 2.5 }, 7, { header = "", one_of = [] }]
target = { node = "db 1" }
labels = { "a b" = "x", c = 1 }
confirm = 1
requests_per_minute = 0
secret = "c4n4ry"
[[hook]]
[[hook]]
name = "twice"
script = "a.sh"
scheme = "gitlab"
secret_file = "s"
target = { node = "a", labels = { b = "c" } }
when = [{ header = "X-GitHub-Event", equals = "push" }]
[[hook]]
name = "twice"
script = "a.sh"
scheme = "github"
secret_file = "s"
params = { token = { header = "X-Hub-Signature-256" } }
[[hook]]
name = "confirms"
script = "a.sh"
scheme = "github"
secret_file = "s"
confirm = "b.sh"
params = { token = { header = "Authorization" } }
"##;
    let complaint = Place::new().complaint(text);
    assert!(!complaint.contains("c4n4ry"), "{complaint}");
    insta::assert_snapshot!(complaint);
}

#[test]
fn a_hook_is_a_section_in_double_brackets_and_nothing_of_the_environment() {
    let place = Place::new();
    for text in ["[hook]\nname = \"x\"\n", "hook = 1\n"] {
        let complaint = place.complaint(text);
        assert!(complaint.contains("sections [[hook]], in double brackets"), "{complaint}");
    }
    let environment = vec![("DEVOPS_AGENT__HOOK__NAME".into(), "x".into())];
    let error = agent_config::Settings::load(agent_config::Sources { environment, ..place.sources() });
    let said = error.unwrap_err().to_string();
    assert!(said.contains("hooks cannot be given through the environment"), "{said}");
}

#[test]
fn values_of_a_hook_show_in_no_debug_form_and_no_message() {
    let place = Place::new();
    let text = HOOK.replace("\"web\"\ncount", "\"c4n4ry\"\ncount");
    let shown = format!("{:#?}", place.load(&text).unwrap());
    assert!(shown.contains("deploy-web") && !shown.contains("c4n4ry"), "{shown}");
    let wrong = HOOK.replace("count = -3", "count = 99999999999999999999999");
    let complaint = place.complaint(&wrong);
    assert!(complaint.contains("hook.params") && !complaint.contains("99999"), "{complaint}");
}

#[test]
fn settings_say_that_hooks_differ() {
    let place = Place::new();
    let one = place.load(HOOK).unwrap().settings;
    let other = place.load(&HOOK.replace("db-1", "db-2")).unwrap().settings;
    assert_eq!(one.sections_that_differ(&other), ["hook"]);
}
