//! The register alone: whom a new policy ends, and whom it leaves in peace.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::Wake,
};

use futures_util::FutureExt as _;
use ironside_chassis::{Clock, tasks::Tasks};
use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_policy::{AppKind, Callee, Caller, Input, Namespaces, PolicySet};
use ironside_resources::access_control;
use ironside_telemetry::metrics::Metrics;
use tokio::sync::mpsc;
use tonic::Code;

use super::*;
use crate::decisions::Decisions;

/// Callers `web` and `job` may do what these rules say.
fn live(web: &str) -> Live {
    let entry = |app: &str, rules: &str| {
        format!("  - appId: {app}\n    namespace: default\n    operations: [{rules}]\n")
    };
    let document = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: p}}\nspec:\n  policies:\n{}{}",
        entry("web", web),
        entry("job", "{name: '/**', action: allow}")
    );
    let object = access_control::decode(&document).unwrap();
    let callee = Callee {
        app_id: AppId::parse("shop").unwrap(),
        namespace: Namespace::parse("default").unwrap(),
        trust_domain: TrustDomain::default(),
        app: AppKind::Http,
    };
    let policy = PolicySet::compile(&Input {
        callee: &callee,
        block: None,
        objects: &[object],
        refused: &[],
        namespaces: Namespaces::Any,
        deny_by_default: false,
    });
    Live {
        policy: Arc::new(policy.unwrap()),
        ..Live::default()
    }
}

fn recorder() -> Arc<Recorder> {
    let metrics = Arc::new(Metrics::disabled());
    Decisions::new(metrics, Clock::system(), false).recorder()
}

/// These rules come, and stay until the time of all calls is over.
async fn judge(register: &InFlight, web: &str) {
    let (recorder, live) = (recorder(), live(web));
    for now in [Tick::ZERO, Tick::ZERO + GRACE] {
        register.judge(&recorder, &live, now).await;
    }
}

fn peer(app: &str) -> Arc<VerifiedPeer> {
    Arc::new(VerifiedPeer {
        id: SpiffeId::parse(&format!("spiffe://public/ns/default/{app}")).unwrap(),
        not_after: std::time::SystemTime::UNIX_EPOCH,
        chain: Arc::new([]),
    })
}

fn entry(register: &Arc<InFlight>, app: &str, method: &str) -> Entry {
    let asked = Asked {
        caller: Caller::Anonymous,
        operation: Operation::invoke(method, Verb::Get),
        raw: method,
        protocol: Protocol::Http,
        trace: None,
    };
    register.enter(Some(&peer(app)), &asked)
}

/// A call, and what revokes it.
pub(crate) fn revocable() -> (Entry, impl Future<Output = ()>) {
    let register = Arc::new(InFlight::default());
    let entry = entry(&register, "web", "a");
    (entry, async move { judge(&register, "").await })
}

/// A body that the test feeds.
pub(crate) fn body() -> (mpsc::Sender<Bytes>, Body) {
    struct Fed(mpsc::Receiver<Bytes>);
    impl HttpBody for Fed {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let data = self.0.poll_recv(cx);
            data.map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }
    let (sender, receiver) = mpsc::channel(4);
    (sender, Fed(receiver).boxed_unsync())
}

#[derive(Default)]
struct Counted(AtomicUsize);

impl Wake for Counted {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll(body: &mut Body, waker: &Arc<Counted>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let waker = Waker::from(Arc::clone(waker));
    Pin::new(body).poll_frame(&mut Context::from_waker(&waker))
}

/// Fact K198: the one that lost its permission ends, the other is not even woken.
#[tokio::test]
async fn only_what_is_no_longer_allowed_ends() {
    let register = Arc::new(InFlight::default());
    let (web_feed, web) = body();
    let (job_feed, job) = body();
    let mut web = entry(&register, "web", "a/b").answer(web);
    let mut job = entry(&register, "job", "a/b").answer(job);
    let wakes = [Arc::default(), Arc::default()];
    assert!(poll(&mut web, &wakes[0]).is_pending());
    assert!(poll(&mut job, &wakes[1]).is_pending());
    judge(&register, "{name: /a, action: allow}").await;
    assert_eq!(wakes[0].0.load(Ordering::Relaxed), 0, "still allowed");
    judge(&register, "{name: /other, action: allow}").await;
    let counts = wakes
        .each_ref()
        .map(|wakes| wakes.0.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 0]);
    let Poll::Ready(Some(Err(BodyError::Denied(status)))) = poll(&mut web, &wakes[0]) else {
        panic!("it goes on");
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        status.message(),
        "access control policy has denied access to id: spiffe://public/ns/default/web operation: a/b verb: GET"
    );
    assert!(web_feed.is_closed(), "the app's answer is let go");
    assert!(matches!(poll(&mut web, &wakes[0]), Poll::Ready(None)));
    job_feed.try_send(Bytes::from_static(b"x")).unwrap();
    assert!(matches!(
        poll(&mut job, &wakes[1]),
        Poll::Ready(Some(Ok(_)))
    ));
    drop((web, job));
    assert!(register.calls().open.is_empty());
}

/// Fact K198: a call whose answer has not begun is refused as if it came now.
#[tokio::test]
async fn a_call_without_an_answer_yet_is_refused() {
    let register = Arc::new(InFlight::default());
    let mut entry = entry(&register, "web", "a");
    let (feed, upload) = body();
    let mut upload = entry.upload(upload);
    let work = pin!(std::future::pending::<Result<(), Status>>());
    let mut waiting = Box::pin(entry.during(work));
    assert!(waiting.as_mut().now_or_never().is_none());
    judge(&register, "").await;
    let status = waiting.await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    feed.try_send(Bytes::from_static(b"late")).unwrap();
    let frame = upload.frame().await.unwrap();
    assert!(
        matches!(frame, Err(BodyError::Denied(_))),
        "nothing more reaches the app"
    );
}

/// A pipeline gave the call another path: both must stay allowed.
#[tokio::test]
async fn the_path_that_the_app_got_counts_too() {
    let register = Arc::new(InFlight::default());
    let mut entry = entry(&register, "web", "door");
    entry.call().rewritten("admin", Verb::Get);
    judge(
        &register,
        "{name: /door, action: allow}, {name: /admin, action: allow}",
    )
    .await;
    let done = entry.during(pin!(std::future::ready(Ok(())))).await;
    assert!(done.is_ok());
    judge(&register, "{name: /door, action: allow}").await;
    let done = entry.during(pin!(std::future::ready(Ok(())))).await;
    assert_eq!(done.unwrap_err().code(), Code::PermissionDenied);
}

/// More calls than one batch, some of which end while it goes on.
#[tokio::test]
async fn every_call_of_a_crowd_is_judged() {
    let register = Arc::new(InFlight::default());
    let mut entries: Vec<Entry> = (0..3 * BATCH + 7)
        .map(|n| entry(&register, if n % 2 == 0 { "web" } else { "job" }, "a"))
        .collect();
    entries.remove(BATCH);
    judge(&register, "").await;
    let revoked = entries
        .iter()
        .filter(|entry| entry.call.revoked.get().is_some());
    assert_eq!(revoked.count(), (3 * BATCH + 7).div_ceil(2) - 1);
}

/// A worker's rules over time, and the calls under them.
struct Reign {
    register: Arc<InFlight>,
    rules: watch::Sender<Arc<Live>>,
    judge: Tasks,
}

impl Reign {
    fn new(web: &str) -> Self {
        let register = Arc::new(InFlight::default());
        let (rules, live) = watch::channel(Arc::new(live(web)));
        let follow = follow(Arc::clone(&register), recorder(), live, Clock::system());
        let judge = Tasks::new();
        judge.spawn("policy-recheck", follow);
        Self {
            register,
            rules,
            judge,
        }
    }

    fn publish(&self, web: &str) {
        self.rules.send_replace(Arc::new(live(web)));
    }
}

const A: &str = "{name: /a, action: allow}";

/// Fact K198: of the five seconds, a call and the message under way leave two for the rules to arrive. That they do is
/// not held here: security 4.8 wants a second at the median, and allows five at worst, where a stream takes eight.
#[test]
fn two_of_five_seconds_are_left_for_the_rules_to_arrive() {
    let own = GRACE + crate::invocation::messages::REST;
    assert!(own <= Duration::from_secs(5 - 2), "{own:?}");
}

/// KL-01: a call under way when the rules change has two seconds to finish as it began.
#[tokio::test(start_paused = true)]
async fn a_call_that_ends_in_time_ends_as_it_began() {
    let reign = Reign::new(A);
    let mut entry = entry(&reign.register, "web", "a");
    reign.publish("");
    let work = pin!(async {
        tokio::time::sleep(GRACE - Duration::from_millis(10)).await;
        Ok(())
    });
    assert!(entry.during(work).await.is_ok());
    assert!(entry.revoked(&Context::from_waker(Waker::noop())).is_none());
}

/// Fact K198: what goes on for longer ends when its time is over, and not later.
#[tokio::test(start_paused = true)]
async fn a_call_that_goes_on_ends_with_its_time() {
    let reign = Reign::new(A);
    let mut entry = entry(&reign.register, "web", "a");
    let start = Clock::system().monotonic();
    reign.publish("");
    let work = pin!(std::future::pending::<Result<(), Status>>());
    let status = entry.during(work).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let took = Clock::system().monotonic() - start;
    assert!(
        (GRACE..GRACE + Duration::from_millis(10)).contains(&took),
        "{took:?}"
    );
}

/// Further changes neither lengthen the time of a call nor shorten that of another.
#[tokio::test(start_paused = true)]
async fn each_call_has_the_time_since_it_was_denied() {
    let reign = Reign::new("{name: /a, action: allow}, {name: /b, action: allow}");
    let mut first = entry(&reign.register, "web", "a");
    let mut second = entry(&reign.register, "web", "b");
    let start = Clock::system().monotonic();
    reign.publish("{name: /b, action: allow}");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reign.publish("{name: /b, action: allow}");
    }
    reign.publish("");
    let never = || std::future::pending::<Result<(), Status>>();
    let clock = Clock::system();
    assert!(first.during(pin!(never())).await.is_err());
    let one = clock.monotonic() - start;
    assert!(second.during(pin!(never())).await.is_err());
    let other = clock.monotonic() - start;
    for (took, want) in [(one, GRACE), (other, GRACE + Duration::from_millis(1500))] {
        assert!(
            (want..want + Duration::from_millis(10)).contains(&took),
            "{took:?}, not {want:?}"
        );
    }
}

/// Rules that are taken back in time end nothing, and time starts anew with the next ones.
#[tokio::test(start_paused = true)]
async fn rules_that_are_taken_back_in_time_end_nothing() {
    let reign = Reign::new(A);
    let mut entry = entry(&reign.register, "web", "a");
    reign.publish("");
    tokio::time::sleep(GRACE / 2).await;
    reign.publish(A);
    tokio::time::sleep(GRACE / 2).await;
    reign.publish("");
    let work = pin!(async {
        tokio::time::sleep(GRACE - Duration::from_millis(10)).await;
        Ok(())
    });
    assert!(entry.during(work).await.is_ok());
}

/// The task ends with whoever publishes.
#[tokio::test(start_paused = true)]
async fn nobody_is_judged_when_nobody_publishes_any_more() {
    let Reign {
        register,
        rules,
        judge,
    } = Reign::new(A);
    drop((register, rules));
    assert!(judge.wait(GRACE).await.is_empty(), "it goes on");
}
