//! The fake API server as an unmodified client sees it.

#![cfg(test)]

use ironside_testkit::kube::{ApiServer, Fault, Rule, Token, When};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn client(server: &ApiServer) -> Client {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Another test of this process may have been quicker.
    let _installed = provider.install_default();
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": name}},
        "data": {"key": value},
    }))
    .unwrap()
}

fn code(error: kube::Error) -> u16 {
    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    status.code
}

#[tokio::test]
async fn the_second_of_two_writers_conflicts() {
    let server = ApiServer::start_tls();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "ns");
    let first = maps.create(&PostParams::default(), &map("a", "1")).await;
    let first = first.unwrap();
    assert!(first.uid().is_some() && first.resource_version().is_some());
    let again = maps.create(&PostParams::default(), &map("a", "1")).await;
    assert_eq!(code(again.unwrap_err()), 409);
    let mut changed = first.clone();
    changed.data = Some([("key".to_owned(), "2".to_owned())].into());
    let second = maps.replace("a", &PostParams::default(), &changed).await;
    let second = second.unwrap();
    assert_ne!(second.resource_version(), first.resource_version());
    let late = maps.replace("a", &PostParams::default(), &changed).await;
    assert_eq!(code(late.unwrap_err()), 409);
    let same = maps.replace("a", &PostParams::default(), &second).await;
    assert_eq!(
        same.unwrap().resource_version(),
        second.resource_version(),
        "nothing changed"
    );
    let patch = Patch::Merge(json!({"data": {"key": null, "other": "3"}}));
    let patched = maps.patch("a", &PatchParams::default(), &patch).await;
    let other = [("other".to_owned(), "3".to_owned())].into();
    assert_eq!(patched.unwrap().data, Some(other));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("a").await.unwrap_err()), 404);
}

/// The next event that says something of an object: its name and value, or the name with a minus when it is gone.
async fn next<S>(events: &mut S) -> String
where
    S: futures_util::Stream<Item = Result<Event<ConfigMap>, watcher::Error>> + Unpin,
{
    let value = |object: &ConfigMap| {
        let data = object.data.clone().unwrap_or_default();
        format!("{}={}", object.name_any(), data["key"])
    };
    let next = async {
        loop {
            match events.next().await.unwrap() {
                Ok(Event::Apply(object) | Event::InitApply(object)) => return value(&object),
                Ok(Event::Delete(object)) => return format!("-{}", object.name_any()),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
        }
    };
    tokio::time::timeout(SOON, next).await.unwrap()
}

#[tokio::test]
async fn a_watch_goes_on_after_drops_and_begins_anew_after_a_compaction() {
    let server = ApiServer::start();
    let maps: Api<ConfigMap> = Api::all(client(&server).await);
    let put = |name: &str, value: &str| {
        let mut object = serde_json::to_value(map(name, value)).unwrap();
        object["metadata"]["namespace"] = json!("ns");
        server.put(object)
    };
    put("a", "1");
    put("other", "1");
    let config = watcher::Config::default().labels("app=a");
    let mut events = pin!(watcher(maps, config));
    assert_eq!(next(&mut events).await, "a=1");
    put("a", "2");
    assert_eq!(next(&mut events).await, "a=2");
    server.drop_watches();
    put("a", "3");
    assert_eq!(next(&mut events).await, "a=3");
    let lists = When::new("list", "configmaps");
    assert_eq!(server.seen(&lists).len(), 1, "the watch went on");
    // Without a bookmark the client's revision is older than what is kept.
    put("other", "2");
    server.compact();
    server.drop_watches();
    assert_eq!(next(&mut events).await, "a=3");
    assert_eq!(server.seen(&lists).len(), 2, "it was listed again");
    server.delete(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "a", "namespace": "ns"}}));
    assert_eq!(next(&mut events).await, "-a");
}

#[tokio::test]
async fn lists_come_in_pages_and_selections() {
    let server = ApiServer::start();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "ns");
    for name in ["a", "b", "c"] {
        let object = map(name, "1");
        maps.create(&PostParams::default(), &object).await.unwrap();
    }
    let page = maps.list(&ListParams::default().limit(2)).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let token = page.metadata.continue_.unwrap();
    let rest = ListParams::default().limit(2).continue_token(&token);
    let rest = maps.list(&rest).await;
    assert_eq!(rest.unwrap().items[0].name_any(), "c");
    let named = ListParams::default().fields("metadata.name=b");
    let metadata = maps.list_metadata(&named).await.unwrap();
    assert_eq!(metadata.items.len(), 1);
    let whole = serde_json::to_value(&metadata.items[0]).unwrap();
    assert!(whole.get("data").is_none());
    let not = ListParams::default().labels("!app");
    assert!(maps.list(&not).await.unwrap().items.is_empty());
    let elsewhere: Api<ConfigMap> = Api::namespaced(client(&server).await, "elsewhere");
    assert!(
        elsewhere
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn faults_strike_as_often_as_they_were_asked_to() {
    let server = ApiServer::start();
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await, "ns");
    let create = When::new("create", "configmaps");
    server.inject(create.clone(), Fault::Status(500), 1);
    let make = async |name: &str| maps.create(&PostParams::default(), &map(name, "1")).await;
    assert_eq!(code(make("a").await.unwrap_err()), 500);
    assert!(server.objects("v1", "ConfigMap").is_empty());
    server.inject(create.clone(), Fault::DoneButStatus(500), 1);
    assert_eq!(code(make("a").await.unwrap_err()), 500);
    assert_eq!(server.objects("v1", "ConfigMap").len(), 1);
    server.inject(create.clone(), Fault::Close, 1);
    assert!(make("b").await.is_err());
    assert!(make("b").await.is_ok());
    assert_eq!(server.seen(&create).len(), 4);
    let hold = server.hold(When::new("get", "configmaps").named("a"));
    let mut held = pin!(maps.get("a"));
    let waited = tokio::time::timeout(Duration::from_millis(50), &mut held).await;
    assert!(waited.is_err());
    assert!(maps.get("b").await.is_ok());
    hold.release();
    assert!(held.await.is_ok());
}

/// A Lease is taken by whoever names the revision in effect, and by nobody who names none.
#[tokio::test]
async fn a_lease_has_one_holder() {
    let server = ApiServer::start();
    let leases: Api<Lease> = Api::namespaced(client(&server).await, "ns");
    let lease: Lease = serde_json::from_value(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15},
    }))
    .unwrap();
    let how = PostParams::default();
    let held = leases.create(&how, &lease).await.unwrap();
    assert_eq!(code(leases.create(&how, &lease).await.unwrap_err()), 409);
    let by = |holder: &str, revision: Option<String>| {
        let mut lease = lease.clone();
        lease.metadata.resource_version = revision;
        lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
        lease
    };
    let replace = async |lease: &Lease| leases.replace("leader", &how, lease).await;
    let blind = replace(&by("two", None)).await;
    assert_eq!(code(blind.unwrap_err()), 422);
    let revision = held.resource_version();
    assert!(replace(&by("two", revision.clone())).await.is_ok());
    assert_eq!(
        code(replace(&by("three", revision)).await.unwrap_err()),
        409
    );
}

#[tokio::test]
async fn a_token_is_good_for_its_audiences_only() {
    let server = ApiServer::start();
    let reviews: Api<TokenReview> = Api::all(client(&server).await);
    let token = Token::service_account("ns", "sa", &["sentry", "vault"]).bound_to("pod", "uid");
    server.accept("secret", token);
    let review = async |token: &str, audiences: &[&str]| {
        let spec = TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: Some(audiences.iter().map(|&text| text.to_owned()).collect()),
        };
        let review = TokenReview {
            spec,
            ..TokenReview::default()
        };
        let made = reviews.create(&PostParams::default(), &review).await;
        made.unwrap().status.unwrap()
    };
    let good = review("secret", &["sentry", "x"]).await;
    assert_eq!(good.authenticated, Some(true));
    assert_eq!(good.audiences.unwrap(), ["sentry"]);
    let user = good.user.unwrap();
    assert_eq!(user.username.unwrap(), "system:serviceaccount:ns:sa");
    let extra = user.extra.unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["pod"]);
    for (token, audiences) in [("secret", ["x"]), ("other", ["sentry"])] {
        let bad = review(token, &audiences).await;
        assert!(bad.authenticated.is_none() && bad.error.is_some());
    }
}

#[tokio::test]
async fn rules_are_enforced_with_their_names() {
    let server = ApiServer::start();
    server.restrict(Rule::of_role(&json!({
        "metadata": {"namespace": "ns"},
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "list"]},
        ],
    })));
    let client = client(&server).await;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "ns");
    for name in ["a", "b"] {
        let object = map(name, "1");
        maps.create(&PostParams::default(), &object).await.unwrap();
    }
    assert!(maps.get("a").await.is_ok());
    assert_eq!(code(maps.get("b").await.unwrap_err()), 403);
    assert_eq!(
        code(maps.list(&ListParams::default()).await.unwrap_err()),
        403
    );
    let named = ListParams::default().fields("metadata.name=a");
    assert_eq!(maps.list(&named).await.unwrap().items.len(), 1);
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "ns");
    assert_eq!(code(secrets.get("a").await.unwrap_err()), 403);
    let elsewhere: Api<ConfigMap> = Api::namespaced(client, "elsewhere");
    assert_eq!(code(elsewhere.get("a").await.unwrap_err()), 403);
}
