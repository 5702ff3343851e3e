//! An executor that lives inside one future.
//!
//! hyper wants somewhere to put the task of a connection. Here that is the future of the call itself: whoever drops
//! the call drops the connection with it, and nothing is left running that nobody owns.

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::rt::Executor;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes tasks; they run while [`Inline::drive`] is polled.
#[derive(Clone, Default)]
pub(crate) struct Inline {
    arrived: Arc<Mutex<Vec<Task>>>,
}

// === impl Inline ===

impl Inline {
    /// Polls `main`, and the tasks with it, until `main` is done; then the tasks are dropped.
    pub(crate) async fn drive<T>(&self, main: impl Future<Output = T>) -> T {
        let mut main = pin!(main);
        let mut tasks = FuturesUnordered::new();
        poll_fn(|cx| {
            if let Poll::Ready(output) = main.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            // A task may bring another one, which must be polled once before we sleep.
            loop {
                tasks.extend(self.take_arrived());
                match tasks.poll_next_unpin(cx) {
                    Poll::Ready(Some(())) => {}
                    Poll::Ready(None) | Poll::Pending if self.is_empty() => return Poll::Pending,
                    Poll::Ready(None) | Poll::Pending => {}
                }
            }
        })
        .await
    }

    fn take_arrived(&self) -> Vec<Task> {
        mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_empty(&self) -> bool {
        self.arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }
}

impl<F> Executor<F> for Inline
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.arrived
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::pin(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn tasks_of_tasks_run_and_end_with_the_call() {
        let inline = Inline::default();
        let (done, result) = oneshot::channel();
        let (held, dropped) = oneshot::channel::<()>();
        let inner = inline.clone();
        inline.execute(async move {
            inner.execute(async move { done.send(7).unwrap() });
        });
        inline.execute(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
        assert_eq!(inline.drive(result).await, Ok(7));
        assert!(dropped.await.is_err(), "the task that never ends is gone");
    }
}
