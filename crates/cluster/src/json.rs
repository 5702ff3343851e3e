//! JSON of clients that prove nothing.
//!
//! Owns that a text is not read where it would take too much memory: a value of few bytes takes hundreds
//! (`{"":0}` a whole node of a tree), so values are counted before any is made.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use std::cell::Cell;
use std::fmt;

/// Reads a text of at most `most` values: numbers, texts, lists, objects and so on, each list and object and each of
/// their elements being one.
///
/// # Errors
/// What is wrong with the text, or that it has more values.
pub fn read_json<T: DeserializeOwned>(text: &[u8], most: usize) -> serde_json::Result<T> {
    let left = Cell::new(most);
    let mut reader = serde_json::Deserializer::from_slice(text);
    // What it finds wrong is wrong, even where the reading would skip it.
    Count { left: &left, most }.deserialize(&mut reader)?;
    serde_json::from_slice(text)
}

/// Takes one value, and those in it.
#[derive(Clone, Copy)]
struct Count<'a> {
    left: &'a Cell<usize>,
    most: usize,
}

impl Count<'_> {
    fn take<E: Error>(self) -> Result<Self, E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(self)
            }
            None => Err(E::custom(format_args!("more than {} values", self.most))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self.take()?)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while object.next_key::<IgnoredAny>()?.is_some() {
            object.next_value_seed(self)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn values_are_counted_wherever_they_are() {
        for (text, values) in [
            ("null", 1),
            ("[]", 1),
            (r#"{"a": 1, "b": [true, -2, 0.5, "x", null]}"#, 8),
            (r#"{"a": {"a": {"a": {}}}}"#, 4),
            (r#"{"a": 1, "a": 2}"#, 3),
            ("[[],[],[]]", 4),
        ] {
            let want: Value = serde_json::from_str(text).unwrap();
            let read = |most| read_json::<Value>(text.as_bytes(), most);
            assert_eq!(read(values).unwrap(), want, "{text}");
            let refused = read(values - 1).unwrap_err().to_string();
            let said = format!("more than {} values", values - 1);
            assert!(refused.starts_with(&said), "{text}: {refused}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (text, said) in [
            ("", "EOF while parsing"),
            ("{", "EOF while parsing"),
            ("1 2", "trailing characters"),
            ("[1,]", "trailing comma"),
            ("{\"a\"}", "expected `:`"),
        ] {
            let cause = read_json::<Value>(text.as_bytes(), 100).unwrap_err();
            assert!(cause.to_string().starts_with(said), "{text}: {cause}");
        }
        let deep = "[".repeat(100_000);
        let cause = read_json::<Value>(deep.as_bytes(), 1_000_000).unwrap_err();
        assert!(cause.to_string().starts_with("recursion limit"), "{cause}");
        let cause = read_json::<u8>(b"\"x\"", 100).unwrap_err();
        assert!(cause.to_string().starts_with("invalid type"), "{cause}");
    }
}
