//! Every task has a name, an owner and an end.
//!
//! [`Tasks`] spawns on the current runtime (also on a single-threaded one),
//! counts what runs by name, and hands out the token that ends it. A panic in
//! one task cancels the whole tree and is kept as a [`Panic`], because a
//! process without its renewal task is worse than a restart. Refused: deciding
//! what happens after the panic; the program asks [`Tasks::panic`] and exits.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The owner of a set of tasks. Clones are the same owner.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

/// The tasks of one name: spawning from it takes no lock.
#[derive(Clone, Debug)]
pub struct Group {
    owner: Tasks,
    count: Arc<Count>,
}

/// The first panic of a tree of tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// Name of the task that panicked.
    pub task: &'static str,
    /// What it said.
    pub message: Box<str>,
}

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    tracker: TaskTracker,
    groups: Mutex<Vec<Arc<Count>>>,
    children: Mutex<Vec<Weak<Self>>>,
    failure: Arc<Failure>,
}

/// Shared by a whole tree, so that a panic in a leaf ends the root.
#[derive(Debug)]
struct Failure {
    first: OnceLock<Panic>,
    root: CancellationToken,
}

#[derive(Debug)]
struct Count {
    name: &'static str,
    running: AtomicUsize,
}

/// Counts a task for as long as it lives, however it ends.
struct Running {
    count: Arc<Count>,
    _tracked: TaskTrackerToken,
    // Keeps a scope reachable from its parent while it has tasks, whoever dropped the handle.
    _owner: Arc<Inner>,
}

// === impl Tasks ===

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// Returns the owner of a new, empty tree.
    #[must_use]
    pub fn new() -> Self {
        let root = CancellationToken::new();
        let failure = Arc::new(Failure {
            first: OnceLock::new(),
            root: root.clone(),
        });
        Self(Inner::new(root, failure))
    }

    /// Returns an owner below this one: it ends with this one, or earlier by its own
    /// [`Tasks::shutdown`]; a panic in it ends the whole tree.
    #[must_use]
    pub fn scope(&self) -> Self {
        let child = Inner::new(self.0.token.child_token(), self.0.failure.clone());
        let mut children = lock(&self.0.children);
        children.retain(|known| known.strong_count() > 0);
        children.push(Arc::downgrade(&child));
        Self(child)
    }

    /// Runs `future` as a task called `name` on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.group(name).spawn(future);
    }

    /// Runs `future` as a task called `name` on the runtime of `handle`.
    pub fn spawn_on<F>(&self, name: &'static str, handle: &Handle, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.group(name).spawn_on(handle, future);
    }

    /// Returns the group called `name`, for places that spawn often.
    #[must_use]
    pub fn group(&self, name: &'static str) -> Group {
        let mut groups = lock(&self.0.groups);
        let known = groups.iter().find(|count| count.name == name);
        let count = known.cloned().unwrap_or_else(|| {
            let count = Arc::new(Count {
                name,
                running: AtomicUsize::new(0),
            });
            groups.push(count.clone());
            count
        });
        Group {
            owner: self.clone(),
            count,
        }
    }

    /// Returns a token that is cancelled when this owner is; cancelling it ends nobody else.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.token.child_token()
    }

    /// Asks all tasks of this owner and below to end, without waiting.
    pub fn cancel(&self) {
        self.0.token.cancel();
    }

    /// Returns the first panic of the tree.
    #[must_use]
    pub fn panic(&self) -> Option<&Panic> {
        self.0.failure.first.get()
    }

    /// Returns the names of the tasks of this owner and below that still run, sorted.
    #[must_use]
    pub fn running(&self) -> Vec<&'static str> {
        let mut names = Vec::new();
        self.0.collect_running(&mut names);
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Cancels, then waits at most `deadline`; returns the names of the tasks that did not end.
    pub async fn shutdown(&self, deadline: Duration) -> Vec<&'static str> {
        self.cancel();
        self.wait(deadline).await
    }

    /// Waits at most `deadline` for all tasks to end by themselves; returns the names of
    /// those that did not.
    pub async fn wait(&self, deadline: Duration) -> Vec<&'static str> {
        let ended = tokio::time::timeout(deadline, self.0.clone().ended()).await;
        match ended {
            Ok(()) => Vec::new(),
            Err(_elapsed) => self.running(),
        }
    }
}

// === impl Group ===

impl Group {
    /// Runs `future` as a task of this group on the current runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_on(&Handle::current(), future);
    }

    /// Runs `future` as a task of this group on the runtime of `handle`.
    pub fn spawn_on<F>(&self, handle: &Handle, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Made here, not inside the task: a task that never gets to run is counted too.
        let running = Running::new(self.count.clone(), self.owner.0.clone());
        let failure = self.owner.0.failure.clone();
        drop(handle.spawn(async move {
            if let Err(message) = contained(future).await {
                failure.report(running.count.name, message);
            }
            drop(running);
        }));
    }

    /// Returns how many tasks of this group run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.running.load(Ordering::Acquire)
    }

    /// Returns whether no task of this group runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the owner of this group.
    #[must_use]
    pub const fn owner(&self) -> &Tasks {
        &self.owner
    }
}

impl<F> hyper::rt::Executor<F> for Group
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

// === impl Inner ===

impl Inner {
    fn new(token: CancellationToken, failure: Arc<Failure>) -> Arc<Self> {
        let tracker = TaskTracker::new();
        // A closed tracker still takes tasks; closing lets `wait` return once it is empty.
        tracker.close();
        Arc::new(Self {
            token,
            tracker,
            groups: Mutex::default(),
            children: Mutex::default(),
            failure,
        })
    }

    fn live_children(&self) -> Vec<Arc<Self>> {
        lock(&self.children)
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }

    fn collect_running(&self, names: &mut Vec<&'static str>) {
        let groups = lock(&self.groups);
        let busy = |count: &&Arc<Count>| count.running.load(Ordering::Acquire) > 0;
        names.extend(groups.iter().filter(busy).map(|count| count.name));
        drop(groups);
        for child in self.live_children() {
            child.collect_running(names);
        }
    }

    async fn ended(self: Arc<Self>) {
        let mut open = vec![self];
        while let Some(owner) = open.pop() {
            owner.tracker.wait().await;
            // Read after the wait: a task may have opened a scope before it ended.
            open.extend(owner.live_children());
        }
    }
}

// === impl Failure ===

impl Failure {
    fn report(&self, task: &'static str, message: Box<str>) {
        tracing::error!(target: "dapr.runtime", task, "task panicked: {message}");
        // Only the first counts: later ones follow from the cancellation.
        let _first = self.first.set(Panic { task, message });
        self.root.cancel();
    }
}

// === impl Running ===

impl Running {
    fn new(count: Arc<Count>, owner: Arc<Inner>) -> Self {
        count.running.fetch_add(1, Ordering::AcqRel);
        Self {
            count,
            _tracked: owner.tracker.token(),
            _owner: owner,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.count.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Drives `future` and turns a panic of it into its message.
async fn contained<F: Future<Output = ()>>(future: F) -> Result<(), Box<str>> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        // Unwind safety: after a panic the future is dropped and never polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(payload) => Poll::Ready(Err(said(payload.as_ref()))),
        }
    })
    .await
}

fn said(payload: &(dyn Any + Send)) -> Box<str> {
    let text = payload.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is no text").into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded lists are valid after any interrupted change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
