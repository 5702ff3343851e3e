//! What stands where in a file of manifests, without a look at what it means.
//!
//! For tools that name places to people: which documents there are, for whom, and on which line a rule begins. A
//! document that cannot be read has no outline; saying why is the loader's part.

use serde::Deserialize;

use crate::yaml::{self, PolicyLines};

/// One document of a file.
#[derive(Debug)]
pub struct Outline {
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// `scopes`.
    pub scopes: Vec<String>,
    /// Lines of the file before the document.
    start: u64,
    lines: PolicyLines,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    #[serde(deserialize_with = "yaml::null_default")]
    kind: String,
    #[serde(deserialize_with = "yaml::null_default")]
    metadata: Metadata,
    #[serde(deserialize_with = "yaml::list")]
    scopes: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    #[serde(deserialize_with = "yaml::null_default")]
    name: String,
    #[serde(deserialize_with = "yaml::null_default")]
    namespace: String,
}

/// Returns the documents of a file that can be read, in order.
pub fn outlines(text: &str) -> impl Iterator<Item = Outline> {
    yaml::numbered_documents(text).filter_map(|(start, document)| {
        let head = yaml::decode::<Head>(document).ok()??;
        Some(Outline {
            kind: head.kind,
            name: head.metadata.name,
            namespace: head.metadata.namespace,
            scopes: head.scopes,
            start,
            lines: yaml::policy_lines(document),
        })
    })
}

// === impl Outline ===

impl Outline {
    /// Returns `namespace/name`, or the name alone.
    #[must_use]
    pub fn log_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    /// Returns the line of the file on which the entry or rule that a JSON pointer names begins, from 1.
    #[must_use]
    pub fn line_of(&self, pointer: &str) -> Option<u64> {
        Some(self.start + self.lines.line_of(pointer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_by_their_lines() {
        let text = "kind: Component\nmetadata: {name: c}\n---\nkind: AccessControl\nmetadata: {name: a, namespace: n}\nscopes: [x]\nspec:\n  policies:\n  - appId: w\n    operations:\n    - name: /a\n    - name: /b\n---\n[\n---\nkind: Configuration\nspec:\n  accessControl:\n    policies:\n    - appId: v\n";
        let found: Vec<Outline> = outlines(text).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(found[1].log_name(), "n/a");
        assert_eq!(found[1].scopes, ["x"]);
        for (at, pointer, line) in [
            (1, "/spec/policies/0", Some(9)),
            (1, "/spec/policies/0/operations/1", Some(12)),
            (1, "/spec/defaultAction", None),
            (2, "/spec/accessControl/policies/0", Some(20)),
        ] {
            assert_eq!(found[at].line_of(pointer), line, "{pointer}");
        }
    }
}
