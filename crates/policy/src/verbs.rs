//! Sets of verbs.
//!
//! A rule names some, a request that carries a method override stands for several. One word of bits.

use crate::Verb;

/// Headers by which a request may ask an app to take it for another verb (fact O-A4).
pub const OVERRIDE_HEADERS: [&str; 3] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
];

/// Some verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerbSet(u16);

/// In the order of the wire's numbers.
const VERBS: [Verb; 10] = [
    Verb::None,
    Verb::Get,
    Verb::Head,
    Verb::Post,
    Verb::Put,
    Verb::Delete,
    Verb::Connect,
    Verb::Options,
    Verb::Trace,
    Verb::Patch,
];

impl VerbSet {
    /// No verb.
    pub const NONE: Self = Self(0);
    /// Every verb, and the lack of one.
    pub const EVERY: Self = Self(0x3ff);

    /// Returns the verbs that the values of [`OVERRIDE_HEADERS`] name; each may be a list.
    pub fn overrides<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let words = values.into_iter().flat_map(|value| value.split(','));
        let words = words.map(str::trim).filter(|word| !word.is_empty());
        words.map(Verb::from_http).collect()
    }

    /// Returns whether the set holds `verb`.
    #[must_use]
    pub fn contains(self, verb: Verb) -> bool {
        self.0 & Self::bit(verb) != 0
    }

    /// Returns whether the set holds nothing.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the verbs of the set, in the order of the wire's numbers.
    pub fn iter(self) -> impl Iterator<Item = Verb> {
        VERBS.into_iter().filter(move |verb| self.contains(*verb))
    }

    /// Returns the set with `verb`.
    #[must_use]
    pub fn with(self, verb: Verb) -> Self {
        Self(self.0 | Self::bit(verb))
    }

    fn bit(verb: Verb) -> u16 {
        1 << (verb as u16)
    }
}

impl FromIterator<Verb> for VerbSet {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        verbs.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set: VerbSet = [Verb::Get, Verb::Patch].into_iter().collect();
        assert!(set.contains(Verb::Get) && !set.contains(Verb::Put));
        assert_eq!(set.iter().collect::<Vec<_>>(), [Verb::Get, Verb::Patch]);
        assert_eq!(VerbSet::EVERY.iter().count(), 10);
        assert!(VerbSet::NONE.is_empty());
    }

    #[test]
    fn overrides_are_lists_of_any_case() {
        let set = VerbSet::overrides(["delete, PUT", "", " Frob "]);
        let want = [Verb::Delete, Verb::Put, Verb::Post];
        assert_eq!(set, want.into_iter().collect());
    }
}
