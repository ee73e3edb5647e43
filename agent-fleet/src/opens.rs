//! What tasks of an API server may ask for at a node, besides the parameters of scripts: variables, and workspaces that
//! others use too. The node decides, and tells its API server, so that a submission is refused with the same words.

use serde::{Deserialize, Serialize};
use task_runners::Problems;
use task_service::{Problem, TaskSpec};

/// What a node opens to the tasks of its API server.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Opens {
    /// Variables besides those that the header of the script opens: names, and beginnings of names with a `*` behind.
    pub env: Vec<String>,
    /// Shared workspaces; none stands for any.
    pub work_dirs: Option<Vec<String>>,
}

impl Opens {
    /// What a spec asks for and is not open; `by_script` are the variables that the header of its script opens.
    pub fn problems(&self, spec: &TaskSpec, by_script: &[String]) -> Vec<Problem> {
        let mut problems = Problems::default();
        let expected =
            listed("a variable that the script lets callers set, or `node.env` of the node", &self.env);
        let is_open = |name: &String| {
            by_script.contains(name) || self.env.iter().any(|pattern| matches_variable(pattern, name))
        };
        for name in spec.env.keys().filter(|name| !is_open(name)) {
            let field = format!("env.{}", name.escape_debug());
            problems.push(Problem::new(field, "forbidden", expected.as_str()));
        }
        if let (Some(work_dir), Some(open)) = (&spec.work_dir, &self.work_dirs)
            && !open.iter().any(|open| open == work_dir.as_str())
        {
            let expected = listed("a shared workspace of `node.work_dirs` of the node", open);
            problems.push(Problem::new("work_dir", "forbidden", expected));
        }
        problems.into_vec()
    }
}

/// Whether a pattern matches a variable's name: a `*` at its end stands for any rest.
pub fn matches_variable(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

fn listed(what: &str, names: &[String]) -> String {
    match names {
        [] => format!("{what}, which lists none"),
        names => format!("{what}: {}", names.join(", ")),
    }
}
