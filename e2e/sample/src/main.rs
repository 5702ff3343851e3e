//! The app that runs in pods of tests: callee, caller and witness in one binary.
//!
//! `sample serve` listens on two ports: the app's own, in the protocol under test, and the control port, plain
//! HTTP/1.1, by which a test gives orders and asks for counts. `sample once` makes one call and ends: for Jobs, init
//! containers and preStop hooks. What the ports answer is written in `e2e/sample/README.md`.

mod answer;
mod args;
mod call;
mod clock;
mod control;
mod grpc;
mod load;
mod serve;
mod state;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Task};

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("sample: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        match args.task {
            Task::Serve(options) => serve::run(options).await,
            Task::Once(options) => call::once(options).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sample: {error:#}");
            ExitCode::FAILURE
        }
    }
}
