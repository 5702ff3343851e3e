//! The annotations of one pod, read by the rules of kubernetes 2.18.
//!
//! Owns that an absent value and an unusable one give the default, and that an empty text is a value. What is said
//! about unusable values is `lint`'s matter: both ask the same readers, so that a value without effect never goes
//! without a warning.

use ironside_chassis::args::parse_decimal;
use ironside_resources::annotations::{self, Kind, PREFIX, is_truthy};
use std::collections::BTreeMap;

type Map = BTreeMap<String, Option<String>>;

/// What a pod is annotated with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotations<'a>(Option<&'a Map>);

// === impl Annotations ===

impl<'a> Annotations<'a> {
    pub(crate) fn new(map: Option<&'a Map>) -> Self {
        Self(map)
    }

    /// All of them, by name.
    pub(crate) fn all(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.into_iter().flatten();
        pairs.map(|(name, value)| (name.as_str(), value.as_deref().unwrap_or_default()))
    }

    /// The value of `dapr.io/<name>` as it was written.
    pub(crate) fn get(self, name: &str) -> Option<&'a str> {
        let value = self.0?.get(&format!("{PREFIX}{name}"))?;
        Some(value.as_deref().unwrap_or_default())
    }

    /// A text; nothing is the same as the empty one.
    pub(crate) fn text(self, name: &str) -> &'a str {
        self.get(name).unwrap_or_default()
    }

    /// A text that is there and not empty.
    pub(crate) fn some(self, name: &str) -> Option<&'a str> {
        self.get(name).filter(|text| !text.is_empty())
    }

    pub(crate) fn bool(self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, is_truthy)
    }

    /// A number that is there and can be read.
    pub(crate) fn number(self, name: &str) -> Option<i64> {
        let kind = annotations::find(&format!("{PREFIX}{name}"))?.kind;
        read_number(kind, self.get(name)?)
    }

    pub(crate) fn int(self, name: &str, default: i64) -> i64 {
        self.number(name).unwrap_or(default)
    }

    /// A number of a probe, or a port: the table's bounds make it fit.
    pub(crate) fn int32(self, name: &str, default: i32) -> i32 {
        let number = self.number(name);
        number
            .and_then(|number| i32::try_from(number).ok())
            .unwrap_or(default)
    }
}

/// Reads a number of this kind; nothing if it is none, or out of its bounds.
pub(crate) fn read_number(kind: Kind, text: &str) -> Option<i64> {
    let (least, most) = match kind {
        Kind::Int(least, most) => (least, most),
        Kind::Port(least) => (least, i64::from(u16::MAX)),
        Kind::Bool
        | Kind::Text
        | Kind::Word(_)
        | Kind::Duration
        | Kind::Quantity
        | Kind::Pairs
        | Kind::Mounts => return None,
    };
    let number = parse_decimal(text).ok()?;
    (least..=most).contains(&number).then_some(number)
}
