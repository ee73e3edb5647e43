//! What the log says of hooks whose scripts do not fit them. None of it keeps the service from starting: scripts come and go.

use std::sync::Arc;

use agent_config::HookParam;
use task_runners::{ScriptEntry, ScriptName, Scripts};

use super::Hooks;

/// Says what does not fit. It looks into the scripts folder, on a thread that may wait for the disk.
pub(crate) fn tell_what_does_not_fit(scripts: &Arc<Scripts>, hooks: &Arc<Hooks>) {
    let (scripts, hooks) = (scripts.clone(), hooks.clone());
    // Nobody waits for it.
    drop(tokio::task::spawn_blocking(move || {
        // What runs on a node is that node's script.
        for hook in hooks.settings().filter(|hook| hook.target.is_none()) {
            for problem in problems(hook, &scripts) {
                tracing::warn!(hook = hook.name, script = hook.script, "{problem}");
            }
        }
    }));
}

fn problems(hook: &agent_config::Hook, scripts: &Scripts) -> Vec<String> {
    let Ok(name) = hook.script.parse::<ScriptName>() else { return Vec::new() };
    match scripts.get(&name) {
        // That the folder does not verify is said of the whole folder.
        Err(_) => Vec::new(),
        Ok(None) => vec!["a hook runs a script that is not there; its requests are answered 503".to_owned()],
        Ok(Some(script)) if !script.broken.is_empty() => {
            vec!["a hook runs a script that is broken; its requests are answered 503".to_owned()]
        }
        Ok(Some(script)) => of_script(hook, &script),
    }
}

fn of_script(hook: &agent_config::Hook, script: &ScriptEntry) -> Vec<String> {
    let mut problems = Vec::new();
    if script.effect.is_some_and(|effect| effect.as_str() == "destructive") && hook.confirm.is_none() {
        let problem =
            "a hook runs a destructive script; its requests are answered 422 unless `confirm` names it";
        problems.push(problem.to_owned());
    }
    let declared = script.declared.as_ref();
    let declares = |name: &str| declared.is_some_and(|declared| declared.parameter(name).is_some());
    for (name, param) in hook.params.iter().filter(|(name, _)| !declares(name)) {
        let kind = if matches!(param, HookParam::Fixed(_)) { "a value" } else { "a place" };
        problems.push(format!(
            "a hook has {kind} for the parameter '{}', which its script does not declare",
            name.escape_debug()
        ));
    }
    problems
}
