//! What a request is about, in the words of the API: verb, resource, namespace, name.
//!
//! Owns the reading of paths and queries. The verbs are those of access rules: `get`, `list`, `watch`, `create`,
//! `update`, `patch`, `delete`.

use super::store::Refusal;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// A request line, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) verb: &'static str,
    /// Empty for the core group.
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
    pub(super) query: BTreeMap<String, String>,
}

// === impl Target ===

impl Target {
    pub(super) fn read(method: &str, path: &str, query: &str) -> Result<Self, Refusal> {
        let missing = || Refusal::new(404, "the server could not find the requested resource");
        let mut parts = path.split('/').filter(|part| !part.is_empty()).map(decode);
        let group = match parts.next().as_deref() {
            Some("api") => String::new(),
            Some("apis") => parts.next().ok_or_else(missing)?,
            _ => return Err(missing()),
        };
        let version = parts.next().ok_or_else(missing)?;
        let mut resource = parts.next().ok_or_else(missing)?;
        let mut name = parts.next();
        let mut namespace = None;
        let mut subresource = parts.next();
        if let ("namespaces", Some(inside), Some(_)) = (resource.as_str(), &name, &subresource) {
            namespace = Some(inside.clone());
            resource = subresource.take().ok_or_else(missing)?;
            name = parts.next();
            subresource = parts.next();
        }
        let query = read_query(query);
        let watches = query
            .get("watch")
            .is_some_and(|value| matches!(value.as_str(), "1" | "true"));
        let verb = match (method, &name) {
            ("GET", None) if watches => "watch",
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", _) => "create",
            ("PUT", Some(_)) => "update",
            ("PATCH", Some(_)) => "patch",
            ("DELETE", Some(_)) => "delete",
            _ => return Err(Refusal::new(405, "the server does not allow this method")),
        };
        Ok(Self {
            verb,
            group,
            version,
            resource,
            namespace,
            name,
            subresource,
            query,
        })
    }

    /// Group, version and resource as they stand in a path.
    pub(super) fn collection(&self) -> String {
        match self.group.as_str() {
            "" => format!("api/{}/{}", self.version, self.resource),
            group => format!("apis/{group}/{}/{}", self.version, self.resource),
        }
    }

    /// What objects of this collection say of their version.
    pub(super) fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    pub(super) fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        matches!(self.query(name), "1" | "true")
    }
}

fn read_query(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(&value.replace('+', " ")))
    });
    pairs.collect()
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}
