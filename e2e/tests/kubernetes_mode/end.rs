//! The end of a pod: callers go elsewhere, and no call is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ironside_e2e::wait;
use ironside_testkit::{
    grpc::{GrpcApp, GrpcClient},
    http::{self, Answer, HttpApp, Request, Seen},
};
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::{
    dns::pod_address,
    rig::{Cluster, Pod, Sidecar},
};

/// Callers that do not pause.
const CALLERS: usize = 4;

async fn echo() -> HttpApp {
    HttpApp::start(|_: &Seen| Answer::text("ok")).await.unwrap()
}

/// Calls `orders` until it is told to stop; returns how many calls there were.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    callers: JoinSet<Vec<String>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut callers = JoinSet::new();
        for number in 0..CALLERS {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            callers.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let path = "/v1.0/invoke/orders/method/hi";
                    let request = if number % 2 == 0 {
                        Request::get(path)
                    } else {
                        Request::post(path, "body")
                    };
                    match http::send(port, &request).await {
                        Ok(reply) if reply.status() == 200 => {}
                        Ok(reply) => failed.push(format!("{}: {}", reply.status(), reply.text())),
                        Err(error) => failed.push(error.to_string()),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failed
            });
        }
        Self {
            callers,
            stop,
            done,
        }
    }

    /// Waits for some more calls.
    async fn go_on(&self, calls: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + calls;
        let look = || async { (self.done.load(Ordering::Relaxed) >= wanted).then_some(()) };
        wait::until("calls", 3 * wait::LONG, look).await.unwrap();
    }

    /// Waits until an app is no longer called.
    async fn leaves(&self, app: &HttpApp) {
        let mut before = usize::MAX;
        while app.seen().len() != before {
            before = app.seen().len();
            self.go_on(100).await;
        }
    }

    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.callers.join_all().await;
        failed.concat()
    }
}

async fn ended(sidecar: &mut Sidecar) {
    let status = sidecar.program.exit(2 * wait::LONG).await.unwrap();
    assert!(status.success(), "{status}");
}

/// How a pod's containers are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// The app first; the sidecar once it is gone.
    Native,
    /// Both at once; the app serves on for a moment.
    Classic,
}

async fn rollout(style: Style, first: u8) {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let web = cluster
        .start(&Pod::new("web", "web-1", pod_address(first)))
        .await;
    let start = async |number: u8| {
        let app = echo().await;
        let pod = Pod::new(
            "orders",
            &format!("orders-{number}"),
            pod_address(first + number),
        );
        let sidecar = cluster.start(&pod.app(app.port())).await;
        sidecar.healthy("/v1.0/healthz").await;
        (app, sidecar)
    };
    let (mut app, mut sidecar) = start(1).await;
    cluster.dns.set("orders", &[pod_address(first + 1)]);
    let load = Load::start(web.http);
    load.go_on(50).await;
    for number in 2..5 {
        let (next_app, next) = start(number).await;
        let (old, new) = (pod_address(first + number - 1), pod_address(first + number));
        // Ready: both are in DNS; then the old one is to go, and leaves DNS at once.
        cluster.dns.set("orders", &[old, new]);
        load.go_on(50).await;
        cluster.dns.set("orders", &[new]);
        if style == Style::Classic {
            sidecar.program.signal(Signal::TERM);
        }
        // An app ends what it has begun before it goes.
        load.leaves(&app).await;
        app.stop().await;
        if style == Style::Native {
            load.go_on(20).await;
            sidecar.program.signal(Signal::TERM);
        }
        ended(&mut sidecar).await;
        load.go_on(50).await;
        (app, sidecar) = (next_app, next);
    }
    let failed = load.end().await;
    assert!(
        failed.is_empty(),
        "{style:?}: {} failed: {:?}",
        failed.len(),
        &failed[..failed.len().min(5)]
    );
    drop((app, sidecar));
}

#[tokio::test]
async fn a_rollout_of_classic_sidecars_loses_no_call() {
    rollout(Style::Classic, 40).await;
}

#[tokio::test]
async fn a_rollout_of_native_sidecars_loses_no_call() {
    rollout(Style::Native, 50).await;
}

/// A sidecar outlives its app: a call that reaches it did not reach the app, and is made elsewhere at once.
#[tokio::test]
async fn a_pod_whose_app_is_gone_loses_no_call() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let web = cluster
        .start(&Pod::new("web", "web-1", pod_address(80)))
        .await;
    let (mut gone, stays) = (echo().await, echo().await);
    let mut sidecars = Vec::new();
    for (number, app) in [(81, &gone), (82, &stays)] {
        let pod = Pod::new("orders", &format!("orders-{number}"), pod_address(number));
        let sidecar = cluster.start(&pod.app(app.port())).await;
        sidecar.healthy("/v1.0/healthz").await;
        sidecars.push(sidecar);
    }
    gone.stop().await;
    // DNS has not heard of it.
    cluster
        .dns
        .set("orders", &[pod_address(81), pod_address(82)]);
    for number in 0..20 {
        let path = "/v1.0/invoke/orders/method/hi";
        let reply = http::send(web.http, &Request::post(path, "body"))
            .await
            .unwrap();
        assert_eq!(reply.status(), 200, "{number}: {}", reply.text());
    }
    assert_eq!(stays.seen().len(), 20);
}

/// An app that echoes each message as it comes, and answers invocations with nothing.
async fn talk() -> GrpcApp {
    let started = GrpcApp::start(|mut exchange| {
        Box::pin(async move {
            exchange.begin_reply(&[]);
            if exchange.path().ends_with("/OnInvoke") {
                exchange.reply(b"");
                exchange.end(0, "", &[]);
                return;
            }
            while let Some(message) = exchange.message().await {
                exchange.reply(&message);
            }
            exchange.end(0, "", &[]);
        })
    });
    started.await.unwrap()
}

/// The same for a gRPC app: calls that are passed on message by message, where more messages are still to come, those
/// that say that they are streams, and invocations.
#[tokio::test]
async fn a_pod_whose_app_is_gone_loses_no_stream() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let web = cluster
        .start(&Pod::new("web", "web-1", pod_address(90)))
        .await;
    let (mut gone, stays) = (talk().await, talk().await);
    let mut sidecars = Vec::new();
    for (number, app) in [(91, &gone), (92, &stays)] {
        let pod = Pod::new("orders", &format!("orders-{number}"), pod_address(number));
        let sidecar = cluster.start(&pod.app(app.port()).grpc()).await;
        sidecar.healthy("/v1.0/healthz").await;
        sidecars.push(sidecar);
    }
    gone.stop().await;
    // DNS has not heard of it.
    cluster
        .dns
        .set("orders", &[pod_address(91), pod_address(92)]);
    let client = GrpcClient::connect(web.grpc).await.unwrap();
    let names = [("dapr-app-id", "orders")];
    let declared = [("dapr-app-id", "orders"), ("dapr-stream", "true")];
    for number in 0..20 {
        let names = if number % 2 == 0 {
            &names[..]
        } else {
            &declared[..]
        };
        let mut call = client.open("/e2e.Orders/Talk", names).await.unwrap();
        call.send(b"one");
        assert_eq!(
            call.message().await.as_deref(),
            Some(&b"one"[..]),
            "{number}"
        );
        call.send(b"two");
        call.half_close();
        let reply = call.finish().await;
        assert_eq!(reply.code(), Some(0), "{number}: {}", reply.message());
    }
    assert_eq!(stays.seen().len(), 20);
    for number in 0..20 {
        let path = "/v1.0/invoke/orders/method/hi";
        let reply = http::send(web.http, &Request::post(path, "body"))
            .await
            .unwrap();
        assert_eq!(reply.status(), 200, "{number}: {}", reply.text());
    }
    assert_eq!(stays.seen().len(), 40);
    // What sidecars say among themselves is not for apps.
    sidecars.pop();
    let reply = client.call("/e2e.Orders/Talk", &names, &[b"one"]).await;
    let reply = reply.unwrap();
    assert_eq!(reply.code(), Some(14), "{}", reply.message());
    assert_eq!(reply.header("ironside-undelivered"), None);
    assert_eq!(reply.trailer("ironside-undelivered"), None);
}

/// An app in preStop, or one that is stopped together with its sidecar, calls until its end.
#[tokio::test]
async fn the_apps_last_calls_are_served() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let callee = echo().await;
    let orders = Pod::new("orders", "orders-1", pod_address(61)).app(callee.port());
    let orders = cluster.start(&orders).await;
    orders.healthy("/v1.0/healthz").await;
    cluster.dns.set("orders", &[pod_address(61)]);
    let mut app = echo().await;
    let web = Pod::new("web", "web-1", pod_address(62)).app(app.port());
    let mut web = cluster.start(&web).await;
    web.healthy("/v1.0/healthz").await;
    web.program.signal(Signal::TERM);
    web.program
        .logged("Sending callers elsewhere")
        .await
        .unwrap();
    // Probes look elsewhere, the app does not.
    assert_eq!(web.health("/v1.0/healthz").await, 500);
    for _ in 0..20 {
        assert_eq!(web.call("orders", "hi").await.unwrap().status(), 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    app.stop().await;
    ended(&mut web).await;
    assert!(web.program.log().contains("Daprd shutdown gracefully"));
}

/// A Job's sidecar without app port ends soon after it is told to, and well.
#[tokio::test]
async fn a_sidecar_that_nobody_calls_ends_at_once() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let pod = Pod::new("job", "job-1", pod_address(70)).flag("--dapr-block-shutdown-duration", "");
    let mut job = cluster.start(&pod).await;
    job.healthy("/v1.0/healthz").await;
    job.program.signal(Signal::TERM);
    ended(&mut job).await;
    assert!(
        !job.program.log().contains("callers have had"),
        "it waited to the end"
    );
}
