//! What is known of the cluster: facts in, views and changes out.
//!
//! Pure: no client, no clock, no tasks. [`mirror`] keeps one kind, whatever is kept of its objects; [`objects`],
//! [`pods`] and [`workloads`] say what that is; [`scope`] says what one app learns of a change, [`services`] what
//! becomes of the Service of an app. Of access control, [`access`] keeps the objects, [`sidecars`] who runs them, and
//! [`analysis`] and [`status`] say what is told of them.

pub(crate) mod access;
pub(crate) mod analysis;
pub(crate) mod mirror;
pub(crate) mod objects;
pub(crate) mod pods;
pub(crate) mod scope;
pub(crate) mod secret_refs;
pub(crate) mod services;
pub(crate) mod sidecars;
pub(crate) mod status;
pub(crate) mod workloads;

use serde_json::Value;

/// Reads a text below a pointer; none if it is absent or empty.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.filter(|text| !text.is_empty())
}

/// Whether an annotation says yes (kubernetes 0, "truthy").
pub(crate) fn is_truthy(text: &str) -> bool {
    ironside_chassis::args::is_truthy(text)
}
