//! Taking a document apart key by key, so that one bad value does not hide the next.
//!
//! A decoder stops at the first value of another shape; here every one becomes a [`Problem`] and reading goes
//! on with the key absent. Scalars stand for text, as manifests have them unquoted. Keys that nobody asks for
//! are noted.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};

use super::{Flaw, Note, Problem, Remark};
use crate::GoDuration;
use crate::value::spell;

#[cfg(test)]
thread_local! {
    /// Places of all keys that were asked for, so that a test can compare them with the schema.
    pub(crate) static ASKED: std::cell::RefCell<std::collections::BTreeSet<String>> = std::cell::RefCell::default();
}

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
}

/// An object and where it stands.
#[derive(Debug)]
pub(super) struct Object<'v> {
    at: String,
    fields: Option<&'v Map<String, Value>>,
    asked: Vec<&'static str>,
}

// === impl Reader ===

impl Reader {
    pub(super) fn problem(&mut self, at: impl Into<Box<str>>, flaw: Flaw) {
        let pointer = at.into();
        self.problems.push(Problem { pointer, flaw });
    }

    pub(super) fn note(&mut self, at: impl Into<Box<str>>, remark: Remark) {
        let pointer = at.into();
        self.notes.push(Note { pointer, remark });
    }

    /// An object; null and nothing are an empty one.
    pub(super) fn object<'v>(&mut self, value: Option<&'v Value>, at: String) -> Object<'v> {
        let fields = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(fields)) => Some(fields),
            Some(other) => {
                self.wrong(&at, "an object", other);
                None
            }
        };
        Object {
            at,
            fields,
            asked: Vec::new(),
        }
    }

    pub(super) fn text<'v>(&mut self, value: &'v Value, at: &str) -> Option<Cow<'v, str>> {
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.as_str().into()),
            Value::Bool(_) | Value::Number(_) => Some(spell(value).into()),
            Value::Array(_) | Value::Object(_) => {
                self.wrong(at, "text", value);
                None
            }
        }
    }

    /// A span in Go's spelling, or milliseconds (resiliency-observability 1.1).
    pub(super) fn duration(&mut self, text: &str, at: &str) -> Option<GoDuration> {
        let parsed = parse_duration(text);
        parsed
            .map_err(|error| self.problem(at, Flaw::Duration(error)))
            .ok()
    }

    fn wrong(&mut self, at: &str, want: &'static str, found: &Value) {
        let found = shape(found);
        self.problem(at, Flaw::Type { want, found });
    }
}

fn parse_duration(text: &str) -> Result<GoDuration, crate::DurationError> {
    let Ok(milliseconds) = text.parse::<i64>() else {
        return text.parse();
    };
    let nanos = milliseconds.checked_mul(1_000_000);
    let too_long = || crate::DurationError::Invalid(text.into());
    nanos.map(GoDuration::from_nanos).ok_or_else(too_long)
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A key as part of a JSON pointer.
pub(super) fn join(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

// === impl Object ===

impl<'v> Object<'v> {
    /// Where a key of it stands.
    pub(super) fn at(&self, key: &str) -> String {
        join(&self.at, key)
    }

    /// Where it stands itself.
    pub(super) fn here(&self) -> &str {
        &self.at
    }

    /// All keys with values, for objects whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'v str, &'v Value)> {
        let fields = self.fields.into_iter().flatten();
        fields.map(|(key, value)| (key.as_str(), value))
    }

    /// A value that is neither absent nor null.
    pub(super) fn get(&mut self, key: &'static str) -> Option<&'v Value> {
        self.asked.push(key);
        #[cfg(test)]
        ASKED.with_borrow_mut(|asked| asked.insert(self.at(key)));
        let value = self.fields?.get(key)?;
        (!value.is_null()).then_some(value)
    }

    pub(super) fn object(&mut self, key: &'static str, reader: &mut Reader) -> Self {
        let (value, at) = (self.get(key), self.at(key));
        reader.object(value, at)
    }

    /// An object that may be absent, which differs from an empty one.
    pub(super) fn some_object(&mut self, key: &'static str, reader: &mut Reader) -> Option<Self> {
        let (value, at) = (self.get(key)?, self.at(key));
        Some(reader.object(Some(value), at)).filter(|object| object.fields.is_some())
    }

    pub(super) fn list(&mut self, key: &'static str, reader: &mut Reader) -> &'v [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(list)) => list,
            Some(other) => {
                reader.wrong(&self.at(key), "a list", other);
                &[]
            }
        }
    }

    /// Text; empty text is as absent.
    pub(super) fn text(&mut self, key: &'static str, reader: &mut Reader) -> Option<Cow<'v, str>> {
        let (value, at) = (self.get(key)?, self.at(key));
        reader.text(value, &at).filter(|text| !text.is_empty())
    }

    /// Text as an owned name.
    pub(super) fn name(&mut self, key: &'static str, reader: &mut Reader) -> Option<String> {
        self.text(key, reader).map(Cow::into_owned)
    }

    pub(super) fn flag(&mut self, key: &'static str, reader: &mut Reader) -> bool {
        match self.get(key) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                reader.wrong(&self.at(key), "true or false", other);
                false
            }
        }
    }

    /// A whole number of any size that fits.
    pub(super) fn integer(&mut self, key: &'static str, reader: &mut Reader) -> Option<i64> {
        let value = self.get(key)?;
        let number = value.as_i64();
        if number.is_none() {
            reader.wrong(&self.at(key), "a whole number", value);
        }
        number
    }

    /// A whole number within bounds.
    pub(super) fn count(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<u32>,
        reader: &mut Reader,
    ) -> Option<u32> {
        let number = self.integer(key, reader)?;
        let number = u32::try_from(number).ok();
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let (low, high) = (f64::from(*bounds.start()), f64::from(*bounds.end()));
            reader.problem(self.at(key), Flaw::Number { low, high });
        }
        number
    }

    /// A number within bounds.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<f64>,
        reader: &mut Reader,
    ) -> Option<f64> {
        let value = self.get(key)?;
        let Some(number) = value.as_f64() else {
            reader.wrong(&self.at(key), "a number", value);
            return None;
        };
        if !bounds.contains(&number) {
            let (low, high) = (*bounds.start(), *bounds.end());
            reader.problem(self.at(key), Flaw::Number { low, high });
            return None;
        }
        Some(number)
    }

    /// A span, below zero too; empty text is as absent.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        reader: &mut Reader,
    ) -> Option<GoDuration> {
        let text = self.text(key, reader)?;
        reader.duration(&text, &self.at(key))
    }

    /// A span within bounds.
    pub(super) fn span(
        &mut self,
        key: &'static str,
        bounds: RangeInclusive<Duration>,
        reader: &mut Reader,
    ) -> Option<Duration> {
        let span = self.duration(key, reader)?.to_std();
        let span = span.filter(|span| bounds.contains(span));
        if span.is_none() {
            let (low, high) = (*bounds.start(), *bounds.end());
            reader.problem(self.at(key), Flaw::Span { low, high });
        }
        span
    }

    /// A pause: below zero there is none.
    pub(super) fn pause(&mut self, key: &'static str, reader: &mut Reader) -> Option<Duration> {
        let pause = self.duration(key, reader)?;
        if pause.is_negative() {
            reader.note(self.at(key), Remark::NegativePause);
        }
        Some(pause.to_std().unwrap_or_default())
    }

    /// Notes the keys that nobody asked for.
    pub(super) fn close(self, reader: &mut Reader) {
        for (key, _) in self.entries() {
            if !self.asked.contains(&key) {
                reader.note(self.at(key), Remark::UnknownKey);
            }
        }
    }
}
