//! Definitions of this project's kinds in a cluster, and which version of this project may change one.
//!
//! Pure: an object and what is stored under its name in, what is to be done out. The operator and the command line
//! both bring definitions to their version, and they must agree: one that a later version applied is never brought
//! back to an earlier one, and the one kind that is this project's alone is not taken from another. Who reads and who
//! writes is their business.

use serde_json::{Value, json};

/// Annotation: the version that applied a definition.
pub const APPLIED_BY: &str = "dapr.io/applied-by-version";
/// Label: whose it is.
const PART_OF: &str = "app.kubernetes.io/part-of";
const PROJECT: &str = "ironside";
/// The only kind that is not the reference's too.
const OWN: &str = "accesscontrols.dapr.io";

/// What is to be done with a definition that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is as old as this version, or older.
    Apply,
    /// It is the one kind that no other control plane has, and of another project.
    Foreign,
    /// This version applied it, which is later.
    Later(String),
}

/// Says what a version of this project may do with what is stored under the name of one of its definitions.
#[must_use]
pub fn step(stored: &Value, own: &str) -> Step {
    if is_foreign(stored) {
        return Step::Foreign;
    }
    match text(stored, "annotations", APPLIED_BY) {
        Some(by) if numbers(by) > numbers(own) => Step::Later(by.to_owned()),
        Some(_) | None => Step::Apply,
    }
}

/// Writes on a definition which version applies it.
pub fn stamp(definition: &mut Value, own: &str) {
    let Some(metadata) = definition
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let notes = metadata.entry("annotations").or_insert_with(|| json!({}));
    if let Some(notes) = notes.as_object_mut() {
        notes.insert(APPLIED_BY.to_owned(), own.into());
    }
}

/// Whether a stored definition is that of AccessControl, and of another project.
#[must_use]
pub fn is_foreign(stored: &Value) -> bool {
    let name = stored.pointer("/metadata/name").and_then(Value::as_str);
    name == Some(OWN) && text(stored, "labels", PART_OF) != Some(PROJECT)
}

/// Whether this project is known to have brought a stored definition to its version.
#[must_use]
pub fn is_applied(stored: &Value) -> bool {
    let is_own = text(stored, "labels", PART_OF) == Some(PROJECT);
    is_own || text(stored, "annotations", APPLIED_BY).is_some()
}

fn text<'a>(object: &'a Value, map: &str, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get(map)?.get(key)?.as_str()
}

/// The numbers of a version, to compare by.
fn numbers(version: &str) -> Vec<u64> {
    let parts = version.split(['.', '-', '+']);
    parts.map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(name: &str, part_of: Option<&str>, by: Option<&str>) -> Value {
        let mut object = json!({"metadata": {"name": name, "labels": {}, "annotations": {}}});
        if let Some(part_of) = part_of {
            object["metadata"]["labels"][PART_OF] = part_of.into();
        }
        if let Some(by) = by {
            object["metadata"]["annotations"][APPLIED_BY] = by.into();
        }
        object
    }

    #[test]
    fn only_what_is_not_later_and_not_foreign_is_applied() {
        let shared = "configurations.dapr.io";
        let (ours, theirs) = (Some(PROJECT), Some("somebody"));
        for (object, expected) in [
            (stored(OWN, ours, None), Step::Apply),
            (stored(OWN, theirs, None), Step::Foreign),
            (stored(OWN, None, Some("9.0.0")), Step::Foreign),
            (
                stored(OWN, ours, Some("0.10.0")),
                Step::Later("0.10.0".to_owned()),
            ),
            (stored(shared, theirs, None), Step::Apply),
            (stored(shared, None, Some("0.9.9")), Step::Apply),
            (stored(shared, None, Some("0.9.10")), Step::Apply),
            (
                stored(shared, None, Some("0.9.11")),
                Step::Later("0.9.11".to_owned()),
            ),
            (stored(shared, None, Some("what")), Step::Apply),
            (json!({}), Step::Apply),
        ] {
            assert_eq!(step(&object, "0.9.10"), expected, "{object}");
        }
    }

    #[test]
    fn what_this_project_has_applied_is_known() {
        let shared = "components.dapr.io";
        assert!(is_applied(&stored(OWN, Some(PROJECT), None)));
        assert!(is_applied(&stored(shared, None, Some("0.1.0"))));
        assert!(!is_applied(&stored(shared, Some("dapr"), None)));
        assert!(!is_foreign(&stored(shared, Some("dapr"), None)));
    }

    #[test]
    fn a_stamp_is_the_version() {
        let mut bare = json!({"metadata": {"name": OWN}});
        stamp(&mut bare, "0.2.0");
        assert_eq!(bare["metadata"]["annotations"][APPLIED_BY], "0.2.0");
        let mut noted = stored(OWN, Some(PROJECT), Some("0.1.0"));
        noted["metadata"]["annotations"]["a"] = "b".into();
        stamp(&mut noted, "0.2.0");
        assert_eq!(
            noted["metadata"]["annotations"],
            json!({APPLIED_BY: "0.2.0", "a": "b"})
        );
        stamp(&mut json!("no object"), "0.2.0");
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(numbers("0.10.0") > numbers("0.9.9"));
        assert_eq!(numbers("1.2.3-rc.1"), [1, 2, 3]);
    }
}
