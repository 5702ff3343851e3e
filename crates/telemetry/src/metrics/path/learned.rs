//! Templates learned from the paths themselves: segments that are numbers or UUIDs are told apart only while there
//! are few of them.
//!
//! The first paths of a template keep their own label, so that a handful of objects is told apart as in the
//! reference; from then on all others are counted under the template. Used where the raw path is a label and nobody
//! wrote patterns. Source: resiliency-observability 3.1, 3.3 (the label is unbounded in the reference).

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::{PoisonError, RwLock};

/// Paths of a template that keep their own label.
const OWN_LABELS: usize = 16;
/// Templates whose first paths are remembered; of further ones none keeps its label.
const MAX_TEMPLATES: usize = 256;
/// What stands for a number.
const NUMBER: &str = "{id}";
/// What stands for a UUID.
const UUID: &str = "{uuid}";

thread_local! {
    /// Holds a template while it is looked up, so that a request allocates nothing for it.
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Templates, and their first paths.
#[derive(Debug, Default)]
pub(super) struct Learned(RwLock<HashMap<Box<str>, HashSet<Box<str>>>>);

// === impl Learned ===

impl Learned {
    /// Gives `use_label` what stands for a path.
    pub(super) fn with<R>(&self, path: &str, use_label: impl FnOnce(&str) -> R) -> R {
        if !path
            .split('/')
            .any(|segment| placeholder(segment).is_some())
        {
            return use_label(path);
        }
        let mut template = SCRATCH.take();
        template.clear();
        for (at, segment) in path.split('/').enumerate() {
            if at > 0 {
                template.push('/');
            }
            template.push_str(placeholder(segment).unwrap_or(segment));
        }
        let label = if self.is_own(&template, path) {
            path
        } else {
            &template
        };
        let result = use_label(label);
        SCRATCH.set(template);
        result
    }

    /// Whether a path keeps its own label.
    fn is_own(&self, template: &str, path: &str) -> bool {
        // A map of texts is valid after any interrupted change.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match known.get(template) {
            Some(paths) if paths.contains(path) => return true,
            Some(paths) if paths.len() >= OWN_LABELS => return false,
            None if known.len() >= MAX_TEMPLATES => return false,
            Some(_) | None => {}
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let paths = known.entry(template.into()).or_default();
        paths.len() < OWN_LABELS && paths.insert(path.into()) || paths.contains(path)
    }
}

/// What stands for a segment that is one of many.
fn placeholder(segment: &str) -> Option<&'static str> {
    let bytes = segment.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return Some(NUMBER);
    }
    let is_hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, &u8)| match is_hyphen(at) {
        true => *byte == b'-',
        false => byte.is_ascii_hexdigit(),
    };
    (bytes.len() == 36 && bytes.iter().enumerate().all(fits)).then_some(UUID)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_uuids_are_one_of_many() {
        let uuid = "6F9619FF-8b86-d011-b42d-00cf4fc964ff";
        for (segment, want) in [
            ("42", Some("{id}")),
            (uuid, Some("{uuid}")),
            ("", None),
            ("v1.0", None),
            ("4a", None),
            ("6f9619ff08b86-d011-b42d-00cf4fc964ff", None),
            ("6f9619ff-8b86-d011-b42d-00cf4fc964fg", None),
        ] {
            assert_eq!(placeholder(segment), want, "{segment}");
        }
    }

    #[test]
    fn the_first_paths_keep_their_label_and_the_others_share_a_template() {
        let learned = Learned::default();
        let label = |path: &str| learned.with(path, str::to_owned);
        for number in 0..OWN_LABELS {
            let path = format!("/v1.0/invoke/b/method/orders/{number}");
            assert_eq!(label(&path), path);
        }
        let template = "/v1.0/invoke/b/method/orders/{id}";
        for number in OWN_LABELS..10_000 {
            let path = format!("/v1.0/invoke/b/method/orders/{number}");
            assert_eq!(label(&path), template);
        }
        assert_eq!(
            label("/v1.0/invoke/b/method/orders/3"),
            "/v1.0/invoke/b/method/orders/3"
        );
        assert_eq!(
            label("/v1.0/invoke/b/method/hi"),
            "/v1.0/invoke/b/method/hi"
        );
        for number in 0..10_000 {
            label(&format!("/p{number}/1"));
        }
        assert!(learned.0.read().unwrap().len() <= MAX_TEMPLATES);
        assert_eq!(label("/unseen/7"), "/unseen/{id}");
    }
}
