//! Writes one TOML text onto a draft, with the line and column of everything in it.
//!
//! A deserializer would stop at the first mistake; this walks the parsed text itself, so that all are found at once.

use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::draft::Draft;
use crate::grammar;
use crate::input::{Checked, Input, quote};
use crate::keys::{self, LABELS, SECTIONS, SPELLINGS, TOKENS, UNSUPPORTED, VARIABLES};
use crate::mistake::{Mistake, Origin};
use crate::nearest::{known, nearest};
use crate::settings::Settings;
use crate::token::{FIELDS, Field, PROOFS, TokenDraft};

/// A TOML text and where it comes from; no path is the built-in file.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    text: &'a str,
    path: Option<Arc<PathBuf>>,
    /// Byte offsets at which lines begin.
    lines: Vec<usize>,
}

/// One walk over a text.
struct Walk<'a> {
    text: &'a Text<'a>,
    draft: &'a mut Draft,
    /// Lines that are no TOML. What the parser made of them is not judged again.
    broken: Vec<usize>,
}

impl<'a> Text<'a> {
    pub(crate) fn new(text: &'a str, path: Option<PathBuf>) -> Self {
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { text, path: path.map(Arc::new), lines: [0].into_iter().chain(starts).collect() }
    }

    /// Writes every value of the text onto the draft.
    pub(crate) fn read_into(&self, draft: &mut Draft) {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut broken = Vec::new();
        for error in errors {
            let origin_at = error.span().map_or(self.text.len(), |span| span.start);
            let (line, _) = self.position(origin_at);
            if broken.last() == Some(&line) {
                continue;
            }
            broken.push(line);
            draft.mistakes.add(|| Mistake {
                origin: self.origin(origin_at),
                key: String::new(),
                problem: format!("not TOML: {}", error.message()),
                remedy: "see https://toml.io".to_owned(),
            });
        }
        broken.sort_unstable();
        let mut walk = Walk { text: self, draft, broken };
        walk.root(table.get_ref());
    }

    /// Line and column of a byte offset, from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.lines[line - 1]..offset);
        (line, before.map_or(0, |text| text.chars().count()) + 1)
    }

    fn origin(&self, offset: usize) -> Origin {
        let (line, column) = self.position(offset);
        match &self.path {
            Some(path) => Origin::File { path: Arc::clone(path), line, column },
            None => Origin::Default { line, column },
        }
    }
}

impl Walk<'_> {
    fn root(&mut self, table: &DeTable<'_>) {
        let (seed, right) = SPELLINGS;
        for (key, value) in table {
            let at = key.span().start;
            match key.get_ref().as_ref() {
                name if name == seed && table.contains_key(right) => {
                    self.mistake(at, name, "a second spelling of one section", || {
                        format!("write [{right}] only, with the keys of both")
                    });
                }
                name if name == seed => self.entry(right, at, value),
                name => self.entry(name, at, value),
            }
        }
    }

    fn entry(&mut self, name: &str, at: usize, value: &Spanned<DeValue<'_>>) {
        if let Some(key) = keys::find(name) {
            self.leaf(name, value, |settings, input| (key.set)(settings, input));
        } else if name == TOKENS {
            self.tokens(value);
        } else if SECTIONS.contains(&name) || name == VARIABLES || name == LABELS {
            self.section(name, value);
        } else if UNSUPPORTED.contains(&name) {
            self.mistake(at, name, "not supported by this version", || {
                "remove this section; it would not be in force".to_owned()
            });
        } else {
            self.mistake(at, name, "unknown key", || advice(name));
        }
    }

    fn section(&mut self, name: &str, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            let right = format!("a section [{name}]");
            let found = Input::Toml(value.get_ref()).text(&right, |_| None::<()>);
            self.leaf(name, value, |_, _| found);
            return;
        };
        for (key, value) in table {
            let (at, key) = (key.span().start, key.get_ref());
            if name == LABELS {
                self.label(at, key, value);
            } else if name != VARIABLES {
                self.entry(&format!("{name}.{key}"), at, value);
            } else if grammar::is_variable(key) {
                self.leaf(&format!("{name}.{key}"), value, |settings, input| {
                    keys::set_variable(settings, key, input)
                });
            } else {
                let problem = format!("found the name {}", quote(key));
                self.mistake(at, name, &problem, || {
                    "expected letters, digits and `_`, not beginning with a digit".to_owned()
                });
            }
        }
    }

    fn label(&mut self, at: usize, key: &str, value: &Spanned<DeValue<'_>>) {
        if grammar::is_name(key) {
            let set = |settings: &mut Settings, input: Input<'_>| keys::set_label(settings, key, input);
            self.leaf(&format!("{LABELS}.{key}"), value, set);
        } else {
            let problem = format!("found the name {}", quote(key));
            self.mistake(at, LABELS, &problem, || {
                "expected letters, digits, `.`, `_` and `-`, the first a letter or digit, at most 64"
                    .to_owned()
            });
        }
    }

    fn leaf(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        set: impl FnOnce(&mut Settings, Input<'_>) -> Checked<()>,
    ) {
        let at = value.span().start;
        if self.is_broken(at) {
            return;
        }
        let text = self.text;
        self.draft.take(
            name,
            |offset| text.origin(offset.unwrap_or(at)),
            |settings| set(settings, Input::Toml(value.get_ref())),
        );
    }

    fn tokens(&mut self, value: &Spanned<DeValue<'_>>) {
        let sections = value.get_ref().as_array();
        let Some(sections) = sections.filter(|list| list.iter().all(|i| i.get_ref().is_table())) else {
            let right = format!("sections [[{TOKENS}]], in double brackets");
            let found = Input::Toml(value.get_ref()).text(&right, |_| None::<()>);
            self.leaf(TOKENS, value, |_, _| found);
            return;
        };
        for section in sections.iter() {
            if let Some(table) = section.get_ref().as_table() {
                self.token(section.span().start, table);
            }
        }
    }

    fn token(&mut self, at: usize, table: &DeTable<'_>) {
        let mut token = TokenDraft::default();
        for (key, value) in table {
            let name = format!("{TOKENS}.{}", key.get_ref());
            match FIELDS.iter().find(|field| field.name == key.get_ref()) {
                Some(field) => self.token_field(&mut token, field, value),
                None => {
                    self.mistake(key.span().start, &name, "unknown key", || advice(&name));
                }
            }
        }
        for field in FIELDS.iter().filter(|field| field.required) {
            if !table.contains_key(field.name) {
                let name = format!("{TOKENS}.{}", field.name);
                self.mistake(at, &name, "missing", || format!("each [[{TOKENS}]] needs it"));
            }
        }
        if !PROOFS.iter().any(|proof| table.contains_key(*proof)) {
            let name = format!("{TOKENS}.{}", PROOFS[0]);
            self.mistake(at, &name, "missing", || {
                format!("each [[{TOKENS}]] needs it, or {}", PROOFS[1..].join(", or "))
            });
        }
        let Some(token) = token.finish() else { return };
        let claimed = &self.draft.claimed;
        let taken = token.claims().find_map(|claim| Some((claim.words(), claimed.get(&claim)?.clone())));
        if let Some(((field, same), other)) = taken {
            let problem = format!("the same {same} as the token {}", quote(&other));
            let name = format!("{TOKENS}.{field}");
            self.mistake(at, &name, &problem, || format!("each [[{TOKENS}]] needs its own"));
            return;
        }
        let claims = token.claims().map(|claim| (claim, token.name.clone()));
        self.draft.claimed.extend(claims);
        let key = format!("{TOKENS}.{}", token.name);
        self.draft.origins.insert(key, self.text.origin(at));
        self.draft.settings.auth.tokens.push(token);
    }

    fn token_field(&mut self, token: &mut TokenDraft, field: &Field, value: &Spanned<DeValue<'_>>) {
        let at = value.span().start;
        if self.is_broken(at) {
            return;
        }
        if let Err(wrongs) = (field.set)(token, Input::Toml(value.get_ref())) {
            let text = self.text;
            self.draft.refuse(
                &format!("{TOKENS}.{}", field.name),
                |offset| text.origin(offset.unwrap_or(at)),
                wrongs,
            );
        }
    }

    fn is_broken(&self, offset: usize) -> bool {
        let (line, _) = self.text.position(offset);
        self.broken.binary_search(&line).is_ok()
    }

    fn mistake(&mut self, at: usize, key: &str, problem: &str, remedy: impl FnOnce() -> String) {
        if self.is_broken(at) {
            return;
        }
        let text = self.text;
        self.draft.mistakes.add(|| Mistake {
            origin: text.origin(at),
            key: key.to_owned(),
            problem: problem.to_owned(),
            remedy: remedy(),
        });
    }
}

/// What somebody may have meant who wrote an unknown key.
fn advice(name: &str) -> String {
    if let Some(near) = nearest(name) {
        return format!("did you mean `{near}`?");
    }
    let Some((section, _)) = name.rsplit_once('.') else {
        return format!("the sections are {}", SECTIONS.join(", "));
    };
    let known = known();
    let keys: Vec<&str> = known
        .iter()
        .filter_map(|key| key.strip_prefix(section)?.strip_prefix('.'))
        .filter(|key| !key.contains('.'))
        .collect();
    format!("the keys of [{section}] are {}", keys.join(", "))
}
