//! Values that must not be printed and must not be compared by time.
//!
//! [`Secret`] owns two promises: its `Debug` shows nothing, and its equality
//! takes the same time wherever the first difference lies. It refuses
//! `Display` and serialisation; whoever needs the value says so with
//! [`Secret::expose`].

use std::fmt;

use subtle::ConstantTimeEq as _;

/// A value whose `Debug` is `<redacted>` and whose equality is constant-time.
#[derive(Clone, Default)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the value; the caller takes over the duty not to print it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: AsRef<[u8]>> Secret<T> {
    /// Compares with what a caller presented; time depends on the lengths only.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_ref().ct_eq(presented).into()
    }
}

impl<T: AsRef<[u8]>> PartialEq for Secret<T> {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_ref())
    }
}

impl<T: AsRef<[u8]>> Eq for Secret<T> {}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "<redacted>");
        assert_eq!(format!("{:?}", Some(Secret::new(7))), "Some(<redacted>)");
    }

    #[test]
    fn equality_is_that_of_the_bytes() {
        let token = Secret::new(String::from("abc"));
        assert!(token.matches(b"abc"));
        assert!(!token.matches(b"abd"));
        assert!(!token.matches(b"ab"));
        assert!(!token.matches(b""));
        assert_eq!(token, Secret::from(String::from("abc")));
    }
}
