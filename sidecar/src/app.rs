//! The process: the only place that wires.
//!
//! Owns the order of the start (`app/start.rs`), of the end (`app/stop.rs`), and the exit codes. Everything a
//! sidecar has is made here and handed down; nothing below reads the environment, a clock or a flag by itself.
//! Source: process-interface 2.5 to 2.8.

mod announce;
mod cluster;
mod identity;
mod lines;
mod linger;
mod log_level;
mod measure;
mod ports;
mod ready;
mod start;
mod stop;
mod wait;

use std::{ffi::OsString, process::ExitCode};

use ironside_chassis::{
    Clock, Tasks, build_info, descriptors, fatal,
    logging::{self, LogHandle, LogOptions},
    signals::{Signal, Signals},
};

use crate::config::{
    Startup,
    env::Environment,
    flags::{Errand, Given},
    host,
    validate::{self, ConfigError, Machine},
};

/// Scope of life-cycle lines.
const LOG: &str = "dapr.runtime";
/// Exit code of everything that is not a clean end.
const FAILED: u8 = 1;

/// Does what the command line says and returns the exit code.
pub(crate) fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.into_iter().collect();
    if let Some(done) = log_level::asked(&words) {
        return done;
    }
    let given = match Given::parse(words) {
        Ok(given) => given,
        Err(exit) => return exit.print(),
    };
    for notice in given.notices() {
        eprintln!("{notice}");
    }
    match given.errand() {
        Errand::Version => say(build_info::VERSION),
        Errand::BuildInfo => say(&build_info::build_info_text()),
        Errand::Wait => wait::until_up(given.text("dapr-http-port")),
        Errand::Run => sidecar(&given),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the answer to --version and --build-info"
)]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

fn sidecar(given: &Given) -> ExitCode {
    descriptors::raise_limit();
    let (log, startup) = match prepared(given) {
        Ok(prepared) => prepared,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(cause) => return failed(&format!("cannot start the control runtime: {cause}")),
    };
    let env = Environment::of_process();
    let level = given.text("log-level");
    let code = runtime.block_on(lifetime(startup, env, &log, level));
    // What the control runtime still holds is not waited for.
    runtime.shutdown_background();
    drop(log);
    code
}

/// The log, then the configuration: every refusal finds a log.
fn prepared(given: &Given) -> Result<(LogHandle, Startup), ExitCode> {
    let (options, refused) = match validate::log_options(given) {
        Ok(options) => (options, None),
        Err(refused) => (LogOptions::default(), Some(refused)),
    };
    let log = logging::init(options).map_err(|cause| {
        eprintln!("{cause}");
        ExitCode::from(FAILED)
    })?;
    let machine = Machine {
        address: host::address(),
        hostname: host::name(),
        is_root: rustix::process::geteuid().is_root(),
    };
    let startup = match refused {
        Some(refused) => Err(refused),
        None => validate::startup(given, &Environment::of_process(), machine),
    };
    match startup {
        Ok(startup) => Ok((log, startup)),
        Err(refused) => {
            refuse(&refused);
            Err(ExitCode::from(FAILED))
        }
    }
}

fn refuse(refused: &ConfigError) {
    fatal!(target: LOG, "{refused}");
}

fn failed(cause: &str) -> ExitCode {
    fatal!(target: LOG, "Fatal error from runtime: {cause}");
    ExitCode::from(FAILED)
}

/// From the first log line to the last.
async fn lifetime(startup: Startup, env: Environment, log: &LogHandle, level: &str) -> ExitCode {
    let clock = Clock::system();
    let began = clock.monotonic();
    // First of all: a stop signal from now on is a clean end.
    let mut signals =
        match Signals::install(&[Signal::Interrupt, Signal::Terminate, Signal::Hangup]) {
            Ok(signals) => signals,
            Err(cause) => return failed(&format!("cannot install signal handlers: {cause}")),
        };
    let levels = match log.follow_signals() {
        Ok(levels) => levels,
        Err(cause) => return failed(&format!("cannot install signal handlers: {cause}")),
    };
    lines::starting(level);
    for warning in &startup.warnings {
        tracing::warn!(target: LOG, "{warning}");
    }
    let tasks = Tasks::new();
    tasks.spawn("log-level", levels.run(tasks.token()));
    if let Some(payloads) = &startup.config.payloads {
        payloads.warn();
    }
    let beginning = start::Beginning {
        config: startup.config,
        env,
        clock,
        began,
    };
    let started = tokio::select! {
        started = start::start(beginning, &tasks) => started,
        signal = stop::stop_signal(&mut signals) => {
            stop::log_signal(signal);
            return stop::ended(&tasks).await;
        }
        () = stop::cancelled(&tasks) => return stop::panicked(&tasks),
    };
    match started {
        Ok(running) => stop::until_end(running, &mut signals, &tasks).await,
        Err(cause) => failed(&cause.to_string()),
    }
}
