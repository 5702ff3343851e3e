//! Name resolution: SI-109, SI-139, SI-141, SI-145.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Spec, World, wait};
use ironside_testkit::http::{Answer, HttpApp};

use crate::rig::{invoke, same};

#[tokio::test]
async fn sqlite() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    rows.row(
        "SI-141",
        "two sidecars find each other through one file",
        async {
            let a = Spec::new("appA").app(app.port()).ready(&world).await?;
            let b = Spec::new("appB").app(app.port()).ready(&world).await?;
            same(
                "there",
                200,
                a.send(&invoke("GET", "appB", "x")).await?.status(),
            )?;
            same(
                "back",
                200,
                b.send(&invoke("GET", "appA", "x")).await?.status(),
            )?;
            let database = rusqlite::Connection::open(world.path().join("names.db"))?;
            let mut statement =
                database.prepare("SELECT app_id, address FROM hosts ORDER BY app_id")?;
            let found = statement
                .query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<Vec<_>, _>>()?;
            let row = |id: &str, port: u16| (id.to_owned(), format!("127.0.0.1:{port}"));
            same(
                "rows",
                vec![row("appA", a.internal()), row("appB", b.internal())],
                found,
            )
        },
    )
    .await;
    rows.row(
        "SI-109",
        "two replicas, fifty calls: both are used",
        async {
            let two = [
                HttpApp::start(|_| Answer::text("1")).await?,
                HttpApp::start(|_| Answer::text("2")).await?,
            ];
            let a = Spec::new("caller").start(&world).await?;
            let _first = Spec::new("twin").app(two[0].port()).ready(&world).await?;
            let _second = Spec::new("twin").app(two[1].port()).ready(&world).await?;
            let mut answers = BTreeSet::new();
            for _ in 0..50 {
                answers.insert(a.send(&invoke("GET", "twin", "x")).await?.text());
            }
            same(
                "answers",
                BTreeSet::from(["1".to_owned(), "2".to_owned()]),
                answers,
            )
        },
    )
    .await;
    rows.row("SI-145", "a variable in a configuration file", async {
        let keys = "  nameResolution:\n    component: sqlite\n    configuration:\n      connectionString: \"of-${APP_ID}.db\"\n";
        let _expanded = Spec::new("expanded").default_resolution().configure(keys).start(&world).await?;
        ensure!(world.path().join("of-expanded.db").exists(), "no file of that name");
        Ok(())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn multicast() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    rows.row(
        "SI-139",
        "a question for appB.local. is answered with port and id",
        async {
            // An id of its own: other machines of the network may run an appB.
            let id = format!("appB-{}", std::process::id());
            let b = Spec::new(&id)
                .default_resolution()
                .app(app.port())
                .ready(&world)
                .await?;
            let question = question(&format!("{id}.local"));
            let answer = tokio::task::spawn_blocking(move || ask(&question)).await??;
            let text = String::from_utf8_lossy(&answer).into_owned();
            ensure!(text.contains(&id), "no id in {text:?}");
            // SRV: priority 0, weight 0, the internal port.
            let [high, low] = b.internal().to_be_bytes();
            ensure!(
                answer
                    .windows(6)
                    .any(|bytes| bytes == [0, 0, 0, 0, high, low]),
                "no SRV with port {}",
                b.internal()
            );
            // TXT: one string, the id.
            let txt: Vec<u8> = [u8::try_from(id.len())?]
                .into_iter()
                .chain(id.bytes())
                .collect();
            ensure!(
                answer
                    .windows(txt.len())
                    .filter(|bytes| *bytes == txt)
                    .count()
                    > 0,
                "no TXT"
            );
            Ok(())
        },
    )
    .await;
    rows.row(
        "SI-139 default resolution",
        "two sidecars find each other without configuration",
        async {
            let found = Spec::new("found")
                .default_resolution()
                .app(app.port())
                .ready(&world)
                .await?;
            let finder = Spec::new("finder")
                .default_resolution()
                .start(&world)
                .await?;
            let watch = wait::Stopwatch::start();
            same(
                "status",
                200,
                finder
                    .send(&invoke("GET", found.app_id(), "x"))
                    .await?
                    .status(),
            )?;
            ensure!(
                watch.elapsed() < Duration::from_secs(2),
                "took {:?}",
                watch.elapsed()
            );
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// A PTR question for a name.
fn question(name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 12, 0, 1]);
    packet
}

/// Asks over multicast from a port of its own, which responders answer directly.
fn ask(question: &[u8]) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_multicast_loop_v4(true)?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let group = SocketAddr::from((Ipv4Addr::new(224, 0, 0, 251), 5353));
    let mut buffer = [0; 9000];
    for _ in 0..10 {
        socket
            .send_to(question, group)
            .context("this machine has no route for multicast")?;
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let answers = u16::from_be_bytes([buffer[6], buffer[7]]);
            if answers > 0 {
                return Ok(buffer[..length].to_vec());
            }
        }
    }
    anyhow::bail!("nobody answered")
}
