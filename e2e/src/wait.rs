//! Waiting for a condition, with a deadline; and measuring how long something took.

#![expect(clippy::disallowed_types, reason = "the stopwatch of the tests")]

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

/// A minute: it only bounds a hang, so it is far above what a healthy program takes on a cold, busy machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Polls until `look` brings a value.
///
/// # Errors
/// Names `what` when the deadline passes.
pub async fn until<T, F>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if watch.elapsed() > limit {
            anyhow::bail!("{what} did not come true within {limit:?}");
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Bounds a future.
///
/// # Errors
/// Names `what` when the deadline passes.
pub async fn within<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> anyhow::Result<T> {
    let late = |_| anyhow::anyhow!("{what} took longer than {limit:?}");
    tokio::time::timeout(limit, work).await.map_err(late)
}

/// Measures real time.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
