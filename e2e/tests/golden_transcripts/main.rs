//! The transcripts of `e2e/golden`, replayed against real sidecars.
//!
//! `transcript` reads the files, `rig` rebuilds the set-up they were recorded in, `replay` sends and compares by
//! the rules of `compare`, `differences` lists where we answer otherwise on purpose.

#![cfg(test)]

mod compare;
mod differences;
mod exposition;
mod judge;
mod messages;
mod replay;
mod rig;
mod special;
mod transcript;

use ironside_e2e::Rows;

use crate::{replay::replay, rig::Rig, transcript::Transcript};

/// Replays all exchanges of the transcripts whose numbers are given.
async fn replay_all(rig: &Rig, rows: &mut Rows, numbers: &[&str]) {
    for number in numbers {
        let transcript = Transcript::read(number);
        for (place, mut exchange) in transcript.exchanges().into_iter().enumerate() {
            let hazards = differences::amend(&transcript.name, place, &mut exchange);
            let id = format!("{number}.{place}");
            let fact = format!("{} {:?} {hazards:?}", transcript.name, exchange.label);
            rows.row(&id, &fact, async {
                let wrong = replay(rig, &exchange).await?;
                anyhow::ensure!(wrong.is_empty(), "\n    {}", wrong.join("\n    "));
                Ok(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn default_configuration() {
    let mut rig = Rig::start("").await.unwrap();
    let mut rows = Rows::of("golden");
    let numbers = [
        "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "15", "16", "17",
        "18", "19", "20", "21", "22", "23", "24", "25",
    ];
    replay_all(&rig, &mut rows, &numbers).await;
    special::body_limit(&rig, &mut rows).await;
    rig.app_b.stop().await;
    replay_all(&rig, &mut rows, &["13"]).await;
    rows.close();
}

#[tokio::test]
async fn sampled_tracing() {
    let rig = Rig::start("  tracing:\n    samplingRate: \"1\"\n")
        .await
        .unwrap();
    let mut rows = Rows::of("golden");
    replay_all(&rig, &mut rows, &["29"]).await;
    rows.close();
}

#[tokio::test]
async fn tracing_off() {
    let rig = Rig::start("  tracing:\n    samplingRate: \"0\"\n")
        .await
        .unwrap();
    let mut rows = Rows::of("golden");
    replay_all(&rig, &mut rows, &["30"]).await;
    rows.close();
}

#[tokio::test]
async fn mutual_tls() {
    let mut rows = Rows::of("golden");
    special::mtls_failures(&mut rows).await.unwrap();
    rows.close();
}

#[tokio::test]
async fn targets_outside() {
    let mut rows = Rows::of("golden");
    special::external_targets(&mut rows).await.unwrap();
    special::untrusted_outside(&mut rows).await.unwrap();
    rows.close();
}
