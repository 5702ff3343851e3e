//! Rows with the published Rust SDK and tonic: SD-30 to SD-33, GP-01, GP-04 to GP-07.
//!
//! `client` prints one verdict line a row, `connect` connects at once and says so, `ready-made` and `echo` are
//! apps on APP_PORT: the SDK's own callback service, and one written by hand.

mod apps;
mod greeter;

use std::{fmt::Debug, future::Future};

use dapr::Client;
use prost_types::Any;

type Outcome = Result<(), String>;

#[tokio::main]
async fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("client") => client_rows().await,
        Some("connect") => connect().await,
        Some("ready-made") => apps::ready_made().await,
        Some("echo") => apps::echo().await,
        other => panic!("client, connect, ready-made or echo, not {other:?}"),
    }
}

/// Runs a check; the line `ROW <name> passed` or `ROW <name> FAILED <why>` is what the runner reads.
async fn row(name: &str, check: impl Future<Output = Outcome>) {
    match check.await {
        Ok(()) => println!("ROW {name} passed"),
        Err(why) => println!("ROW {name} FAILED {why}"),
    }
}

fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Outcome {
    if expected == found {
        Ok(())
    } else {
        Err(format!("{what}: expected {expected:?}, found {found:?}"))
    }
}

fn text(error: impl Debug) -> String {
    format!("{error:?}").replace('\n', " ")
}

async fn connect() {
    match Client::new().await {
        Ok(mut client) => {
            let metadata = client.get_metadata().await.expect("metadata");
            println!("connected to {}", metadata.id);
        }
        Err(error) => {
            println!("not connected: {error:?}");
            std::process::exit(1);
        }
    }
}

async fn client_rows() {
    row("SD-31", async {
        let mut client = Client::new().await.map_err(text)?;
        let data = Any {
            type_url: String::new(),
            value: b"hello".to_vec(),
        };
        let reply = client
            .invoke_service("rustecho", "method", Some(data))
            .await
            .map_err(text)?;
        same(
            "data",
            b"hello".to_vec(),
            reply.data.unwrap_or_default().value,
        )?;
        same("type", "text/x", reply.content_type.as_str())
    })
    .await;
    row("SD-33", async {
        let mut client = Client::new().await.map_err(text)?;
        let error = text(client.list_jobs().await.expect_err("jobs are not offered"));
        let told = error.contains("Unimplemented")
            || error.contains("FailedPrecondition")
            || error.contains("Internal");
        if told { Ok(()) } else { Err(error) }
    })
    .await;
    greeter::rows().await;
}
