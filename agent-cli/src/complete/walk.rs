//! Where in this program's grammar the cursor stands, and what may stand there.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, CommandFactory, ValueHint};
use task_runners::TaskStatus;

use crate::args::{Cli, Global, Last};
use crate::complete::names::Folder;
use crate::complete::{Candidate, Kind, Offer, behind, scripts, tasks};
use crate::context;

/// What may stand at the cursor behind these words.
pub(super) fn offer(words: &[String], current: &str) -> Offer {
    let mut root = Cli::command();
    root.build();
    let place = Place::behind(&root, words);
    if let Some((script, words)) = &place.script {
        let declared = place.folder().and_then(|folder| folder.declared(script));
        return behind::offer(declared.as_deref(), words, current);
    }
    if let Some(arg) = place.pending {
        return place.values(arg, current);
    }
    let option = current.split_once('=').filter(|_| current.starts_with("--") && !place.only_values);
    if let Some((option, value)) = option {
        let arg = option.strip_prefix("--").and_then(|long| place.long(long));
        return arg.map(|arg| place.values(arg, value).behind(&format!("{option}="))).unwrap_or_default();
    }
    if current.starts_with('-') && !place.only_values {
        return place.options();
    }
    place.what_has_a_place(current)
}

/// A place in the grammar, reached by words.
struct Place<'a> {
    command: &'a Command,
    /// How many values have a place, behind the command.
    values: usize,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    /// The options that were given.
    given: Vec<&'a Arg>,
    /// Whether `--` has ended the options.
    only_values: bool,
    /// The script behind whose name the cursor is, and the words between.
    script: Option<(String, Vec<String>)>,
    global: Global,
    last: Last,
}

impl<'a> Place<'a> {
    fn behind(root: &'a Command, words: &[String]) -> Self {
        let mut place = Place {
            command: root,
            values: 0,
            pending: None,
            given: Vec::new(),
            only_values: false,
            script: None,
            global: Global { config: None, scripts: None, state: None },
            last: Last::default(),
        };
        words.iter().for_each(|word| place.read(word));
        place
    }

    fn read(&mut self, word: &str) {
        if let Some((_, behind)) = &mut self.script {
            behind.push(word.to_owned());
        } else if let Some(arg) = self.pending.take() {
            self.set(arg, word);
        } else if word == "--" && !self.only_values {
            self.only_values = true;
        } else if let Some(option) = word.strip_prefix("--").filter(|_| !self.only_values) {
            let (long, value) = option.split_once('=').map_or((option, None), |(long, v)| (long, Some(v)));
            self.give(self.long(long), value);
        } else if let Some(letters) = word.strip_prefix('-').filter(|l| !l.is_empty() && !self.only_values) {
            // Of letters together only the last can want a value.
            let last = letters.chars().last();
            let arg = self.command.get_arguments().find(|arg| arg.get_short() == last);
            self.give(arg, None);
        } else if let Some(command) = self.command.find_subcommand(word).filter(|_| self.values == 0) {
            self.command = command;
        } else if self.positional().is_some_and(Arg::is_trailing_var_arg_set) {
            self.script = Some((word.to_owned(), Vec::new()));
        } else {
            self.values += 1;
        }
    }

    /// An option was given, perhaps with its value.
    fn give(&mut self, arg: Option<&'a Arg>, value: Option<&str>) {
        let Some(arg) = arg else { return };
        self.given.push(arg);
        match value {
            Some(value) => self.set(arg, value),
            None if takes_value(arg) => self.pending = Some(arg),
            None => {}
        }
    }

    /// Keeps values that say where to look.
    fn set(&mut self, arg: &Arg, value: &str) {
        let path = || Some(PathBuf::from(at_home(value)));
        match arg.get_id().as_str() {
            "config" => self.global.config = path(),
            "scripts" => self.global.scripts = path(),
            "state" => self.global.state = path(),
            "server" => self.last.server = Some(value.to_owned()),
            "token_file" => self.last.token_file = path(),
            "ca" => self.last.trust.ca = path(),
            "cert" => self.last.trust.cert = path(),
            "key" => self.last.trust.key = path(),
            _ => {}
        }
    }

    fn long(&self, long: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| arg.get_long() == Some(long))
    }

    /// What the next value with a place belongs to.
    fn positional(&self) -> Option<&'a Arg> {
        let is_list = |arg: &&Arg| matches!(arg.get_action(), ArgAction::Append);
        let positionals: Vec<&'a Arg> = self.command.get_positionals().collect();
        positionals.get(self.values).copied().or_else(|| positionals.last().copied().filter(is_list))
    }

    fn folder(&self) -> Option<Folder> {
        context::quiet_settings(&self.global).ok().map(|settings| Folder::of(&settings))
    }

    /// The options that may still be given.
    fn options(&self) -> Offer {
        let is_open = |arg: &&Arg| {
            let is_given = self.given.iter().any(|given| given.get_id() == arg.get_id());
            !arg.is_hide_set() && (!is_given || matches!(arg.get_action(), ArgAction::Append))
        };
        let options = self.command.get_arguments().filter(is_open);
        Offer::words(options.filter_map(|arg| {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            Some(Candidate::new(format!("--{}", arg.get_long()?), &help))
        }))
    }

    /// Commands, or the value that comes next; options where there is neither.
    fn what_has_a_place(&self, current: &str) -> Offer {
        let commands = self.command.get_subcommands().filter(|command| !command.is_hide_set());
        let commands: Vec<Candidate> = commands
            .map(|command| {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                Candidate::new(command.get_name(), &about)
            })
            .collect();
        match self.positional() {
            _ if !commands.is_empty() && self.values == 0 => Offer::words(commands),
            Some(arg) => self.values(arg, current),
            None if !self.only_values => self.options(),
            None => Offer::default(),
        }
    }

    /// What may be the value of an option or of a place.
    fn values(&self, arg: &Arg, current: &str) -> Offer {
        let known = arg.get_possible_values();
        if !known.is_empty() {
            let help = |value: &clap::builder::PossibleValue| value.get_help().map(ToString::to_string);
            return Offer::words(
                known
                    .iter()
                    .map(|value| Candidate::new(value.get_name(), help(value).unwrap_or_default().as_str())),
            );
        }
        let named = |names: Vec<String>| Offer::words(names.into_iter().map(|name| Candidate::new(name, "")));
        match (arg.get_value_hint(), arg.get_id().as_str()) {
            (ValueHint::CommandName | ValueHint::CommandWithArguments, _)
                if current.starts_with(['.', '/']) =>
            {
                Offer::paths(Kind::Files)
            }
            (ValueHint::CommandName | ValueHint::CommandWithArguments, _) => {
                self.folder().map(|folder| scripts(&folder, current)).unwrap_or_default()
            }
            (ValueHint::AnyPath | ValueHint::FilePath, _) => Offer::paths(Kind::Files),
            (ValueHint::DirPath, _) => Offer::paths(Kind::Folders),
            (_, "work_dir") => named(self.folder().map(|folder| folder.workspaces()).unwrap_or_default()),
            (_, "status") => named(TaskStatus::ALL.iter().map(ToString::to_string).collect()),
            (_, "node") => tasks::offer_nodes(&self.global, &self.last),
            (_, "id") if arg.is_positional() => tasks::offer(&self.global, &self.last),
            _ => Offer::default(),
        }
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// A path whose `~` no shell has expanded yet.
fn at_home(path: &str) -> String {
    match (path.strip_prefix("~/"), std::env::var("HOME")) {
        (Some(below), Ok(home)) => format!("{home}/{below}"),
        _ => path.to_owned(),
    }
}
