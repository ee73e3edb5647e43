//! What may stand behind a script's name, by what the script says of itself.

use task_runners::ScriptDescription;
use task_runners::description::{DoubleDash, Form, Parameter, ValueType};

use crate::complete::{Candidate, Kind, Offer};

/// What may stand at the cursor behind these words of a script. One that does not say what it takes may take files.
pub(super) fn offer(declared: Option<&ScriptDescription>, words: &[String], current: &str) -> Offer {
    let Some(declared) = declared else { return Offer::paths(Kind::Files) };
    let place = Place::behind(declared, words);
    if let Some(parameter) = place.pending {
        return values(parameter);
    }
    if !place.reads_flags || !current.starts_with('-') {
        return place.what_has_a_place();
    }
    if let Some((spelling, _)) = current.split_once('=') {
        let parameter = place.flag(spelling).filter(|parameter| parameter.form.takes_value());
        return parameter.map(|found| values(found).behind(&format!("{spelling}="))).unwrap_or_default();
    }
    place.flags()
}

/// Where the words lead to; what is wrong with them is told by the run.
struct Place<'a> {
    declared: &'a ScriptDescription,
    /// The flag whose value comes next.
    pending: Option<&'a Parameter>,
    given: Vec<&'a str>,
    /// How many positional parameters have got all their words.
    positional: usize,
    reads_flags: bool,
}

impl<'a> Place<'a> {
    fn behind(declared: &'a ScriptDescription, words: &[String]) -> Self {
        let mut place =
            Place { declared, pending: None, given: Vec::new(), positional: 0, reads_flags: true };
        words.iter().for_each(|word| place.read(word));
        place
    }

    fn read(&mut self, word: &str) {
        if self.pending.take().is_some() {
            return;
        }
        if self.reads_flags && word == "--" {
            self.reads_flags = false;
            let behind = |parameter: &&Parameter| parameter.form == Form::Positional(DoubleDash::Required);
            let target = self.positionals().position(|parameter| behind(&parameter));
            self.positional = target.unwrap_or(self.positional).max(self.positional);
        } else if self.reads_flags && word.starts_with("--") {
            let (spelling, value) = word.split_once('=').map_or((word, None), |(s, v)| (s, Some(v)));
            self.give(self.flag(spelling), value.is_some());
        } else if self.reads_flags && word.len() > 1 && word.starts_with('-') {
            self.read_letters(&word[1..]);
        } else if let Some(parameter) = self.positionals().nth(self.positional) {
            self.reads_flags &= parameter.form != Form::Positional(DoubleDash::Automatic);
            self.positional += usize::from(parameter.repeat.is_none());
        }
    }

    /// `-abc`: flags up to the first that takes a value, which is the rest of the word or the next one.
    fn read_letters(&mut self, letters: &str) {
        for (at, letter) in letters.char_indices() {
            let parameter = self.flag(&format!("-{letter}"));
            let is_last = at + letter.len_utf8() == letters.len();
            self.give(parameter, !is_last);
            if parameter.is_none_or(|parameter| parameter.form.takes_value()) {
                return;
            }
        }
    }

    fn give(&mut self, parameter: Option<&'a Parameter>, has_value: bool) {
        let Some(parameter) = parameter else { return };
        self.given.push(&parameter.name);
        let is_attached = matches!(parameter.form, Form::Value { require_equals: true, .. });
        if parameter.form.takes_value() && !has_value && !is_attached {
            self.pending = Some(parameter);
        }
    }

    fn flag(&self, spelling: &str) -> Option<&'a Parameter> {
        self.declared.parameters.iter().find(|parameter| spellings(parameter).any(|known| known == spelling))
    }

    fn positionals(&self) -> impl Iterator<Item = &'a Parameter> + use<'a> {
        self.declared.parameters.iter().filter(|parameter| parameter.form.flag().is_none())
    }

    /// The flags that may still be given, each by its first spelling, and by the one that means no.
    fn flags(&self) -> Offer {
        let is_open = |parameter: &&Parameter| {
            let is_given = self.given.contains(&parameter.name.as_str());
            !parameter.hidden && (!is_given || parameter.repeat.is_some())
        };
        let open = self.declared.parameters.iter().filter(is_open);
        let mut words: Vec<Candidate> = open.flat_map(written).collect();
        if self.flag("--help").is_none() && !self.declared.takes_unknown_flags {
            words.push(Candidate::new("--help", "Show what the script takes"));
        }
        let kind = if words.iter().all(|word| word.text.ends_with('=')) { Kind::More } else { Kind::Word };
        Offer { words, kind }
    }

    /// The values of the next positional parameter; flags where it says nothing of its values, or there is none.
    fn what_has_a_place(&self) -> Offer {
        let next = self.positionals().nth(self.positional);
        let of_it = next.map(values).filter(|offer| *offer != Offer::default());
        match of_it {
            Some(offer) => offer,
            None if self.reads_flags => self.flags(),
            None => Offer::default(),
        }
    }
}

/// All spellings of a flag.
fn spellings(parameter: &Parameter) -> impl Iterator<Item = &String> {
    let negate = match &parameter.form {
        Form::Switch { negate, .. } => negate.as_ref(),
        _ => None,
    };
    parameter.form.flag().into_iter().flat_map(|flag| &flag.0).chain(negate)
}

/// A flag as it is written: its first spelling, and the one that means no.
fn written(parameter: &Parameter) -> Vec<Candidate> {
    let help = parameter.help.as_deref().unwrap_or_default();
    let first = parameter.form.flag().and_then(|flag| flag.0.first());
    match &parameter.form {
        Form::Value { require_equals: true, .. } => {
            first.map(|first| Candidate::new(format!("{first}="), help)).into_iter().collect()
        }
        Form::Switch { negate, .. } => {
            first.into_iter().chain(negate).map(|spelling| Candidate::new(spelling, help)).collect()
        }
        _ => first.map(|first| Candidate::new(first, help)).into_iter().collect(),
    }
}

/// What may be the value of a parameter.
fn values(parameter: &Parameter) -> Offer {
    let choices = &parameter.choices;
    match parameter.value_type {
        _ if !choices.is_empty() => Offer::words(
            choices
                .iter()
                .map(|choice| Candidate::new(&choice.value, choice.help.as_deref().unwrap_or_default())),
        ),
        ValueType::Bool => Offer::words(["true", "false"].map(|value| Candidate::new(value, ""))),
        ValueType::Path => Offer::paths(Kind::Files),
        _ => Offer::default(),
    }
}
