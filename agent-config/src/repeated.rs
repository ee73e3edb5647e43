//! Sections that may be there several times, `[[auth.token]]` and `[[hook]]`: what reading them has in common.

use crate::input::{Checked, Input};
use crate::settings::Settings;

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

    /// What it shares with another that each must have for itself: the field, and the word for it.
    fn shares(&self, other: &Self) -> Option<(&'static str, &'static str)>;

    /// Where those that were read are kept.
    fn all(settings: &mut Settings) -> &mut Vec<Self>;
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
