//! Arguments as they were typed, told apart by the declaration. What is read how is what `usage` does, but that three
//! things are mistakes: an unknown flag unless the script takes such, a value for a switch, and a flag given twice
//! that is not repeatable.

use std::ffi::OsString;

use executor_core::Problem;

use crate::description::{DoubleDash, Form, Parameter, ScriptDescription};
use crate::validate::{Given, field};

/// Reads words into values.
pub(super) fn read(description: &ScriptDescription, args: &[OsString], problems: &mut Vec<Problem>) -> Given {
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    for (index, _) in args.iter().enumerate().filter(|(_, arg)| arg.to_str().is_none()) {
        let expected = "UTF-8 text: the arguments of this script are declared";
        problems.push(Problem::new(format!("args[{index}]"), "utf8", expected));
    }
    let mut reader = Reader {
        description,
        words: &words,
        next: 0,
        positional: 0,
        reads_flags: true,
        seen_double_dash: false,
        given: vec![None; description.parameters.len()],
        problems,
    };
    while let Some(word) = words.get(reader.next) {
        reader.next += 1;
        reader.word(word);
    }
    reader.given
}

/// Whether a word looks like a flag. A lone `-` and a negative number do not.
pub(super) fn is_flag_like(word: &str) -> bool {
    let is_number = |text: &str| {
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        match text.split_once('.') {
            Some((whole, fraction)) => digits(whole) && digits(fraction),
            None => digits(text),
        }
    };
    word.len() > 1 && word.strip_prefix('-').is_some_and(|rest| !is_number(rest))
}

/// Goes through the words; `next` is the first that is not read yet.
struct Reader<'a> {
    description: &'a ScriptDescription,
    words: &'a [String],
    next: usize,
    /// How many positional parameters have got all their words.
    positional: usize,
    reads_flags: bool,
    seen_double_dash: bool,
    given: Given,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn word(&mut self, word: &'a str) {
        if word == "--" && !self.seen_double_dash {
            self.seen_double_dash = true;
            self.reads_flags = false;
            self.skip_to_what_needs_double_dash();
        } else if self.reads_flags && word.starts_with("--") {
            self.long(word);
        } else if self.reads_flags && word.len() > 1 && word.starts_with('-') && self.is_short(word) {
            self.short(word);
        } else if self.reads_flags && is_flag_like(word) {
            self.unknown_flag(word);
        } else {
            self.positional(word);
        }
    }

    fn long(&mut self, word: &'a str) {
        let (spelling, attached) = match word.split_once('=') {
            Some((spelling, value)) => (spelling, Some(value)),
            None => (word, None),
        };
        match self.flag(spelling) {
            Some(index) => self.flag_given(index, spelling, attached),
            None => self.unknown_flag(word),
        }
    }

    /// Whether a word such as `-abc` names declared flags, up to the first that takes a value.
    fn is_short(&self, word: &str) -> bool {
        for letter in word.chars().skip(1) {
            match self.flag(&format!("-{letter}")) {
                None => return false,
                Some(index) if self.description.parameters[index].form.takes_value() => return true,
                Some(_) => {}
            }
        }
        true
    }

    fn short(&mut self, word: &'a str) {
        for (at, letter) in word.char_indices().skip(1) {
            let spelling = format!("-{letter}");
            let Some(index) = self.flag(&spelling) else { return };
            if self.description.parameters[index].form.takes_value() {
                let rest = &word[at + letter.len_utf8()..];
                let value = rest.strip_prefix('=').unwrap_or(rest);
                self.flag_given(index, &spelling, (!rest.is_empty()).then_some(value));
                return;
            }
            self.flag_given(index, &spelling, None);
        }
    }

    /// The parameter that is spelled so, negated spellings included.
    fn flag(&self, spelling: &str) -> Option<usize> {
        self.description.parameters.iter().position(|parameter| {
            let negated =
                matches!(&parameter.form, Form::Switch { negate: Some(negate), .. } if negate == spelling);
            negated || parameter.form.flag().is_some_and(|flag| flag.0.iter().any(|known| known == spelling))
        })
    }

    fn flag_given(&mut self, index: usize, spelling: &str, attached: Option<&str>) {
        let description = self.description;
        let parameter = &description.parameters[index];
        match &parameter.form {
            Form::Positional(_) => {}
            Form::Value { require_equals, hyphen_values, .. } => {
                let value =
                    attached.map(str::to_owned).or_else(|| self.detached(*require_equals, *hyphen_values));
                match value {
                    Some(value) => self.add(index, value),
                    None => self.problem(parameter, "missing_value", format!("a value behind {spelling}")),
                }
            }
            Form::Switch { .. } | Form::Count(_) if attached.is_some() => {
                let expected = format!("{spelling} alone: it takes no value");
                self.problem(parameter, "unexpected_value", expected);
            }
            Form::Switch { negate, .. } => {
                let value = negate.as_deref() != Some(spelling);
                self.switch(index, value);
            }
            Form::Count(_) => {
                let count: usize =
                    self.given[index].iter().flatten().next().and_then(|n| n.parse().ok()).unwrap_or(0);
                self.given[index] = Some(vec![(count + 1).to_string()]);
            }
        }
    }

    /// The next word, if it is the value of the flag before it.
    fn detached(&mut self, require_equals: bool, hyphen_values: bool) -> Option<String> {
        let word = self.words.get(self.next)?;
        if require_equals || (is_flag_like(word) && !hyphen_values) {
            return None;
        }
        self.next += 1;
        Some(word.clone())
    }

    /// On and off may both be given, and the last one counts; the same twice is a mistake.
    fn switch(&mut self, index: usize, value: bool) {
        let text = value.to_string();
        let values = self.given[index].get_or_insert_default();
        if values.contains(&text) {
            let description = self.description;
            self.problem(&description.parameters[index], "duplicate", "given once".to_owned());
        } else {
            values.insert(0, text);
        }
    }

    fn add(&mut self, index: usize, value: String) {
        let description = self.description;
        let parameter = &description.parameters[index];
        let values = self.given[index].get_or_insert_default();
        if parameter.repeat.is_none() && !values.is_empty() {
            self.problem(parameter, "duplicate", "given once".to_owned());
        } else {
            values.push(value);
        }
    }

    fn positional(&mut self, word: &str) {
        let Some((index, double_dash)) = self.positionals().nth(self.positional) else {
            let count = self.positionals().count();
            let expected = match count {
                0 => "no argument by place: this script takes none".to_owned(),
                count => format!("{count} arguments by place at most"),
            };
            self.unbound("unexpected_argument", expected);
            return;
        };
        let description = self.description;
        let parameter = &description.parameters[index];
        if double_dash == DoubleDash::Required && !self.seen_double_dash {
            let expected = format!("`--` before the value of {}", parameter.name);
            self.problem(parameter, "double_dash", expected);
            return;
        }
        if double_dash == DoubleDash::Automatic {
            self.reads_flags = false;
        }
        self.add(index, word.to_owned());
        if parameter.repeat.is_none() {
            self.positional += 1;
        }
    }

    /// Positional parameters with their index among all.
    fn positionals(&self) -> impl Iterator<Item = (usize, DoubleDash)> + use<'a> {
        let parameters = self.description.parameters.iter().enumerate();
        parameters.filter_map(|(index, parameter)| match parameter.form {
            Form::Positional(double_dash) => Some((index, double_dash)),
            _ => None,
        })
    }

    fn skip_to_what_needs_double_dash(&mut self) {
        let target = self.positionals().position(|(_, double_dash)| double_dash == DoubleDash::Required);
        self.positional = target.unwrap_or(self.positional).max(self.positional);
    }

    fn unknown_flag(&mut self, word: &str) {
        if self.description.takes_unknown_flags {
            self.positional(word);
            return;
        }
        let flags =
            self.description.parameters.iter().filter_map(|parameter| parameter.form.flag()?.0.first());
        let known: Vec<&str> = flags.map(String::as_str).collect();
        let expected = match known.as_slice() {
            [] => {
                "no flag: this script takes none; a value that starts with '-' stands behind `--`".to_owned()
            }
            known => format!(
                "a flag that the script declares: {}; a value that starts with '-' stands behind `--`",
                known.join(", ")
            ),
        };
        self.unbound("unexpected_argument", expected);
    }

    fn unbound(&mut self, rule: &str, expected: String) {
        self.problems.push(Problem::new(format!("args[{}]", self.next - 1), rule, expected));
    }

    /// A parameter with such a problem was given after all: it is not missing too.
    fn problem(&mut self, parameter: &Parameter, rule: &str, expected: String) {
        let problem = Problem::new(field(parameter), rule, expected);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}
