//! The public key set: what others verify tokens by.
//!
//! Owns the file `jwks.json`: it holds public keys and nothing else, ours among them. Keys that are not ours stay as
//! they were written, so that tokens of an older key are believed until they end.

use super::algorithm::Algorithm;
use super::key::Public;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A key set that may be shown to everyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySet {
    keys: Vec<Map<String, Value>>,
}

/// Why a text is no such set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("not a JSON object with a list \"keys\": {0}")]
    Json(#[from] serde_json::Error),
    #[error("key number {number} holds the private member {member:?}, and the set is public")]
    Private { number: usize, member: &'static str },
    #[error("the signing key is not in the set; add it, or move the set away to have one written")]
    Stranger,
    #[error("the set has the signing key under the ID {found:?}, and {wanted:?} is asked for")]
    KeyId { found: String, wanted: String },
    #[error("the set has the signing key without a \"kid\"")]
    NoKeyId,
    #[error("the set has the signing key for {found}, and {wanted} is asked for")]
    Algorithm { found: String, wanted: Algorithm },
}

#[derive(Serialize, Deserialize)]
struct Written {
    keys: Vec<Map<String, Value>>,
}

/// Members that only a private key has (RFC 7518, 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

// === impl KeySet ===

impl KeySet {
    /// Reads a set.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self, KeySetError> {
        let Written { keys } = serde_json::from_slice(text)?;
        for (at, key) in keys.iter().enumerate() {
            if let Some(member) = PRIVATE.into_iter().find(|member| key.contains_key(*member)) {
                let number = at + 1;
                return Err(KeySetError::Private { number, member });
            }
        }
        Ok(Self { keys })
    }

    /// Makes the set of one key.
    pub(crate) fn of(public: &Public, key_id: &str, algorithm: Algorithm) -> Self {
        let mut key = match serde_json::to_value(public) {
            Ok(Value::Object(key)) => key,
            Ok(_) | Err(_) => Map::new(),
        };
        for (member, value) in [("use", "sig"), ("alg", algorithm.as_str()), ("kid", key_id)] {
            key.insert(member.to_owned(), value.into());
        }
        Self { keys: vec![key] }
    }

    /// Returns the ID under which the set has our key.
    ///
    /// # Errors
    /// [`KeySetError`] if the set does not have it, or has it for something else.
    pub(crate) fn key_id(
        &self,
        public: &Public,
        wanted: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<String, KeySetError> {
        let mut ours = self.keys.iter().filter(|key| is(key, public)).peekable();
        let first = ours.peek().copied().ok_or(KeySetError::Stranger)?;
        let entry = match wanted {
            Some(wanted) => ours.find(|key| text(key, "kid") == Some(wanted)),
            None => None,
        };
        let entry = entry.unwrap_or(first);
        let found = text(entry, "kid").ok_or(KeySetError::NoKeyId)?.to_owned();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let wanted = wanted.to_owned();
            return Err(KeySetError::KeyId { found, wanted });
        }
        match text(entry, "alg") {
            Some(named) if named != algorithm.as_str() => Err(KeySetError::Algorithm {
                found: named.to_owned(),
                wanted: algorithm,
            }),
            Some(_) | None => Ok(found),
        }
    }

    /// Returns the algorithms that the keys name, each once.
    pub(crate) fn algorithms(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for named in self.keys.iter().filter_map(|key| text(key, "alg")) {
            if !all.contains(&named) {
                all.push(named);
            }
        }
        all
    }

    /// Writes the set.
    pub(crate) fn to_json(&self) -> String {
        let written = Written {
            keys: self.keys.clone(),
        };
        // Maps of JSON values are always JSON.
        serde_json::to_string_pretty(&written).unwrap_or_default()
    }
}

fn is(key: &Map<String, Value>, public: &Public) -> bool {
    serde_json::from_value::<Public>(Value::Object(key.clone())).is_ok_and(|found| found == *public)
}

fn text<'a>(key: &'a Map<String, Value>, member: &str) -> Option<&'a str> {
    key.get(member).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RS256: Algorithm = Algorithm::Rs256;

    fn public(n: &str) -> Public {
        Public::Rsa {
            e: "AQAB".into(),
            n: n.into(),
        }
    }

    fn set(text: &str) -> KeySet {
        KeySet::from_json(text.as_bytes()).unwrap()
    }

    /// Fact: security.md 1.8.
    #[test]
    fn a_set_of_one_key_is_found_again() {
        let made = KeySet::of(&public("abc"), "k1", RS256);
        let read = set(&made.to_json());
        assert_eq!(read, made);
        let value: Value = serde_json::from_str(&made.to_json()).unwrap();
        let expected = serde_json::json!({"keys": [
            {"kty": "RSA", "n": "abc", "e": "AQAB", "use": "sig", "alg": "RS256", "kid": "k1"},
        ]});
        assert_eq!(value, expected);
        assert_eq!(read.key_id(&public("abc"), None, RS256).unwrap(), "k1");
        assert_eq!(read.algorithms(), ["RS256"]);
    }

    #[test]
    fn our_key_is_found_among_others_by_its_content() {
        let set = set(r#"{"keys":[
            {"kty":"RSA","n":"old","e":"AQAB","kid":"1","alg":"RS256","x5t":"kept"},
            {"kty":"RSA","n":"new","e":"AQAB","kid":"2"},
            {"kty":"RSA","n":"new","e":"AQAB","kid":"3"},
            {"kty":"unheard of"}]}"#);
        let id = |n, wanted| set.key_id(&public(n), wanted, RS256);
        assert_eq!(id("new", None).unwrap(), "2");
        assert_eq!(id("new", Some("3")).unwrap(), "3");
        assert!(matches!(
            id("new", Some("4")),
            Err(KeySetError::KeyId { .. })
        ));
        assert!(matches!(id("other", None), Err(KeySetError::Stranger)));
        let wrong = set.key_id(&public("old"), None, Algorithm::Ps256);
        assert!(matches!(wrong, Err(KeySetError::Algorithm { .. })));
        assert!(set.to_json().contains("x5t"), "what others wrote is kept");
    }

    #[test]
    fn what_is_no_public_set_is_refused() {
        for bad in ["", "[]", "{}", r#"{"keys":[1]}"#, r#"{"keys":{}}"#] {
            let read = KeySet::from_json(bad.as_bytes());
            assert!(matches!(read, Err(KeySetError::Json(_))), "{bad}");
        }
        let private = br#"{"keys":[{"kty":"RSA"},{"kty":"RSA","n":"a","e":"b","d":"secret"}]}"#;
        let error = KeySet::from_json(private).unwrap_err().to_string();
        assert!(
            error.contains("key number 2") && !error.contains("secret"),
            "{error}"
        );
    }
}
