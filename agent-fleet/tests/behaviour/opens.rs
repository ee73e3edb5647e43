//! What a node opens to tasks of its API server.

use agent_fleet::opens::{Opens, matches_variable};
use task_service::TaskSpec;

#[test]
fn a_pattern_of_variables_is_a_name_or_the_beginning_of_one() {
    for (pattern, name, expected) in [
        ("DEPLOY_*", "DEPLOY_ENV", true),
        ("DEPLOY_*", "XDEPLOY_ENV", false),
        ("REGION", "REGION", true),
        ("REGION", "REGION2", false),
        ("*", "ANY", true),
    ] {
        assert_eq!(matches_variable(pattern, name), expected, "{pattern} {name}");
    }
}

#[test]
fn only_variables_of_the_header_and_of_the_node_are_open_and_any_workspace_unless_the_node_lists_some() {
    let usual = Opens::default();
    let some = Opens { env: vec!["DEPLOY_*".into()], work_dirs: Some(vec!["site".into()]) };
    let by_script = ["REGION".to_owned()];
    for (opens, env, work_dir, expected) in [
        (&usual, "REGION", None, None),
        (&usual, "DEPLOY_TO", None, Some("env.DEPLOY_TO")),
        (&usual, "KUBECONFIG", None, Some("env.KUBECONFIG")),
        (&usual, "REGION", Some("any"), None),
        (&some, "DEPLOY_TO", Some("site"), None),
        (&some, "KUBECONFIG", Some("site"), Some("env.KUBECONFIG")),
        (&some, "REGION", Some("any"), Some("work_dir")),
    ] {
        let mut spec = TaskSpec::new("a.sh");
        spec.env.insert(env.to_owned(), "x".to_owned());
        spec.work_dir = work_dir.map(|name| name.parse().unwrap());
        let found: Vec<_> = opens.problems(&spec, &by_script).into_iter().map(|found| found.field).collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{env} {work_dir:?} {opens:?}");
    }
}
