//! What somebody may have meant whose script was not found or whose name for it is none.

use std::path::Path;

use task_runners::{Problem, Refusal, Scripts};

/// Most names that are suggested.
const MAX_SUGGESTIONS: usize = 3;
/// How alike two names must be, of 1, for one to be a slip of the pen.
const ALIKE: f64 = 0.85;
/// Names above this many bytes are not compared: nobody meant a script, and the comparison costs their product.
const MAX_NAME_BYTES: usize = 255;

/// Hints for a script that cannot be run.
pub(crate) fn for_refusal(refusal: &Refusal, scripts: &Scripts) -> Vec<String> {
    match refusal {
        Refusal::NotFound { name } => meant(name, scripts),
        Refusal::Broken { code, .. } if code == "script_not_executable" => with_manifest(scripts),
        _ => Vec::new(),
    }
}

/// Hints for what is wrong with a spec, of which the name is the one that is guessed at.
pub(crate) fn for_problems(problems: &[Problem], name: &str, scripts: &Scripts) -> Vec<String> {
    if !problems.iter().any(|problem| problem.field == "name") {
        return Vec::new();
    }
    if name.starts_with('-') {
        return vec![format!(
            "there is no option '{}'; see agent-cli run --help. Options stand before the script's name",
            name.escape_debug()
        )];
    }
    meant(name, scripts)
}

/// The scripts that a name may stand for, and where to see all of them.
fn meant(name: &str, scripts: &Scripts) -> Vec<String> {
    let known: Vec<String> = scripts.list().unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    if known.is_empty() {
        return vec![format!("there are no executable files in {}", scripts.folder().display())];
    }
    let suggested = suggestions(name, &known, scripts.folder());
    let mut hints: Vec<String> = suggested.iter().map(|name| format!("did you mean {name}?")).collect();
    hints.push("agent-cli list shows all scripts".to_owned());
    hints
}

/// Of the known names those that are most like `name`: the same file in another folder, the same without its ending or
/// with the scripts folder's path in front, else a slip of the pen.
fn suggestions(name: &str, known: &[String], folder: &Path) -> Vec<String> {
    if name.len() > MAX_NAME_BYTES {
        return Vec::new();
    }
    let path = Path::new(name);
    let below = [path.strip_prefix(folder).ok(), path.strip_prefix("./").ok()];
    let below = below.into_iter().flatten().next().unwrap_or(path);
    let in_folder = folder.file_name().and_then(|last| below.strip_prefix(last).ok());
    let below = in_folder.unwrap_or(below);
    let same: Vec<String> = known
        .iter()
        .filter(|known| is_same(below, Path::new(known)))
        .take(MAX_SUGGESTIONS)
        .cloned()
        .collect();
    if !same.is_empty() {
        return same;
    }
    let wanted = below.to_string_lossy();
    let mut alike: Vec<(f64, &String)> = known
        .iter()
        .map(|known| (strsim::jaro_winkler(&wanted, known), known))
        .filter(|(similarity, _)| *similarity >= ALIKE)
        .collect();
    alike.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    alike.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| name.clone()).collect()
}

fn is_same(wanted: &Path, known: &Path) -> bool {
    let file = wanted.file_name();
    file.is_some() && (known.file_name() == file || known.file_stem() == file)
}

/// A changed mode has to be vouched for again.
fn with_manifest(scripts: &Scripts) -> Vec<String> {
    match scripts.status().verification {
        true => vec![format!("then: agent-cli manifest create {}", scripts.folder().display())],
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggested(name: &str) -> Vec<String> {
        let known = ["backup_dir.sh", "deploy/db.sh", "deploy/web.sh"].map(str::to_owned);
        suggestions(name, &known, Path::new("/srv/scripts"))
    }

    #[test]
    fn the_same_file_under_another_path_is_what_was_meant() {
        for name in ["web.sh", "web", "other/web.sh", "./deploy/web.sh", "scripts/deploy/web.sh"] {
            assert_eq!(suggested(name), ["deploy/web.sh"], "{name}");
        }
        assert_eq!(suggested("/srv/scripts/deploy/web.sh"), ["deploy/web.sh"]);
    }

    #[test]
    fn a_slip_of_the_pen_is_what_was_meant_and_rubbish_is_not() {
        assert_eq!(suggested("bakcup_dir.sh"), ["backup_dir.sh"]);
        assert_eq!(suggested("deploy/wbe.sh")[0], "deploy/web.sh");
        assert!(suggested("zzz").is_empty());
        assert!(suggested("").is_empty());
        assert!(suggested(&"a".repeat(100_000)).is_empty());
    }
}
