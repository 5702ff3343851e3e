//! What one app learns of a change (kubernetes 3.9).
//!
//! Pure. The event is made for each client anew, so that what is new to one app is not new to another (KG-14), and a
//! change that waits can be joined with the next one: only the state that the client knows and the newest one count.

use super::objects::Stored;
use ironside_proto::operator::ResourceEventType as Event;
use std::sync::Arc;

/// An object as a client knows it, and as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) before: Option<Arc<Stored>>,
    pub(crate) after: Option<Arc<Stored>>,
}

// === impl Step ===

impl Step {
    /// Joins a later change to one that was not told yet.
    pub(crate) fn join(&mut self, later: Option<Arc<Stored>>) {
        self.after = later;
    }

    /// What an app for which `concerns` holds is told, and the object that goes with it.
    pub(crate) fn event(
        &self,
        concerns: impl Fn(&Stored) -> bool,
    ) -> Option<(Event, &Arc<Stored>)> {
        let before = self.before.as_ref().filter(|object| concerns(object));
        let after = self.after.as_ref().filter(|object| concerns(object));
        match (before, after) {
            (None, None) => None,
            (None, Some(new)) => Some((Event::Created, new)),
            (Some(old), None) => Some((Event::Deleted, old)),
            (Some(old), Some(new)) if old.uid == new.uid && old.means_the_same(new) => None,
            (Some(_), Some(new)) => Some((Event::Updated, new)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::objects::tests::endpoint;

    fn step(before: Option<Stored>, after: Option<Stored>) -> Step {
        Step {
            before: before.map(Arc::new),
            after: after.map(Arc::new),
        }
    }

    fn told(step: &Step, app: &str) -> Option<(Event, String)> {
        let (event, object) = step.event(|object| object.is_for(app))?;
        Some((event, String::from_utf8_lossy(&object.json).into_owned()))
    }

    /// KG-12, KG-13, KG-14, KG-15.
    #[test]
    fn each_app_is_told_what_changed_for_it() {
        let one = |scopes: &[&str], url: &str| Some(endpoint("e", scopes, url));
        let (created, updated, deleted) = (
            Some(Event::Created),
            Some(Event::Updated),
            Some(Event::Deleted),
        );
        for (before, after, app1, app2) in [
            (None, one(&[], "a"), created, created),
            (one(&[], "a"), one(&[], "b"), updated, updated),
            (one(&[], "a"), None, deleted, deleted),
            (one(&[], "a"), one(&[], "a"), None, None),
            (
                one(&["app2"], "a"),
                one(&["app1", "app2"], "a"),
                created,
                updated,
            ),
            (
                one(&["app1", "app2"], "a"),
                one(&["app2"], "a"),
                deleted,
                updated,
            ),
            (one(&["app2"], "a"), one(&["app2"], "b"), None, updated),
            (one(&["app2"], "a"), None, None, deleted),
            (None, None, None, None),
        ] {
            let step = step(before, after);
            let text = format!("{step:?}");
            let event = |app| told(&step, app).map(|(event, _)| event);
            assert_eq!((event("app1"), event("app2")), (app1, app2), "{text}");
        }
    }

    /// KG-13: what is taken away is told as it was.
    #[test]
    fn a_deleted_object_is_the_one_that_the_app_knew() {
        let step = step(
            Some(endpoint("e", &["app1"], "old")),
            Some(endpoint("e", &["app2"], "new")),
        );
        let (event, json) = told(&step, "app1").unwrap();
        assert_eq!(event, Event::Deleted);
        assert!(json.contains("old"), "{json}");
    }

    #[test]
    fn joined_changes_are_one() {
        let mut created_and_gone = step(None, Some(endpoint("e", &[], "a")));
        created_and_gone.join(None);
        assert!(told(&created_and_gone, "x").is_none());
        let mut back_again = step(Some(endpoint("e", &[], "a")), Some(endpoint("e", &[], "b")));
        back_again.join(Some(Arc::new(endpoint("e", &[], "a"))));
        assert!(told(&back_again, "x").is_none());
    }
}
