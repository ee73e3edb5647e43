//! An API server that was taken over signs what it likes: at a node, tasks set the variables that the header of their script
//! or the node's operator opens, and use the workspaces that he lists.

use agent_fleet::keys::{NodeKeys, SigningKey};
use jiff::Timestamp;
use serde_json::{Value, json};
use task_runners::TaskSpec;

use super::forged::signed;
use super::middle::Way;
use super::{Member, STARTED, server_of, site_with};
use crate::examples::{blocks_of, chapter, page};
use crate::support::eventually;

#[test]
fn whoever_has_the_api_server_s_key_sets_no_variable_and_names_no_workspace_that_is_not_open() {
    let server = server_of(&["db-1"]);
    let page = page("docs/nodes.md");
    let [settings] =
        blocks_of(chapter(&page, "What tasks may ask for"), "toml").try_into().expect("one block");
    let node = Member::start_at(&server, "db-1", |at| {
        let site = site_with("db-1", "db-1", at, &settings);
        let opens = "#!/bin/sh\n#TASK effect=\"read\" env=\"REGION\"\n#USAGE arg \"<notes>\"\n";
        site.write_script("region.sh", &STARTED.replace("#!/bin/sh\n", opens));
        site
    });
    let key = SigningKey::open(&server.site.path("state/fleet/server.key")).unwrap();
    let keys = NodeKeys::open(&node.service.site.path("state/node/node.key")).unwrap();
    let through = json!({ "script": "region.sh" });
    for (task, name, params, variable, work_dir, is_open) in [
        ("none", "started.sh", None, "KUBECONFIG", None, false),
        ("of-another-script", "started.sh", None, "REGION", None, false),
        ("beside-the-header", "region.sh", None, "KUBECONFIG", None, false),
        ("by-the-runner", "script", Some(&through), "DOCKER_HOST", None, false),
        ("of-a-runner", "task_debug", None, "https_proxy", None, false),
        ("another-place", "started.sh", None, "DEPLOY_TO", Some("other"), false),
        // The twins.
        ("by-the-header", "region.sh", None, "REGION", None, true),
        ("by-the-header-of-both", "script", Some(&through), "REGION", None, true),
        ("by-the-node", "started.sh", None, "DEPLOY_TO", Some("site"), true),
    ] {
        let mut spec = TaskSpec::new(name);
        spec.params = params.and_then(Value::as_object).cloned().unwrap_or_default();
        spec.args = vec![node.notes().display().to_string()];
        spec.env.insert(variable.to_owned(), "x".to_owned());
        spec.work_dir = work_dir.map(|name: &str| name.parse().unwrap());
        node.middle.say(Way::ToNode, &signed(&spec, "db-1", &keys, &key, task, Timestamp::now()));
        let result = eventually(task, || {
            let said = node.middle.seen(Way::ToServer);
            let mut said = said.iter().map(|text| serde_json::from_str::<Value>(text).unwrap());
            said.find(|said| said["type"] == "ended" && said["task"] == task)
                .map(|said| said["result"].clone())
        });
        let code = if is_open { Value::Null } else { json!("invalid") };
        assert_eq!(
            (&result["success"], &result["error"]["code"]),
            (&json!(is_open), &code),
            "{task}: {result}"
        );
        assert_eq!(node.starts().iter().any(|started| started == task), is_open, "{task}");
    }
    assert_eq!(node.service.count(), 3);
}
