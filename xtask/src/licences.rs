//! Which licences the crates of `Cargo.lock` may have: those that let anybody use, change and sell what is built. Works
//! without a network, from what cargo has fetched.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use crate::failure::Failure;
use crate::step::cargo;

/// SPDX names of licences that ask for no more than to be named.
const ALLOWED: &[&str] = &[
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Names every crate that goes into a program and has no allowed licence.
pub(crate) fn check(folder: &Path) -> Result<(), Failure> {
    let mut tree = cargo();
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--target",
        "all",
    ]);
    tree.args(["--format", "{p}|{l}"]).current_dir(folder).stdin(Stdio::null());
    let output = tree.output().map_err(|error| failed(format!("starting cargo tree: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let refused = refused(&text);
    if refused.is_empty() {
        Ok(())
    } else {
        Err(failed(format!("licences to look at:\n  {}", refused.join("\n  "))))
    }
}

fn failed(report: String) -> Failure {
    Failure::Missing { report }
}

/// The lines of crates whose licence is not allowed; those that were seen before end in `(*)`.
fn refused(tree: &str) -> Vec<String> {
    let lines: BTreeSet<&str> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
    let crates = lines.into_iter().filter_map(|line| line.split_once('|'));
    let bad = crates.filter(|(_, licence)| !is_allowed(licence));
    bad.map(|(name, licence)| format!("{name}: {}", if licence.is_empty() { "none" } else { licence }))
        .collect()
}

/// Whether an SPDX expression can be fulfilled by allowed licences. An OR within an AND is understood, and so is an AND
/// within an OR as long as all of its parts are allowed.
fn is_allowed(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    let is_known = |name: &str| ALLOWED.contains(&name.split(" WITH ").next().unwrap_or_default().trim());
    flat.split(" AND ").all(|part| part.split(" OR ").any(is_known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_chosen_from_allowed_licences_is_allowed() {
        for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR GPL-2.0) AND Unicode-3.0"] {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR SSPL-1.0", "LGPL-2.1"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }

    #[test]
    fn each_crate_is_named_once_with_its_licence() {
        let tree = "good v1.0.0|MIT\nbad v2.0.0|GPL-3.0\nbad v2.0.0|GPL-3.0 (*)\nnone v1.0.0|\n";
        assert_eq!(refused(tree), ["bad v2.0.0: GPL-3.0", "none v1.0.0: none"]);
    }
}
