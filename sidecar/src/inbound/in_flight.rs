//! Calls under way finish, and streams obey a policy that came after them (KL-01, K198).
//!
//! Owns the register of a worker's invocations and proxied calls: after every published state each is judged
//! again. One that is no longer allowed has [`GRACE`] to finish as it began; if it is still open then, and still
//! not allowed, it ends with PermissionDenied, before its answer or in the middle of it. The others are not woken.
//! A call that nobody revokes pays for its entry and, per frame, for one atomic read; time is kept by one timer a
//! worker. Unary calls between sidecars finish as they began (security 4.8).

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use ironside_chassis::clock::{Clock, Tick};
use ironside_identity::VerifiedPeer;
use ironside_policy::{Form, Operation, Verb, VerbSet};
use tokio::sync::watch;
use tonic::Status;

use super::authorise::{caller, is_allowed, recheck};
use crate::{
    body::{Body, BodyError},
    decisions::{
        Asked, Recorder,
        record::{Protocol, TraceNumber},
    },
    live::Live,
    worker::Worker,
};

#[cfg(test)]
pub(crate) mod tests;

/// What a call under way has to finish once rules came that deny it: plain calls end as they began (KL-01). A stream
/// that does not end has the rest of the message under way beside it, and the rules have to arrive: together they
/// stay within the five seconds of fact K198 where distribution takes no more than two, which nothing here can hold.
const GRACE: Duration = Duration::from_secs(2);

/// Calls that are judged before the thread serves others again.
const BATCH: usize = 256;

/// The calls of one worker that policy may end.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    open: BTreeMap<u64, Arc<Call>>,
}

/// A call as policy sees it, and whether it was revoked.
#[derive(Debug)]
pub(crate) struct Call {
    peer: Option<Arc<VerifiedPeer>>,
    method: Box<str>,
    verb: Verb,
    form: Form,
    overrides: VerbSet,
    protocol: Protocol,
    trace: Option<TraceNumber>,
    /// What a pipeline made of the method, last.
    rewritten: Mutex<Option<(Box<str>, Verb)>>,
    /// Since when the rules deny it, without a break.
    denied: Mutex<Option<Tick>>,
    revoked: OnceLock<Status>,
    waker: AtomicWaker,
}

/// A place in the register, given back when dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    register: Arc<InFlight>,
    key: u64,
    call: Arc<Call>,
    /// Who is woken; a stream is polled by one task for most of its life.
    woken: Option<Waker>,
}

/// An answer that ends early when its call is revoked.
struct Answer {
    inner: Option<Body>,
    entry: Entry,
}

/// A request that brings the app nothing more once its call is revoked.
struct Upload {
    inner: Body,
    call: Arc<Call>,
}

/// Judges the calls of a register whenever a new state is published, and once more when the time is over of those
/// that it denies.
pub(crate) async fn follow(
    register: Arc<InFlight>,
    decisions: Arc<Recorder>,
    mut live: watch::Receiver<Arc<Live>>,
    clock: Clock,
) {
    let mut due: Option<Tick> = None;
    loop {
        let over = async {
            match due {
                Some(due) => tokio::time::sleep(due.since(clock.monotonic())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = live.changed() => if changed.is_err() {
                return;
            },
            () = over => {}
        }
        let newest = Arc::clone(&live.borrow_and_update());
        due = register.judge(&decisions, &newest, clock.monotonic()).await;
    }
}

/// Registers a call that `live` allowed; a state that was published meanwhile has its say at once.
///
/// # Errors
/// As [`authorise`].
pub(crate) fn enter(
    worker: &Worker,
    live: &Live,
    peer: Option<&Arc<VerifiedPeer>>,
    asked: &Asked<'_>,
) -> Result<Entry, Status> {
    let newest = worker.shared.live();
    if !std::ptr::eq(live, Arc::as_ptr(&newest)) {
        recheck(&worker.decisions, &newest, asked)?;
    }
    Ok(worker.in_flight.enter(peer, asked))
}

// === impl InFlight ===

impl InFlight {
    fn enter(self: &Arc<Self>, peer: Option<&Arc<VerifiedPeer>>, asked: &Asked<'_>) -> Entry {
        let Operation {
            method,
            verb,
            form,
            overrides,
        } = asked.operation;
        let call = Arc::new(Call {
            peer: peer.cloned(),
            method: method.into(),
            verb,
            form,
            overrides,
            protocol: asked.protocol,
            trace: asked.trace,
            rewritten: Mutex::default(),
            denied: Mutex::default(),
            revoked: OnceLock::new(),
            waker: AtomicWaker::new(),
        });
        let mut calls = self.calls();
        let key = calls.next;
        calls.next += 1;
        calls.open.insert(key, Arc::clone(&call));
        drop(calls);
        Entry {
            register: Arc::clone(self),
            key,
            call,
            woken: None,
        }
    }

    /// Revokes every call that has not been allowed for as long as [`GRACE`]; the refusals are noted. Returns when the
    /// first of the other calls that `live` denies has had its time.
    async fn judge(&self, recorder: &Recorder, live: &Live, now: Tick) -> Option<Tick> {
        let mut from = 0;
        let mut due: Option<Tick> = None;
        loop {
            let batch: Vec<(u64, Arc<Call>)> = {
                let calls = self.calls();
                let rest = calls.open.range(from..);
                rest.take(BATCH)
                    .map(|(key, call)| (*key, Arc::clone(call)))
                    .collect()
            };
            let Some((last, _)) = batch.last() else {
                return due;
            };
            from = last + 1;
            for (_, call) in &batch {
                let waits = call.judge(recorder, live, now);
                due = due.into_iter().chain(waits).min();
            }
            tokio::task::yield_now().await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // Every state of the register is whole.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Call ===

impl Call {
    /// Remembers that the app gets this path instead.
    pub(super) fn rewritten(&self, method: &str, verb: Verb) {
        *lock(&self.rewritten) = Some((method.into(), verb));
    }

    /// Returns when its time is over, if it is denied and still has some.
    fn judge(&self, recorder: &Recorder, live: &Live, now: Tick) -> Option<Tick> {
        if self.revoked.get().is_some() {
            return None;
        }
        let rewritten = lock(&self.rewritten).clone();
        let rewritten = rewritten
            .as_ref()
            .map(|(method, verb)| self.asked(method, *verb));
        let original = self.asked(&self.method, self.verb);
        let mut both = [Some(original), rewritten].into_iter().flatten();
        let mut denied = lock(&self.denied);
        let Some(asked) = both.find(|asked| !is_allowed(live, asked)) else {
            *denied = None;
            return None;
        };
        let due = *denied.get_or_insert(now) + GRACE;
        if now < due {
            return Some(due);
        }
        if let Err(status) = recheck(recorder, live, &asked) {
            // Only this task sets it, and it was not set above.
            let _first = self.revoked.set(status);
            self.waker.wake();
        }
        None
    }

    fn asked<'a>(&'a self, method: &'a str, verb: Verb) -> Asked<'a> {
        Asked {
            caller: caller(self.peer.as_deref()),
            operation: Operation {
                method,
                verb,
                form: self.form,
                overrides: self.overrides,
            },
            raw: method,
            protocol: self.protocol,
            trace: self.trace,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Entry ===

impl Entry {
    /// The call, for a pipeline that gives it another path.
    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    /// Does `work` unless the call is revoked meanwhile. It is pinned by its owner: it is large.
    ///
    /// # Errors
    /// Those of `work`, and the refusal.
    pub(crate) async fn during<T>(
        &mut self,
        mut work: Pin<&mut impl Future<Output = Result<T, Status>>>,
    ) -> Result<T, Status> {
        std::future::poll_fn(|cx| match self.revoked(cx) {
            Some(status) => Poll::Ready(Err(status.clone())),
            None => work.as_mut().poll(cx),
        })
        .await
    }

    /// Why the call must end now; otherwise the task is woken when it must.
    pub(crate) fn revoked(&mut self, cx: &Context<'_>) -> Option<&Status> {
        let is_known = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.woken.as_ref().is_some_and(is_known) {
            self.call.waker.register(cx.waker());
            self.woken = Some(cx.waker().clone());
        }
        self.call.revoked.get()
    }

    /// An invocation's request body.
    pub(crate) fn upload(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        let call = Arc::clone(&self.call);
        Upload { inner, call }.boxed_unsync()
    }

    /// An invocation's answer.
    pub(crate) fn answer(self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Answer {
            inner: Some(inner),
            entry: self,
        }
        .boxed_unsync()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.register.calls().open.remove(&self.key);
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { inner, entry } = &mut *self;
        let Some(body) = inner else {
            return Poll::Ready(None);
        };
        if let Some(status) = entry.revoked(cx) {
            let denied = BodyError::Denied(Box::new(status.clone()));
            *inner = None;
            return Poll::Ready(Some(Err(denied)));
        }
        Pin::new(body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.inner.as_ref().map(HttpBody::size_hint);
        hint.unwrap_or_default()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The answer wakes whoever waits; here it is enough that nothing more gets through.
        if let Some(status) = self.call.revoked.get() {
            let denied = BodyError::Denied(Box::new(status.clone()));
            return Poll::Ready(Some(Err(denied)));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
