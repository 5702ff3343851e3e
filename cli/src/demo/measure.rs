//! What the demo measures: how long calls take, and what a restart of the callee does to them.

use std::time::Duration;

use hdrhistogram::Histogram;
use ironside_chassis::clock::Clock;
use ironside_chassis::tasks::Tasks;

use super::calls::{GrpcClient, HttpClient};

/// How long one kind of call is measured.
const SPAN: Duration = Duration::from_millis(900);
/// The longest time that is told apart, in microseconds: a minute.
const LONGEST: u64 = 60_000_000;
/// The calls before a measurement that do not count.
const WARM_UP: usize = 50;
/// Callers at once while the callee restarts.
const CALLERS: usize = 4;
/// The pause of a caller between calls.
const PAUSE: Duration = Duration::from_millis(4);

/// How long calls took.
pub(super) struct Latencies(Histogram<u64>);

/// What happened to the calls while the callee restarted.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Calls made.
    pub calls: usize,
    /// Calls that failed.
    pub failed: usize,
    /// The longest one.
    pub longest: Duration,
    /// What the first failure said.
    pub first_failure: Option<String>,
}

// === impl Latencies ===

impl Latencies {
    /// Calls again and again for the span.
    pub(super) async fn of(
        clock: &Clock,
        mut call: impl AsyncFnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        for _ in 0..WARM_UP {
            call().await?;
        }
        let mut histogram = Histogram::new_with_max(LONGEST, 3)?;
        let begin = clock.monotonic();
        loop {
            let before = clock.monotonic();
            call().await?;
            let after = clock.monotonic();
            histogram.saturating_record(micros(after.since(before)));
            if after.since(begin) > SPAN {
                return Ok(Self(histogram));
            }
        }
    }

    /// The time within which that share of the calls were done, of 100.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        Duration::from_micros(self.0.value_at_percentile(share))
    }

    /// How many calls were made.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// Times HTTP calls.
pub(super) async fn http(clock: &Clock, mut client: HttpClient) -> anyhow::Result<Latencies> {
    Latencies::of(clock, async || client.order().await.map(drop)).await
}

/// Times gRPC calls.
pub(super) async fn grpc(clock: &Clock, mut client: GrpcClient) -> anyhow::Result<Latencies> {
    Latencies::of(clock, async || client.hello("Ada").await.map(drop)).await
}

/// Calls an app through a sidecar from several sides at once, for as long as `meanwhile` takes.
pub(super) async fn during<T>(
    clock: &Clock,
    tasks: &Tasks,
    to: (u16, &str),
    meanwhile: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Outcome> {
    let stop = std::cell::Cell::new(false);
    let callers = (0..CALLERS).map(|_| caller(clock, tasks, to, &stop));
    let callers = futures_util::future::join_all(callers);
    let work = async {
        let done = meanwhile.await;
        stop.set(true);
        done
    };
    let (outcomes, done) = futures_util::future::join(callers, work).await;
    done?;
    Ok(outcomes.into_iter().fold(Outcome::default(), Outcome::and))
}

async fn caller(
    clock: &Clock,
    tasks: &Tasks,
    to: (u16, &str),
    stop: &std::cell::Cell<bool>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut client = None;
    while !stop.get() {
        let before = clock.monotonic();
        let result = call(&mut client, to, tasks).await;
        outcome.calls += 1;
        outcome.longest = outcome.longest.max(clock.monotonic().since(before));
        if let Err(error) = result {
            client = None;
            outcome.failed += 1;
            outcome.first_failure.get_or_insert(format!("{error:#}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
    outcome
}

async fn call(
    client: &mut Option<HttpClient>,
    (port, app_id): (u16, &str),
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(HttpClient::through(port, app_id, tasks).await?),
    };
    client.order().await.map(drop)
}

// === impl Outcome ===

impl Outcome {
    fn and(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failed: self.failed + other.failed,
            longest: self.longest.max(other.longest),
            first_failure: self.first_failure.or(other.first_failure),
        }
    }
}
