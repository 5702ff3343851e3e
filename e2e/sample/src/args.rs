//! The command line.

use std::{net::IpAddr, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};

/// The app of the tests.
#[derive(Debug, Parser)]
#[command(name = "sample")]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// Listens until SIGTERM.
    Serve(Serve),
    /// Makes one call, prints its outcome as JSON, and fails if it was not the wanted one.
    Once(Once),
}

/// How the app's own port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Speech {
    /// HTTP/1.1 and h2c, without TLS.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS.
    Https,
    /// HTTP/2 only, without TLS.
    H2c,
    /// gRPC without TLS.
    Grpc,
    /// gRPC over TLS.
    Grpcs,
}

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Serve {
    /// The app's own port.
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// How it speaks.
    #[arg(long, value_enum, default_value = "http")]
    pub(crate) protocol: Speech,
    /// The control port.
    #[arg(long, default_value_t = 9191)]
    pub(crate) control: u16,
    /// Where both listen.
    #[arg(long, default_value = "0.0.0.0")]
    pub(crate) bind: IpAddr,
    /// What the app calls itself in its answers.
    #[arg(long, default_value = "sample")]
    pub(crate) name: String,
    /// A load that runs from the start: the JSON of `PUT /load`.
    #[arg(long)]
    pub(crate) load: Option<String>,
    /// A call at SIGTERM, when nothing else is called any more: the JSON of `POST /call`. Without success `serve`
    /// fails.
    #[arg(long)]
    pub(crate) last: Option<String>,
    /// How long after SIGTERM connections are still accepted, in milliseconds.
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    pub(crate) linger: Duration,
}

/// Options of `once`.
#[derive(Debug, clap::Args)]
pub(crate) struct Once {
    /// The call: the JSON of `POST /call`.
    pub(crate) call: String,
    /// The wanted status.
    #[arg(long, default_value_t = 200)]
    pub(crate) want: u16,
    /// For how long other outcomes are tried again, in milliseconds.
    #[arg(long, default_value = "0", value_parser = milliseconds)]
    pub(crate) patience: Duration,
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}
