//! Sections that may be there several times, `[[auth.token]]` and `[[hook]]`: what reading them has in common.

use crate::input::{Checked, Input};
use crate::settings::Settings;
use crate::token::TokenDigest;

/// A section that may be there several times.
pub(crate) trait Repeated: Sized {
    /// The key of the list.
    const KEY: &'static str;
    /// What one of them is called.
    const WORD: &'static str;
    /// The keys of a section.
    const FIELDS: &'static [Field<Self::Draft>];
    /// Keys one of which must be given, where there are such.
    const ONE_OF: &'static [&'static str];
    /// What is known while a section is read.
    type Draft: Default + 'static;

    /// What was read, when nothing that is required is missing.
    fn finish(draft: Self::Draft) -> Option<Self>;

    /// Its name, which no other of them has.
    fn name(&self) -> &str;

    /// What it has that no other of them may have.
    fn claims(&self) -> impl Iterator<Item = Claim>;

    /// Where those that were read are kept.
    fn all(settings: &mut Settings) -> &mut Vec<Self>;
}

/// What a section has for itself: its name, and what proves who calls.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    Name(String),
    Digest(TokenDigest),
    Certificate(TokenDigest),
    User(String),
    Uid(u32),
}

impl Claim {
    /// The field that it stands in, and the word for it.
    pub(crate) fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Name(_) => ("name", "name"),
            Self::Digest(_) => ("sha256", "digest"),
            Self::Certificate(_) => ("certificate_sha256", "certificate"),
            Self::User(_) => ("peer_users", "user"),
            Self::Uid(_) => ("peer_uids", "uid"),
        }
    }
}

/// One key of such a section, and how it is taken.
pub(crate) struct Field<D: 'static> {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) set: fn(&mut D, Input<'_>) -> Checked<()>,
}

/// The keys of the sections of one kind, each whole.
pub(crate) fn keys_of<S: Repeated>() -> impl Iterator<Item = String> {
    S::FIELDS.iter().map(|field| format!("{}.{}", S::KEY, field.name))
}
