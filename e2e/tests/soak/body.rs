//! Bodies of 1 GiB and the memory of the sidecars.

use anyhow::{Result, ensure};
use ironside_e2e::{Sidecar, Spec, World};
use ironside_testkit::http::{
    Answer, Connection, Cursor, Digest, End, HttpApp, Request, client::encode_chunk,
};

/// A block whose size divides nothing, so that a shifted byte changes the checksum.
fn block() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    bytes.take(1_000_003).collect()
}

/// So many blocks are above 1 GiB.
const BLOCKS: u64 = 1074;

/// Memory that may be gained.
const GROWTH_KIB: u64 = 8 << 10;

struct Watched<'a> {
    sidecars: [&'a Sidecar; 2],
    before: [u64; 2],
    peak: [u64; 2],
}

impl<'a> Watched<'a> {
    fn begin(sidecars: [&'a Sidecar; 2]) -> Self {
        let before = sidecars.map(|sidecar| sidecar.program.resident_kib());
        Self {
            sidecars,
            before,
            peak: before,
        }
    }

    fn sample(&mut self) {
        for (peak, sidecar) in self.peak.iter_mut().zip(self.sidecars) {
            *peak = (*peak).max(sidecar.program.resident_kib());
        }
    }

    fn judge(mut self, what: &str) -> Result<()> {
        self.sample();
        let growth: Vec<_> = self
            .peak
            .iter()
            .zip(self.before)
            .map(|(peak, before)| peak.saturating_sub(before))
            .collect();
        eprintln!(
            "body: {what}: memory of caller and callee before {:?} KiB, grew by {growth:?} KiB",
            self.before
        );
        ensure!(
            growth.iter().all(|growth| *growth < GROWTH_KIB),
            "{what}: memory grew by {growth:?} KiB"
        );
        Ok(())
    }
}

/// 1 GiB both ways, of fixed length and chunked.
#[tokio::test]
#[ignore = "moves four bodies of 1 GiB: cargo xtask soak body"]
async fn body() -> Result<()> {
    let world = World::new();
    let block = block();
    let mut digest = Digest::default();
    (0..BLOCKS).for_each(|_| digest.add(&block));
    let (length, wanted) = (digest.length(), digest.finish());
    let served = block.clone();
    let app = HttpApp::start(move |seen| match seen.path() {
        "/length" => Answer::status(200)
            .header("Content-Length", &length.to_string())
            .end_head()
            .repeat(served.clone(), BLOCKS),
        "/chunked" => Answer::status(200)
            .chunked()
            .repeat(encode_chunk(&served), BLOCKS)
            .last_chunk(),
        _ => Answer::text("ok"),
    })
    .await?;
    let spec = |id: &str| Spec::new(id).flag("--max-body-size", "2Gi");
    let a = spec("caller").start(&world).await?;
    let b = spec("callee").app(app.port()).ready(&world).await?;
    for _ in 0..5 {
        a.send(&Request::post(
            "/v1.0/invoke/callee/method/warm",
            vec![0; 1 << 20],
        ))
        .await?;
    }
    drop(app.take());
    for form in ["length", "chunked"] {
        let mut watched = Watched::begin([&a, &b]);
        let mut connection = Connection::tcp(a.http()).await?;
        let request = Request::new("POST", "/v1.0/invoke/callee/method/up");
        let chunk = if form == "chunked" {
            encode_chunk(&block)
        } else {
            block.clone()
        };
        let head = match form {
            "chunked" => request.header("Transfer-Encoding", "chunked"),
            _ => request.header("Content-Length", &length.to_string()),
        };
        connection.write(head.bytes()).await?;
        for number in 0..BLOCKS {
            connection.write(&chunk).await?;
            if number % 16 == 0 {
                watched.sample();
            }
        }
        if form == "chunked" {
            connection.write(b"0\r\n\r\n").await?;
        }
        let reply = connection.reply("POST").await?;
        let seen = app.take().remove(0);
        ensure!(reply.status() == 200, "{} {}", reply.status(), reply.text());
        ensure!(
            (seen.length, seen.digest, seen.end) == (length, wanted, End::Whole),
            "the app got another body"
        );
        watched.judge(&format!("request, {form}"))?;
        let mut watched = Watched::begin([&a, &b]);
        connection
            .write(Request::get(&format!("/v1.0/invoke/callee/method/{form}")).bytes())
            .await?;
        let head = connection.head().await?;
        let (mut cursor, mut digest) = (Cursor::new(head.reply_framing("GET")), Digest::default());
        let mut next = 0;
        while let Some(piece) = connection.piece(&mut cursor).await {
            digest.add(&piece);
            if digest.length() > next {
                watched.sample();
                next += 16 << 20;
            }
        }
        ensure!(
            (digest.length(), digest.finish(), cursor.end()) == (length, wanted, Some(End::Whole)),
            "the client got another body"
        );
        watched.judge(&format!("response, {form}"))?;
        drop(app.take());
    }
    Ok(())
}
