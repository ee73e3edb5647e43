//! What a script says about itself: the comment at its beginning.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::terminal::escaped_line;

/// Bytes of a script that are looked at.
const HEAD_BYTES: u64 = 16 << 10;
/// Words at the beginning of a comment that speaks to other programs, not to people.
const DIRECTIVES: [&str; 6] = ["USAGE", "TASK", " shellcheck", " vim:", " -*-", " pylint:"];

/// The comment at a script's beginning, line by line, control characters escaped; empty where there is none or the
/// file cannot be read.
pub(crate) fn lines(script: &Path) -> Vec<String> {
    let mut head = Vec::new();
    match File::open(script).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head)) {
        Ok(_) => comment(&String::from_utf8_lossy(&head)),
        Err(_) => Vec::new(),
    }
}

/// Its first sentence, for lists.
pub(crate) fn summary(script: &Path) -> String {
    let text = lines(script).into_iter().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let end = text.find(". ").map_or(text.len(), |dot| dot + 1);
    text[..end].to_owned()
}

fn comment(text: &str) -> Vec<String> {
    let behind_shebang = match text.strip_prefix("#!") {
        Some(rest) => rest.split_once('\n').map_or("", |(_, rest)| rest),
        None => text,
    };
    let mut lines: Vec<String> = behind_shebang
        .lines()
        .skip_while(|line| line.trim().is_empty())
        .map_while(|line| line.strip_prefix('#').or_else(|| line.strip_prefix("//")))
        .filter(|line| !DIRECTIVES.iter().any(|directive| line.starts_with(directive)))
        .map(|line| escaped_line(line.strip_prefix(' ').unwrap_or(line).trim_end()))
        .collect();
    let is_empty = |line: Option<&String>| line.is_some_and(String::is_empty);
    while is_empty(lines.last()) {
        lines.pop();
    }
    while is_empty(lines.first()) {
        lines.remove(0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn the_comment_at_the_beginning_ends_with_the_first_other_line() {
        let text = "#!/bin/sh\n\n#\n# Deploys. Slowly.\n#  indented\n#\n# last\n#\n\n# not any more\n";
        assert_eq!(comment(text), ["Deploys. Slowly.", " indented", "", "last"]);
        assert_eq!(comment("// Node\n//USAGE arg x\nx()"), ["Node"]);
        assert_eq!(comment("#!/bin/sh\n#TASK group=\"x\"\n# Text\necho\n"), ["Text"]);
        for none in ["", "#!/bin/sh", "#!/bin/sh\necho\n# late\n", "\u{7f}ELF"] {
            assert_eq!(comment(none), [""; 0], "{none}");
        }
    }

    #[test]
    fn sequences_that_steer_a_terminal_are_shown_and_not_sent() {
        assert_eq!(comment("# a\u{1b}[2Jb\u{202e}\rc\n"), ["a\\u{1b}[2Jb\\u{202e}\\rc"]);
    }
}
