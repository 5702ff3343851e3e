//! The keeper against servers that answer as the test says.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    pin::Pin,
    sync::Mutex,
};

use super::{
    dns::{Answer, Miss},
    *,
};

/// Answers in order; the last one stays.
#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<String>>,
}

impl Ask for Script {
    fn addresses(&self, name: &str) -> Pin<Box<dyn Future<Output = Answer> + Send>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 {
            answers.pop_front()
        } else {
            answers.front().cloned()
        };
        Box::pin(std::future::ready(answer.expect("an answer")))
    }
}

struct Rig {
    dns: Arc<Script>,
    resolver: Arc<Kubernetes>,
    _tasks: Tasks,
}

impl Rig {
    fn new(answers: &[Answer]) -> Self {
        let dns = Arc::new(Script::default());
        dns.answers.lock().unwrap().extend(answers.iter().cloned());
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let pattern = Pattern::services("cluster.local");
        let resolver = run(
            pattern,
            50002,
            Arc::clone(&dns) as Arc<dyn Ask>,
            BELIEF,
            &tasks,
            &clock,
        );
        Self {
            dns,
            resolver,
            _tasks: tasks,
        }
    }

    fn now_say(&self, answer: Answer) {
        let mut answers = self.dns.answers.lock().unwrap();
        answers.clear();
        answers.push_back(answer);
    }

    async fn resolve(&self) -> Result<String, String> {
        let (app, namespace) = (
            AppId::parse("orders").unwrap(),
            Namespace::parse("shop").unwrap(),
        );
        let found = self.resolver.resolve(&app, &namespace).await;
        found
            .map(|a| a.as_str().to_owned())
            .map_err(|e| e.to_string())
    }

    /// What look-ups give until DNS was asked twice more.
    async fn through_two_answers(&self) -> BTreeSet<String> {
        let before = self.asked();
        let mut given = BTreeSet::new();
        for _ in 0..2000 {
            given.insert(self.resolve().await.unwrap());
            if self.asked() >= before + 2 {
                return given;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("DNS was not asked twice");
    }

    fn asked(&self) -> usize {
        self.dns.asked.lock().unwrap().len()
    }

    /// Calls until the addresses that come are exactly these.
    async fn until(&self, wanted: &[&str]) {
        for _ in 0..2000 {
            let mut seen: Vec<String> = Vec::new();
            for _ in 0..wanted.len().max(2) {
                seen.extend(self.resolve().await);
            }
            seen.sort_unstable();
            seen.dedup();
            if seen == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {wanted:?}");
    }
}

fn pods(last: &[u8]) -> Answer {
    Ok(last
        .iter()
        .map(|last| IpAddr::from([10, 0, 0, *last]))
        .collect())
}

/// KO-29: ready pods of the headless Service, at the own internal port.
#[tokio::test]
async fn pods_of_the_service_take_turns() {
    let rig = Rig::new(&[pods(&[1, 2])]);
    assert_eq!(rig.resolve().await.unwrap(), "10.0.0.1:50002");
    assert_eq!(rig.resolve().await.unwrap(), "10.0.0.2:50002");
    assert_eq!(
        rig.dns.asked.lock().unwrap()[0],
        "orders-dapr.shop.svc.cluster.local."
    );
}

/// Pods that come and go are seen while the app is in use.
#[tokio::test]
async fn pods_that_leave_are_left() {
    let rig = Rig::new(&[pods(&[1, 2])]);
    rig.until(&["10.0.0.1:50002", "10.0.0.2:50002"]).await;
    rig.now_say(pods(&[2, 3]));
    rig.until(&["10.0.0.2:50002", "10.0.0.3:50002"]).await;
    // DNS forgets them all, which still answer: they count, one that failed does not.
    rig.now_say(Err(Miss::Absent));
    assert_eq!(rig.through_two_answers().await.len(), 2);
    let at = |address: &str| Authority::parse(address).unwrap();
    let failed = |address: &str| rig.resolver.failed(&at(address));
    failed("10.0.0.2:50002");
    rig.until(&["10.0.0.3:50002"]).await;
    // To which a call broke, or a connection ended, is still there.
    for ended in [Kubernetes::broke, Kubernetes::left] {
        ended(&rig.resolver, &at("10.0.0.3:50002"));
        let given = rig.through_two_answers().await;
        assert_eq!(given, ["10.0.0.3:50002".to_owned()].into());
    }
    failed("10.0.0.3:50002");
    rig.until(&[]).await;
    let text = rig.resolve().await.unwrap_err();
    assert_eq!(
        text,
        "failed to resolve address for 'orders-dapr.shop.svc.cluster.local': no such host"
    );
}

/// A server that is down takes no address away.
#[tokio::test]
async fn silence_takes_nothing_away() {
    let rig = Rig::new(&[pods(&[1])]);
    rig.until(&["10.0.0.1:50002"]).await;
    rig.now_say(Err(Miss::Failed("request timed out".into())));
    let given = rig.through_two_answers().await;
    assert_eq!(given, ["10.0.0.1:50002".to_owned()].into());
    assert_eq!(rig.resolve().await.unwrap(), "10.0.0.1:50002");
    let never = Rig::new(&[Err(Miss::Failed("request timed out".into()))]);
    let text = never.resolve().await.unwrap_err();
    assert!(text.ends_with("request timed out"), "{text}");
}

/// What failed is passed over at once, and asked for.
#[tokio::test]
async fn an_address_that_failed_is_passed_over() {
    let rig = Rig::new(&[pods(&[1, 2])]);
    rig.until(&["10.0.0.1:50002", "10.0.0.2:50002"]).await;
    let before = rig.asked();
    rig.resolver
        .failed(&Authority::parse("10.0.0.1:50002").unwrap());
    rig.until(&["10.0.0.2:50002"]).await;
    for _ in 0..1000 {
        if rig.asked() > before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody was asked");
}

/// "There is none" is not asked for with every call.
#[tokio::test]
async fn absence_is_remembered_for_a_moment() {
    let rig = Rig::new(&[Err(Miss::Absent)]);
    let all = futures_util::future::join_all((0..100).map(|_| rig.resolve()));
    assert!(all.await.iter().all(Result::is_err));
    assert!(rig.asked() <= 2, "{}", rig.asked());
}

#[test]
fn settings_are_read() {
    let parse = |value: Value, domain: Option<&str>| Settings::parse(&value, domain);
    let plain = parse(Value::Null, None).unwrap();
    assert_eq!(plain.pattern, Pattern::services("cluster.local"));
    assert!(plain.servers.is_empty());
    assert_eq!(
        parse(Value::Null, Some("corp")).unwrap().pattern,
        Pattern::services("corp")
    );
    let given = serde_json::json!({ "ClusterDomain": "x.y", "nameservers": "127.0.0.1:5353, ::1" });
    let given = parse(given, Some("corp")).unwrap();
    assert_eq!(given.pattern, Pattern::services("x.y"));
    let servers: Vec<String> = given.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["127.0.0.1:5353", "[::1]:53"]);
    for bad in [
        serde_json::json!({ "clusterDomain": 7 }),
        serde_json::json!({ "template": "{{.ID}}" }),
        serde_json::json!({ "nameservers": "dns.example" }),
    ] {
        assert!(parse(bad.clone(), None).is_err(), "{bad}");
    }
}
