//! The metadata of a Component, as a handler reads it.
//!
//! Owns the look-up (names in any letter case) and the reading of numbers. Refuses to own where the values
//! come from: `secretKeyRef` and `envRef` are resolved before.

use std::collections::HashMap;

use super::HandlerError;

/// Metadata of one Component: names in lower case, values as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings(HashMap<String, String>);

// === impl Settings ===

impl Settings {
    /// The value of the first of `names` that is there and not empty.
    pub(super) fn text(&self, names: &[&str]) -> Option<&str> {
        let value = names
            .iter()
            .find_map(|name| self.0.get(&name.to_ascii_lowercase()));
        value.map(String::as_str).filter(|text| !text.is_empty())
    }

    /// A number greater than zero.
    ///
    /// # Errors
    /// [`HandlerError::Invalid`] if the text is no such number.
    pub(super) fn rate(&self, name: &'static str) -> Result<Option<f64>, HandlerError> {
        let Some(text) = self.text(&[name]) else {
            return Ok(None);
        };
        match text.trim().parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Some(rate)),
            Ok(_) | Err(_) => {
                let reason = format!("{text:?} is not a number greater than 0").into();
                Err(HandlerError::Invalid { name, reason })
            }
        }
    }
}

impl<N: AsRef<str>, V: Into<String>> FromIterator<(N, V)> for Settings {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(pairs: T) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(n, v)| (n.as_ref().to_ascii_lowercase(), v.into()))
                .collect(),
        )
    }
}
