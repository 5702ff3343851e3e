//! The order of an end (process-interface 2.6 to 2.8).
//!
//! Owns signals, requests over the API, block-shutdown, drain and grace, and the exit code. The grace period
//! bounds everything, gRPC streams included (H15; a difference to the reference that its documentation
//! promises). Refuses to know what is drained: connections follow `drain`, threads follow `stop`.

use std::{process::ExitCode, thread::JoinHandle, time::Duration};

use ironside_chassis::{
    Tasks,
    args::GoDuration,
    fatal,
    signals::{Signal, Signals},
};
use tracing::info;

use super::{
    FAILED, LOG, failed, linger,
    start::{Running, Served},
};
use crate::api::shutdown::{Asked, ShutdownRequests};

/// Scope of lines about signals.
const SIGNALS: &str = "dapr.signals";
/// Time between the answer to a forced shutdown and the end (process-interface 2.6).
const FORCED_AFTER: Duration = Duration::from_millis(100);
/// Time that is left for taking back what was announced, and for control tasks; both need milliseconds.
const TIDY: Duration = Duration::from_secs(2);
/// Time that collectors have for the last spans, as far as it is left.
const FLUSH: Duration = Duration::from_secs(3);
/// How often the data threads are looked at.
const THREAD_POLL: Duration = Duration::from_millis(2);
/// "Without end", as a number.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Why the process ends.
enum Cause {
    Signal(Signal),
    Asked(Asked),
    Fatal(String),
    Panic,
}

/// Waits for SIGINT or SIGTERM; a hangup before there is anything to reload is nothing.
pub(super) async fn stop_signal(signals: &mut Signals) -> Signal {
    loop {
        match signals.next().await {
            Signal::Hangup => {}
            signal @ (Signal::Interrupt | Signal::Terminate) => return signal,
        }
    }
}

/// The line of the first stop signal.
pub(super) fn log_signal(signal: Signal) {
    info!(target: SIGNALS, "Received signal '{signal}'; beginning shutdown");
}

/// Waits until a task has panicked, which cancels all of them.
pub(super) async fn cancelled(tasks: &Tasks) {
    tasks.token().cancelled().await;
}

/// The end after a panic.
pub(super) fn panicked(tasks: &Tasks) -> ExitCode {
    let cause = tasks
        .panic()
        .map(|panic| format!("task {} panicked: {}", panic.task, panic.message));
    failed(&cause.unwrap_or_else(|| "a task panicked".to_owned()))
}

/// The end of a process that serves nothing yet.
pub(super) async fn ended(tasks: &Tasks) -> ExitCode {
    let _late = tasks.shutdown(TIDY).await;
    info!(target: LOG, "Daprd shutdown gracefully");
    ExitCode::SUCCESS
}

/// Serves until there is a cause to end, then ends.
pub(super) async fn until_end(
    mut running: Running,
    signals: &mut Signals,
    tasks: &Tasks,
) -> ExitCode {
    match cause(&mut running, signals, tasks).await {
        Cause::Signal(signal) => {
            log_signal(signal);
            if let Some(code) = blocked(&mut running, signals, tasks).await {
                return code;
            }
            if running.shared.config.kubernetes.is_some() {
                return departed(running, signals, tasks).await;
            }
        }
        Cause::Asked(Asked::Graceful) => {}
        Cause::Asked(Asked::Forced) => return forced().await,
        Cause::Fatal(cause) => return failed(&cause),
        Cause::Panic => return panicked(tasks),
    }
    drained(running, signals, tasks, Duration::ZERO).await
}

/// In a cluster, callers are sent elsewhere, and those that still come are served, before listeners close.
async fn departed(mut running: Running, signals: &mut Signals, tasks: &Tasks) -> ExitCode {
    let shared = std::sync::Arc::clone(&running.shared);
    // Never ready: probes and balancers look elsewhere.
    let _leaving = shared.health.register("shutdown");
    let limit = linger::limit(shared.config.grace);
    let began = shared.clock.monotonic();
    info!(target: LOG, "Sending callers elsewhere, serving those that still come");
    running.served.depart.cancel();
    tokio::select! {
        () = linger::until_quiet(&shared, limit) => {}
        asked = running.requests.next() => if asked == Asked::Forced { return forced().await },
        signal = stop_signal(signals) => return immediate(signal),
        Some(cause) = running.fatal.recv() => return failed(&cause),
        () = cancelled(tasks) => return panicked(tasks),
    }
    let spent = shared.clock.monotonic() - began;
    drained(running, signals, tasks, spent).await
}

async fn cause(running: &mut Running, signals: &mut Signals, tasks: &Tasks) -> Cause {
    loop {
        let signal = tokio::select! {
            signal = signals.next() => signal,
            asked = running.requests.next() => return Cause::Asked(asked),
            Some(cause) = running.fatal.recv() => return Cause::Fatal(cause),
            () = cancelled(tasks) => return Cause::Panic,
        };
        if signal != Signal::Hangup {
            return Cause::Signal(signal);
        }
        info!(target: SIGNALS, "Received signal '{signal}'; restarting");
        // A reload that waits already will read the same files.
        let _waiting = running.hangup.try_send(());
    }
}

/// Holds the end back while the app is healthy (`--dapr-block-shutdown-duration`); everything keeps serving.
async fn blocked(running: &mut Running, signals: &mut Signals, tasks: &Tasks) -> Option<ExitCode> {
    let limit = running.shared.config.block_shutdown?;
    info!(
        target: LOG,
        "Blocking graceful shutdown for {} or until app reports unhealthy...",
        GoDuration::from(limit)
    );
    let mut health = running.shared.admission.watch_health();
    let up = *running.app_up.borrow();
    let unhealthy = async {
        if up {
            // The sender lives as long as the process.
            let _state = health.wait_for(|healthy| !*healthy).await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(limit) => info!(target: LOG, "Block shutdown period expired, entering shutdown..."),
        () = unhealthy => info!(target: LOG, "App reported unhealthy, entering shutdown..."),
        asked = running.requests.next() => if asked == Asked::Forced { return Some(forced().await) },
        signal = stop_signal(signals) => return Some(immediate(signal)),
        Some(cause) = running.fatal.recv() => return Some(failed(&cause)),
        () = cancelled(tasks) => return Some(panicked(tasks)),
    }
    None
}

/// Closes the listeners, lets streams finish within the grace period, of which some is spent, tidies up.
async fn drained(
    running: Running,
    signals: &mut Signals,
    tasks: &Tasks,
    spent: Duration,
) -> ExitCode {
    let Running {
        shared,
        served,
        resolver,
        hangup: _,
        mut requests,
        fatal: _,
        app_up: _,
        exporting,
        ..
    } = running;
    let Served {
        serving,
        clients,
        drain,
        stop,
        threads,
        http,
        sockets,
        ..
    } = served;
    info!(target: LOG, "Dapr is shutting down");
    // Peers must stop finding this sidecar before it stops answering.
    let _late = resolver.shutdown(TIDY).await;
    for address in &http {
        info!(target: "dapr.runtime.http", "Closing HTTP server {address}…");
    }
    drain.cancel();
    let grace = shared
        .config
        .grace
        .unwrap_or(FOR_EVER)
        .saturating_sub(spent);
    let began = shared.clock.monotonic();
    let unfinished = tokio::select! {
        unfinished = serving.wait(grace) => unfinished,
        signal = stop_signal(signals) => return immediate(signal),
        () = asked_to_force(&mut requests) => return forced().await,
    };
    if !unfinished.is_empty() {
        fatal!(target: LOG, "Graceful shutdown timeout exceeded, forcing shutdown");
        return ExitCode::from(FAILED);
    }
    info!(target: LOG, "Dapr runtime stopped");
    clients.cancel();
    stop.cancel();
    let left = grace.saturating_sub(shared.clock.monotonic() - began);
    let joined = tokio::select! {
        ended = tokio::time::timeout(left.max(TIDY), ended_all(&threads)) => ended.is_ok(),
        signal = stop_signal(signals) => return immediate(signal),
    };
    if !joined {
        fatal!(target: LOG, "Graceful shutdown timeout exceeded, forcing shutdown");
        return ExitCode::from(FAILED);
    }
    let left = grace.saturating_sub(shared.clock.monotonic() - began);
    if let Some(code) = flushed(&exporting, left, signals, &mut requests).await {
        return code;
    }
    let _late = tasks.shutdown(TIDY).await;
    drop(sockets);
    info!(target: LOG, "Daprd shutdown gracefully");
    ExitCode::SUCCESS
}

/// Nobody makes spans any more; a collector that does not take the last ones holds nothing up for long: for what is
/// left of the grace period, but [`TIDY`] at least and [`FLUSH`] at most, and not at all if the end is asked for again.
async fn flushed(
    exporting: &Tasks,
    left: Duration,
    signals: &mut Signals,
    requests: &mut ShutdownRequests,
) -> Option<ExitCode> {
    tokio::select! {
        _late = exporting.shutdown(FLUSH.min(left.max(TIDY))) => None,
        signal = stop_signal(signals) => Some(immediate(signal)),
        () = asked_to_force(requests) => Some(forced().await),
    }
}

/// Waits until the data threads have ended; one that panicked has been reported. To join would block the control
/// runtime for as long as a name look-up of the system takes.
async fn ended_all(threads: &[JoinHandle<()>]) {
    while !threads.iter().all(JoinHandle::is_finished) {
        tokio::time::sleep(THREAD_POLL).await;
    }
}

async fn asked_to_force(requests: &mut ShutdownRequests) {
    while requests.next().await != Asked::Forced {}
}

async fn forced() -> ExitCode {
    info!(target: LOG, "Force shutdown requested, exiting immediately without graceful shutdown");
    tokio::time::sleep(FORCED_AFTER).await;
    ExitCode::from(FAILED)
}

fn immediate(signal: Signal) -> ExitCode {
    fatal!(target: SIGNALS, "Received signal '{signal}' during shutdown; exiting immediately");
    ExitCode::from(FAILED)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use ironside_chassis::Clock;

    use super::*;
    use crate::api::shutdown;

    /// An exporter whose collector never answers.
    fn stuck() -> Tasks {
        let exporting = Tasks::new();
        exporting.spawn("trace-exporter", std::future::pending());
        exporting
    }

    #[tokio::test]
    async fn a_second_signal_ends_the_wait_for_collectors() {
        let mut signals = Signals::install(&[Signal::Terminate]).unwrap();
        let (_handle, mut requests) = shutdown::channel();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).unwrap();
        let exporting = stuck();
        let code = flushed(&exporting, FOR_EVER, &mut signals, &mut requests).await;
        assert_eq!(code, Some(ExitCode::from(FAILED)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_collectors_is_bounded() {
        let mut signals = Signals::install(&[]).unwrap();
        let (handle, mut requests) = shutdown::channel();
        let clock = Clock::system();
        for (left, want) in [(Duration::ZERO, TIDY), (FOR_EVER, FLUSH)] {
            let (exporting, began) = (stuck(), clock.monotonic());
            let code = flushed(&exporting, left, &mut signals, &mut requests).await;
            assert_eq!(code, None);
            let took = clock.monotonic() - began;
            assert!(took >= want && took < want + FORCED_AFTER, "{took:?}");
        }
        let force = HeaderValue::from_static("true");
        handle.request(&HeaderMap::from_iter([(
            http::HeaderName::from_static("dapr-force-shutdown"),
            force,
        )]));
        let code = flushed(&stuck(), FOR_EVER, &mut signals, &mut requests).await;
        assert_eq!(code, Some(ExitCode::from(FAILED)));
    }
}
