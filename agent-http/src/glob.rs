//! Patterns of script names, as tokens list them: `*` within a folder, `**` across folders.

/// Whether a pattern matches a script's name.
///
/// A segment `**` stands for any folders, none too; as the last segment it stands for at least the script itself.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<&str> = pattern.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    matches_path(&pattern, &name)
}

/// Both are short: a pattern has at most eight segments.
fn matches_path(pattern: &[&str], name: &[&str]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ["**"] => !name.is_empty(),
        ["**", rest @ ..] => (0..=name.len()).any(|skipped| matches_path(rest, &name[skipped..])),
        [first, rest @ ..] => name.split_first().is_some_and(|(segment, names)| {
            matches_segment(first.as_bytes(), segment.as_bytes()) && matches_path(rest, names)
        }),
    }
}

/// Goes back to the last `*` where it fails, so that it takes no longer than both lengths multiplied.
fn matches_segment(pattern: &[u8], segment: &[u8]) -> bool {
    let (mut p, mut s) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while s < segment.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, s));
                p += 1;
            }
            Some(byte) if *byte == segment[s] => {
                p += 1;
                s += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else { return false };
                retry = Some((after_star, from + 1));
                p = after_star;
                s = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_stays_in_its_folder_and_two_cross_folders() {
        let table = [
            ("deploy/*", "deploy/web.sh", true),
            ("deploy/*", "deploy/eu/web.sh", false),
            ("deploy/*", "deploy", false),
            ("deploy/*", "deployment/web.sh", false),
            ("deploy/**", "deploy/eu/web.sh", true),
            ("deploy/**", "deploy/web.sh", true),
            ("deploy/**", "deploy", false),
            ("**", "a/b/c.sh", true),
            ("*", "a.sh", true),
            ("*", "a/b.sh", false),
            ("**/web.sh", "web.sh", true),
            ("**/web.sh", "a/b/web.sh", true),
            ("**/web.sh", "a/b/xweb.sh", false),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("db/back*.sh", "db/backup.sh", true),
            ("db/back*.sh", "db/backup.sh.old", false),
            ("*a*b", "xaxxab", true),
            ("*a*b", "xaxxba", false),
            ("web.sh", "web.sh", true),
            ("web.sh", "webXsh", false),
            ("web.sh", "web.sh/x", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
