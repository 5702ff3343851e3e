//! The environment, read once.
//!
//! The one file of this program that reads the environment: [`Environment::of_process`] takes a snapshot at
//! the start, everything else asks the snapshot. What the reference sets in its own environment for the
//! sake of `--config` files (process-interface 2.2, last line) is laid over the snapshot instead.

use std::collections::HashMap;

/// Name of the variable with the token that API callers must send.
pub(crate) const API_TOKEN: &str = "DAPR_API_TOKEN";
/// Name of the variable with the token that is sent to the app.
pub(crate) const APP_TOKEN: &str = "APP_API_TOKEN";

/// A snapshot of variables.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    vars: HashMap<String, String>,
}

// === impl Environment ===

impl Environment {
    /// The environment of this process; names and values that are no UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        let vars = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { vars }
    }

    /// The value of `name`, an empty one included.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.vars.get(name).map(String::as_str)
    }

    /// The value of `name` unless it is empty.
    pub(crate) fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// True if `name` holds `y yes true t on 1`, in any case, trimmed.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(ironside_chassis::args::is_truthy)
    }

    /// This snapshot with more variables on top.
    #[must_use]
    pub(crate) fn with<const N: usize>(mut self, more: [(&str, String); N]) -> Self {
        self.vars.extend(
            more.into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        self
    }
}

// Values are secrets as often as not.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("len", &self.vars.len())
            .finish()
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(vars: [(&str, &str); N]) -> Self {
        Self::default().with(vars.map(|(name, value)| (name, value.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_but_empty_is_not_unset() {
        let env = Environment::from([("NAMESPACE", "")]);
        assert_eq!(env.get("NAMESPACE"), Some(""));
        assert_eq!(env.non_empty("NAMESPACE"), None);
        assert_eq!(env.get("OTHER"), None);
    }

    #[test]
    fn only_the_listed_words_are_on() {
        for (text, on) in [
            ("y", true),
            (" YES ", true),
            ("True", true),
            ("t", true),
            ("oN", true),
            ("1", true),
        ]
        .into_iter()
        .chain([
            ("", false),
            ("0", false),
            ("no", false),
            ("enabled", false),
            ("2", false),
        ]) {
            assert_eq!(Environment::from([("X", text)]).is_on("X"), on, "{text:?}");
        }
        assert!(!Environment::default().is_on("X"));
    }

    #[test]
    fn debug_prints_no_values() {
        let env = Environment::from([("DAPR_API_TOKEN", "hunter2")]);
        assert!(!format!("{env:?}").contains("hunter2"));
    }
}
