//! Values that a manifest gives outright, by secret or by environment.
//!
//! Owns their spelling and the rule of which variables may be read. The
//! environment is a closure; secret stores are another building block, so a
//! reference to one is an error here. Source: process-interface 6.5.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::yaml;

/// A named value: a property of a component, or a header of an endpoint.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NameValue {
    /// What it is called.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// The value itself: any scalar.
    pub value: Option<Value>,
    /// A key of a secret instead of the value.
    pub secret_key_ref: Option<SecretKeyRef>,
    /// An environment variable instead of the value.
    #[serde(deserialize_with = "yaml::null_default")]
    pub env_ref: String,
}

/// A key of a secret.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    /// The secret.
    #[serde(deserialize_with = "yaml::null_default")]
    pub name: String,
    /// The key inside it; the secret's name when empty.
    #[serde(deserialize_with = "yaml::null_default")]
    pub key: String,
}

/// Which environment variables manifests may read, and how.
pub struct EnvAccess<'a> {
    /// `DAPR_ENV_KEYS`: space-separated names; `None` when unset.
    pub keys: Option<&'a str>,
    /// The environment.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
}

/// Why a value is not available; it is empty then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ValueError {
    /// The variable is none a manifest may read.
    #[error("environment variable {0:?} is not allowed in envRef")]
    EnvRefused(Box<str>),
    /// The value lies in a secret store.
    #[error("secret {0:?} cannot be read: secret stores are not supported")]
    Secret(Box<str>),
}

/// Beginning of the variables that are the sidecar's own.
const OWN_PREFIX: &str = "DAPR_";
/// The token of the app, which manifests must not copy elsewhere.
const APP_TOKEN: &str = "APP_API_TOKEN";

// === impl NameValue ===

impl NameValue {
    /// Returns the value written outright: text as it is, another scalar in JSON's spelling.
    #[must_use]
    pub fn text(&self) -> String {
        self.value.as_ref().map(spell).unwrap_or_default()
    }

    /// Returns the value, read from the environment where it says so.
    ///
    /// # Errors
    /// [`ValueError`] when the source may not or cannot be read.
    pub fn resolve(&self, env: &EnvAccess<'_>) -> Result<String, ValueError> {
        if !self.env_ref.is_empty() {
            return env.read(&self.env_ref);
        }
        match &self.secret_key_ref {
            Some(secret) if !secret.name.is_empty() => {
                Err(ValueError::Secret(secret.name.as_str().into()))
            }
            Some(_) | None => Ok(self.text()),
        }
    }
}

/// Spells a value as Go prints a JSON scalar.
pub(crate) fn spell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

// === impl SecretKeyRef ===

impl SecretKeyRef {
    /// Returns the key inside the secret.
    #[must_use]
    pub fn key(&self) -> &str {
        if self.key.is_empty() {
            &self.name
        } else {
            &self.key
        }
    }
}

// === impl EnvAccess ===

impl EnvAccess<'_> {
    /// Returns whether manifests may read the variable `name`.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        let listed = |keys: &str| keys.split(' ').any(|key| key == name);
        name != APP_TOKEN
            && !name.starts_with(OWN_PREFIX)
            && !name.contains(' ')
            && self.keys.is_none_or(listed)
    }

    fn read(&self, name: &str) -> Result<String, ValueError> {
        if !self.allows(name) {
            return Err(ValueError::EnvRefused(name.into()));
        }
        Ok((self.lookup)(name).unwrap_or_default())
    }
}

impl std::fmt::Debug for EnvAccess<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvAccess")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolve(yaml: &str, keys: Option<&str>) -> Result<String, ValueError> {
        let value: NameValue = yaml::decode(yaml).unwrap().unwrap();
        let lookup = |name: &str| (name == "HOME" || name == "OTHER").then(|| format!("<{name}>"));
        value.resolve(&EnvAccess {
            keys,
            lookup: &lookup,
        })
    }

    #[test]
    fn values_are_any_scalar() {
        let table = [
            ("{value: text}", "text"),
            ("{value: '5'}", "5"),
            ("{value: 5}", "5"),
            ("{value: -1.5}", "-1.5"),
            ("{value: true}", "true"),
            ("{value: yes}", "true"),
            ("{value: null}", ""),
            ("{value:}", ""),
            ("{name: x}", ""),
            ("{value: [1, a]}", "[1,\"a\"]"),
            ("{value: v, secretKeyRef: {name: ''}}", "v"),
            ("{value: v, secretKeyRef:, envRef:}", "v"),
        ];
        for (yaml, want) in table {
            assert_eq!(resolve(yaml, None).unwrap(), want, "{yaml}");
        }
        assert_eq!(spell(&json!({"a": 1})), "{\"a\":1}");
    }

    #[test]
    fn only_permitted_variables_are_read() {
        let refused = |name: &str| Err(ValueError::EnvRefused(name.into()));
        let table = [
            ("{value: v, envRef: HOME}", None, Ok("<HOME>".into())),
            ("{envRef: UNSET}", None, Ok(String::new())),
            ("{envRef: APP_API_TOKEN}", None, refused("APP_API_TOKEN")),
            ("{envRef: DAPR_API_TOKEN}", None, refused("DAPR_API_TOKEN")),
            ("{envRef: 'A B'}", None, refused("A B")),
            ("{envRef: HOME}", Some("OTHER HOME"), Ok("<HOME>".into())),
            ("{envRef: HOME}", Some("OTHER"), refused("HOME")),
            ("{envRef: HOME}", Some(""), refused("HOME")),
            ("{envRef: DAPR_X}", Some("DAPR_X"), refused("DAPR_X")),
        ];
        for (yaml, keys, want) in table {
            assert_eq!(resolve(yaml, keys), want, "{yaml} {keys:?}");
        }
    }

    #[test]
    fn secrets_are_named_and_not_read() {
        let yaml = "{secretKeyRef: {name: tls}}";
        assert_eq!(resolve(yaml, None), Err(ValueError::Secret("tls".into())));
        let by_name = SecretKeyRef {
            name: "tls".into(),
            key: String::new(),
        };
        assert_eq!(by_name.key(), "tls");
        let by_key = SecretKeyRef {
            name: "tls".into(),
            key: "crt".into(),
        };
        assert_eq!(by_key.key(), "crt");
    }
}
