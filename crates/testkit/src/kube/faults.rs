//! What goes wrong on demand, and what has been asked.
//!
//! A [`When`] picks requests by their verb and what they are about; a [`Fault`] says what becomes of them. Faults are
//! used up one by one, so that a test can say "the first two updates fail".

use super::exec::Ran;
use super::route::Target;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Picks requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    verb: String,
    resource: String,
    name: Option<String>,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is not done, and answered with this code.
    Status(u16),
    /// It is done, and answered with this code: the writer can't know.
    DoneButStatus(u16),
    /// It is not done, and the connection ends without an answer.
    Close,
    /// It is done later.
    Slow(Duration),
    /// It is done when the hold is released.
    Hold(Hold),
    /// It is not done, and answered with 200 and this text.
    Answer(String),
    /// It is not done, and answered with 200 and this text, after which the connection breaks.
    Cut(String),
    /// It runs a command in a container, which does this.
    Exec(Ran),
    /// It forwards a port of a pod, which leads to this one of loopback.
    Forward(u16),
}

/// Keeps requests waiting until it is released.
#[derive(Clone, Debug)]
pub struct Hold(Arc<Semaphore>);

/// A request as it arrived, in the words of access rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'static str,
    /// Empty for the core group.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// None for all namespaces, and for objects of the cluster.
    pub namespace: Option<String>,
    /// The name in the path, or the one that a field selector asks for.
    pub name: Option<String>,
    /// What stands behind the question mark.
    pub query: String,
    /// The body; null if there is none.
    pub body: Value,
}

/// A fault that waits for its requests.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) when: When,
    pub(super) fault: Fault,
    /// How many requests it is still good for.
    pub(super) left: usize,
}

// === impl When ===

impl When {
    /// Requests of a verb about a resource, such as `("update", "secrets")`.
    #[must_use]
    pub fn new(verb: &str, resource: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            name: None,
        }
    }

    /// Only those about this name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Says whether a request is one of these.
    #[must_use]
    pub fn matches(&self, seen: &Seen) -> bool {
        self.verb == seen.verb
            && self.resource == seen.resource
            && self
                .name
                .as_ref()
                .is_none_or(|name| seen.name.as_ref() == Some(name))
    }
}

// === impl Hold ===

impl Hold {
    /// A hold that keeps everything.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets go of everything, now and later.
    pub fn release(&self) {
        self.0.close();
    }

    pub(super) async fn pass(&self) {
        // An error means that the hold was released; permits are never given.
        let _released = self.0.acquire().await;
    }
}

impl Default for Hold {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Seen ===

impl Seen {
    pub(super) fn new(target: &Target, query: &str, selected: Option<&str>, body: Value) -> Self {
        let name = target.name.as_deref().or(selected);
        Self {
            verb: target.verb,
            group: target.group.clone(),
            resource: match &target.subresource {
                Some(part) => format!("{}/{part}", target.resource),
                None => target.resource.clone(),
            },
            namespace: target.namespace.clone(),
            name: name.map(str::to_owned),
            query: query.to_owned(),
            body,
        }
    }
}
