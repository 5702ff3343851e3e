//! Both ends over pipes in memory, with time that passes by itself when nothing else happens.

use std::{collections::HashMap, time::UNIX_EPOCH};

use super::*;
use crate::{
    OpenError, Watch,
    world::{StoredObject, tests as worlds},
};
use hyper_util::rt::TokioExecutor;
use ironside_identity::SpiffeId;
use ironside_proto::discovery::{Ack, Hello, ObjectStats, Stats, watch_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tonic::Code;

#[expect(clippy::disallowed_methods, reason = "the clock of the tests")]
fn time() -> Time {
    let start = tokio::time::Instant::now();
    Time {
        monotonic: Arc::new(move || tokio::time::Instant::now() - start),
        wall: Arc::new(move || UNIX_EPOCH + (tokio::time::Instant::now() - start)),
    }
}

struct Rig {
    discovery: Discovery,
    stop: CancellationToken,
}

impl Rig {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let tasks = Arc::new(TokioExecutor::new());
        Self {
            discovery: Discovery::new(settings, time(), tasks, stop.clone()),
            stop,
        }
    }

    fn of(objects: &[StoredObject]) -> Self {
        let rig = Self::new();
        rig.discovery.publish(worlds::world(objects));
        rig
    }

    /// A connection of this peer, with so much room in the pipe.
    fn pipe(&self, peer: Option<VerifiedPeer>, room: usize) -> DuplexStream {
        let (client, server) = duplex(room);
        let discovery = self.discovery.clone();
        let serve = async move { drop(discovery.serve_connection(server, peer).await) };
        TokioExecutor::new().execute(serve);
        client
    }

    async fn open(&self, peer: &str, hello: Hello) -> Result<Watch, OpenError> {
        let pipe = self.pipe(Some(verified(peer)), 64 * 1024);
        Watch::open(pipe, "operator", TokioExecutor::new(), hello).await
    }

    async fn watch(&self, peer: &str) -> Watch {
        self.open(peer, hello("pod")).await.unwrap()
    }
}

fn verified(path: &str) -> VerifiedPeer {
    VerifiedPeer {
        id: SpiffeId::parse(&format!("spiffe://public/ns/{path}")).unwrap(),
        not_after: UNIX_EPOCH + Duration::from_secs(86_400),
        chain: Arc::new([]),
    }
}

fn hello(instance: &str) -> Hello {
    Hello {
        protocol: crate::PROTOCOL,
        instance: instance.to_owned(),
        seen: HashMap::new(),
    }
}

fn ack(snapshot: u64) -> watch_request::Request {
    watch_request::Request::Ack(Ack {
        snapshot,
        accepted: true,
        errors: Vec::new(),
    })
}

async fn next(watch: &mut Watch) -> WatchResponse {
    watch.next().await.unwrap().unwrap()
}

async fn end(watch: &mut Watch) -> Code {
    loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            Ok(None) => return Code::Ok,
            Err(status) => return status.code(),
        }
    }
}

fn uids(response: &WatchResponse) -> Vec<String> {
    let uid = |json: &bytes::Bytes| {
        let object = StoredObject::from_json(json.clone()).unwrap();
        object.uid.to_string()
    };
    response.objects.iter().map(uid).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_without_identity_is_refused() {
    let rig = Rig::of(&[]);
    let pipe = rig.pipe(None, 64 * 1024);
    let opened = Watch::open(pipe, "operator", TokioExecutor::new(), hello("pod")).await;
    let Err(OpenError::Refused(status)) = opened else {
        panic!("{opened:?}");
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.message(), "failed to determine identity");
    assert_eq!(rig.discovery.totals().connected, 0);
}

#[tokio::test(start_paused = true)]
async fn changes_are_coalesced_sent_whole_and_acknowledged() {
    let rig = Rig::of(&[worlds::object("shop", "a", 1, &[])]);
    let mut watch = rig.watch("shop/orders").await;
    let first = next(&mut watch).await;
    assert_eq!((first.snapshot, first.synced), (1, true));
    assert!(first.sent_at.is_some());
    watch.say(ack(1)).unwrap();
    let began = (rig.discovery.0.time.monotonic)();
    for generation in 2..=20 {
        rig.discovery.publish(worlds::world(&[worlds::object(
            "shop",
            "a",
            generation,
            &[],
        )]));
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
    let second = next(&mut watch).await;
    let took = (rig.discovery.0.time.monotonic)() - began;
    assert_eq!(second.snapshot, 2, "nineteen changes are one");
    assert!(took >= COALESCE && took < 2 * COALESCE, "{took:?}");
    let object = StoredObject::from_json(second.objects[0].clone()).unwrap();
    assert_eq!(object.generation, 20);
    watch.say(ack(2)).unwrap();
    let beat = next(&mut watch).await;
    assert_eq!((beat.snapshot, beat.objects.len()), (0, 0));
    let status = rig.discovery.status();
    assert_eq!((status[0].connected, status[0].applied), (1, 1));
    drop(watch);
    while rig.discovery.totals().connected > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Facts K195, K196, K206, K207: what a client gets follows from its certificate alone.
#[tokio::test(start_paused = true)]
async fn who_asks_is_what_the_certificate_says() {
    let rig = Rig::of(&[
        worlds::object("a", "of-x", 1, &["x"]),
        worlds::object("a", "of-all", 1, &[]),
        worlds::object("b", "of-x-in-b", 1, &["x"]),
    ]);
    for (peer, want) in [
        ("a/x", vec!["of-all", "of-x"]),
        ("a/y", vec!["of-all"]),
        ("b/x", vec!["of-x-in-b"]),
        ("c/x", vec![]),
    ] {
        // An instance name is only a name.
        let mut watch = rig.open(peer, hello("a/x")).await.unwrap();
        assert_eq!(uids(&next(&mut watch).await), want, "{peer}");
    }
    let (mut first, mut second) = (rig.watch("a/x").await, rig.watch("a/x").await);
    next(&mut first).await;
    next(&mut second).await;
    let status = rig.discovery.status();
    let of_x = status.iter().find(|status| &*status.uid == "of-x").unwrap();
    assert_eq!(of_x.connected, 2, "each is an instance of its own");
}

/// Facts F9, K210: a server that lost its source says that something may be missing.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_first_world_and_a_lost_source_is_told() {
    let rig = Rig::new();
    let mut watch = rig.watch("a/x").await;
    assert_eq!(next(&mut watch).await.snapshot, 0, "a heartbeat");
    rig.discovery
        .publish(worlds::world(&[worlds::object("a", "u", 1, &[])]));
    assert!(next(&mut watch).await.synced);
    rig.discovery.publish(World::default());
    let lost = next(&mut watch).await;
    assert_eq!(
        (lost.snapshot, lost.synced, lost.objects.len()),
        (2, false, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lagging_server_sends_nothing() {
    let rig = Rig::of(&[worlds::object("a", "u", 4, &[])]);
    let seen = HashMap::from([("u".to_owned(), 5)]);
    let behind = Hello {
        seen,
        ..hello("pod")
    };
    let mut watch = rig.open("a/x", behind).await.unwrap();
    assert_eq!(end(&mut watch).await, Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn counts_reach_the_status() {
    let rig = Rig::of(&[worlds::object("a", "u", 1, &[])]);
    let mut watch = rig.watch("a/x").await;
    next(&mut watch).await;
    watch.say(ack(1)).unwrap();
    let counts = ObjectStats {
        denied: 3,
        would_deny: 2,
    };
    let objects = [("u".to_owned(), counts), ("other".to_owned(), counts)];
    let stats = Stats {
        objects: objects.into(),
    };
    watch.say(watch_request::Request::Stats(stats)).unwrap();
    next(&mut watch).await;
    let hour = rig.discovery.status()[0].last_hour;
    assert_eq!((hour.denied, hour.would_deny), (3, 2));
}

/// Fact K208 for whoever knows more objects than fit into a request: it gets a stream, and nothing is taken from it
/// before the source was read anew.
#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_name_all_it_knows_is_in_doubt() {
    let rig = Rig::of(&[worlds::object("a", "u", 1, &[])]);
    let many = Hello {
        seen: (0..40_000).map(|n| (format!("{n:036}"), 1)).collect(),
        ..hello("pod")
    };
    let mut watch = rig.open("a/x", many).await.unwrap();
    assert!(!next(&mut watch).await.synced);
    rig.discovery.doubted().await;
    rig.discovery
        .confirm((time().monotonic)() + Duration::from_secs(1));
    assert!(next(&mut watch).await.synced);
}

/// Clients that misbehave lose their stream, and nobody else notices.
#[tokio::test(start_paused = true)]
async fn bad_clients_are_cut_and_good_ones_served() {
    let rig = Rig::of(&[worlds::object("a", "u", 1, &[])]);
    let mut good = rig.watch("a/x").await;
    next(&mut good).await;
    let old = Hello {
        protocol: 0,
        ..hello("pod")
    };
    let mut bad = rig.open("a/x", old).await.unwrap();
    assert_eq!(end(&mut bad).await, Code::FailedPrecondition);
    let huge = Hello {
        instance: "x".repeat(MAX_REQUEST),
        ..hello("pod")
    };
    let mut bad = rig.open("a/x", huge).await.unwrap();
    assert_eq!(end(&mut bad).await, Code::OutOfRange);
    let mut bad = rig.watch("a/x").await;
    bad.say(ack(77)).unwrap();
    assert_eq!(end(&mut bad).await, Code::InvalidArgument);
    let mut garbage = rig.pipe(Some(verified("a/x")), 1024);
    garbage.write_all(&[0x16; 600]).await.unwrap();
    let mut answer = Vec::new();
    drop(garbage.read_to_end(&mut answer).await);
    rig.discovery
        .publish(worlds::world(&[worlds::object("a", "u", 2, &[])]));
    loop {
        let response = next(&mut good).await;
        if response.snapshot == 2 {
            break;
        }
    }
    assert_eq!(rig.discovery.totals().connected, 1);
}

/// A client that says nothing, and one that reads nothing.
#[tokio::test(start_paused = true)]
async fn silence_and_slowness_are_bounded() {
    let rig = Rig::with(Settings {
        heartbeat: Duration::from_millis(10),
        write_limit: Duration::from_secs(3),
        ..Settings::default()
    });
    let big = format!(
        r#"{{"metadata":{{"namespace":"a","uid":"u","generation":1}},"x":"{}"}}"#,
        "x".repeat(3 << 20)
    );
    let object = StoredObject::from_json(big.into()).unwrap();
    rig.discovery.publish(worlds::world(&[object]));
    // More than the client's window takes, and nobody reads.
    let slow = rig.watch("a/slow").await;
    while rig.discovery.totals().connected == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = (rig.discovery.0.time.monotonic)();
    while rig.discovery.totals().connected > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = (rig.discovery.0.time.monotonic)() - began;
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(slow);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_nobody_would_take_is_not_sent() {
    let rig = Rig::with(Settings {
        max_snapshot: 1000,
        ..Settings::default()
    });
    let many: Vec<_> = (0..50)
        .map(|n| worlds::object("a", &format!("u{n}"), 1, &[]))
        .collect();
    rig.discovery.publish(worlds::world(&many));
    let mut watch = rig.watch("a/x").await;
    assert_eq!(next(&mut watch).await.snapshot, 0, "a heartbeat only");
    rig.discovery.publish(worlds::world(&many[..3]));
    assert_eq!(next(&mut watch).await.objects.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_bounded_and_end_with_certificate_and_service() {
    let rig = Rig::with(Settings {
        max_sessions_of_app: 2,
        ..Settings::default()
    });
    rig.discovery.publish(worlds::world(&[]));
    let mut kept = [rig.watch("a/x").await, rig.watch("a/x").await];
    for watch in &mut kept {
        next(watch).await;
    }
    let mut third = rig.watch("a/x").await;
    assert_eq!(end(&mut third).await, Code::ResourceExhausted);
    let mut short = VerifiedPeer {
        not_after: UNIX_EPOCH + Duration::from_secs(40),
        ..verified("a/short")
    };
    short.chain = Arc::new([]);
    let pipe = rig.pipe(Some(short), 64 * 1024);
    let opened = Watch::open(pipe, "operator", TokioExecutor::new(), hello("pod")).await;
    assert_eq!(end(&mut opened.unwrap()).await, Code::Unavailable);
    assert!((rig.discovery.0.time.wall)() >= UNIX_EPOCH + Duration::from_secs(40));
    rig.stop.cancel();
    for watch in &mut kept {
        end(watch).await;
    }
    assert_eq!(rig.discovery.totals().connected, 0);
}

/// Fact K211: after a restart 500 sidecars are there again and have answered within 30 s.
#[tokio::test(start_paused = true)]
async fn five_hundred_sidecars_come_back_after_a_restart() {
    const SIDECARS: usize = 500;
    let objects = [
        worlds::object("a", "u", 1, &[]),
        worlds::object("a", "v", 7, &["app-3"]),
    ];
    let mut before = Rig::of(&objects);
    let mut watches = Vec::new();
    for n in 0..SIDECARS {
        let mut watch = before.watch(&format!("a/app-{}", n % 50)).await;
        let first = next(&mut watch).await;
        watch.say(ack(first.snapshot)).unwrap();
        watches.push(watch);
    }
    for _ in 0..2 {
        let after = Rig::of(&objects);
        before.stop.cancel();
        let began = (after.discovery.0.time.monotonic)();
        for (n, watch) in watches.iter_mut().enumerate() {
            end(watch).await;
            *watch = after.watch(&format!("a/app-{}", n % 50)).await;
            let first = next(watch).await;
            watch.say(ack(first.snapshot)).unwrap();
        }
        while after.discovery.totals().applied < SIDECARS {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let took = (after.discovery.0.time.monotonic)() - began;
        assert!(took < Duration::from_secs(30), "{took:?}");
        let status = after.discovery.status();
        let of = |uid: &str| status.iter().find(|status| &*status.uid == uid).unwrap();
        assert_eq!((of("u").connected, of("u").applied), (SIDECARS, SIDECARS));
        assert_eq!((of("v").connected, of("v").applied), (10, 10));
        assert_eq!((of("u").outdated, of("u").apps.len()), (0, 50));
        before = after;
    }
}

/// Fact K208: a replica that has not seen a new object yet takes it from nobody.
#[tokio::test(start_paused = true)]
async fn what_a_lagging_replica_lacks_is_not_removed() {
    let old = worlds::object("a", "old", 1, &[]);
    let rig = Rig::of(std::slice::from_ref(&old));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let now = || (rig.discovery.0.time.monotonic)();
    rig.discovery.confirm(now());
    let doubted = || async {
        let limit = Duration::from_secs(1);
        tokio::time::timeout(limit, rig.discovery.doubted())
            .await
            .is_ok()
    };
    assert!(!doubted().await);
    let mut fresh = rig.watch("a/x").await;
    assert!(
        next(&mut fresh).await.synced,
        "who knows nothing loses nothing"
    );
    assert!(!doubted().await);

    let mut knows = hello("pod-2");
    knows.seen = HashMap::from([("old".to_owned(), 1), ("new".to_owned(), 1)]);
    let mut watch = rig.open("a/x", knows).await.unwrap();
    let first = next(&mut watch).await;
    assert_eq!(
        (first.synced, uids(&first)),
        (false, vec!["old".to_owned()])
    );
    assert!(doubted().await);

    // What is published of the old cache, and a read from before, confirm nothing.
    let before = now();
    tokio::time::sleep(Duration::from_secs(5)).await;
    rig.discovery
        .publish(worlds::world(&[worlds::object("a", "old", 2, &[])]));
    assert!(!next(&mut watch).await.synced);
    rig.discovery.confirm(before - Duration::from_secs(3));
    assert!(doubted().await);

    rig.discovery.confirm(now());
    let mut last = next(&mut watch).await;
    while last.snapshot == 0 {
        last = next(&mut watch).await;
    }
    assert_eq!((last.synced, uids(&last)), (true, vec!["old".to_owned()]));
    assert!(!doubted().await);
}
