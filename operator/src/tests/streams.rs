//! Streams over mutual TLS: what is told, to whom, and what is not.

use super::api::{endpoint, object, read};
use super::rig::{Client, LONG, Rig};
use ironside_proto::operator as proto;
use ironside_proto::operator::ResourceEventType as Event;
use ironside_testkit::kube::When;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::{Request, Streaming};

type Endpoints = Streaming<proto::HttpEndpointUpdateEvent>;
type Configurations = Streaming<proto::ConfigurationUpdateEvent>;

async fn endpoints(client: &mut Client) -> Endpoints {
    let namespace = "ns1".to_owned();
    let request = proto::HttpEndpointUpdateRequest { namespace };
    client
        .http_endpoint_update(request)
        .await
        .unwrap()
        .into_inner()
}

fn url(url: &str) -> Value {
    json!({"baseUrl": url})
}

/// The next event: what, name, URL.
async fn next(stream: &mut Endpoints) -> (Event, String, String) {
    let event = tokio::time::timeout(LONG, stream.message()).await.unwrap();
    let event = event.unwrap().unwrap();
    let kind = event.r#type();
    if event.http_endpoints.is_empty() {
        return (kind, String::new(), String::new());
    }
    let json = read(&event.http_endpoints);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (
        kind,
        text(&json["metadata"]["name"]),
        text(&json["spec"]["baseUrl"]),
    )
}

fn said(event: Event, name: &str, url: &str) -> (Event, String, String) {
    (event, name.to_owned(), url.to_owned())
}

/// KG-11, KG-12, KG-13, KG-14, KG-15: changes as each app sees them.
#[tokio::test]
async fn each_app_hears_of_its_changes() {
    let rig = Rig::start().await;
    rig.server.put(endpoint("old", &[], url("0")));
    let address = rig.serve().await;
    let mut one = rig.client(address, "ns1/app1").await;
    let mut two = rig.client(address, "ns1/app2").await;
    let (mut one, mut two) = (endpoints(&mut one).await, endpoints(&mut two).await);
    // KG-11: the first that is told is the first that changes, not what was there.
    rig.server.put(endpoint("e", &["app2"], url("1")));
    assert_eq!(next(&mut two).await, said(Event::Created, "e", "1"));
    rig.server.put(endpoint("e", &["app1", "app2"], url("1")));
    assert_eq!(next(&mut one).await, said(Event::Created, "e", "1"));
    assert_eq!(
        next(&mut two).await,
        said(Event::Updated, "e", "1"),
        "KG-14"
    );
    // KG-15: metadata alone is no change; the next one that is told is the edit.
    let mut labelled = endpoint("e", &["app1", "app2"], url("1"));
    labelled["metadata"]["labels"] = json!({"a": "b"});
    rig.server.put(labelled);
    rig.server.drop_watches();
    rig.server.put(endpoint("e", &["app1", "app2"], url("2")));
    assert_eq!(next(&mut one).await, said(Event::Updated, "e", "2"));
    assert_eq!(next(&mut two).await, said(Event::Updated, "e", "2"));
    // KG-13.
    rig.server.put(endpoint("e", &["app2"], url("3")));
    assert_eq!(next(&mut one).await, said(Event::Deleted, "e", "2"));
    assert_eq!(next(&mut two).await, said(Event::Updated, "e", "3"));
    rig.server.delete(&endpoint("e", &[], url("")));
    assert_eq!(next(&mut two).await, said(Event::Deleted, "e", "3"));
    rig.server.put(endpoint("last", &[], url("1")));
    assert_eq!(next(&mut one).await, said(Event::Created, "last", "1"));
}

/// A snapshot is for those who ask for it, and has an end.
#[tokio::test]
async fn who_asks_gets_all_there_is_first() {
    let rig = Rig::start().await;
    for (name, scopes) in [("a", &[][..]), ("b", &["app1"]), ("c", &["app2"])] {
        rig.server.put(endpoint(name, scopes, url("1")));
    }
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let namespace = "ns1".to_owned();
    let mut request = Request::new(proto::HttpEndpointUpdateRequest { namespace });
    request
        .metadata_mut()
        .insert("ironside-snapshot", "1".parse().unwrap());
    let response = client.http_endpoint_update(request).await.unwrap();
    assert_eq!(response.metadata().get("ironside-snapshot").unwrap(), "1");
    let mut stream = response.into_inner();
    assert_eq!(next(&mut stream).await, said(Event::Created, "a", "1"));
    assert_eq!(next(&mut stream).await, said(Event::Created, "b", "1"));
    assert_eq!(next(&mut stream).await, said(Event::Unknown, "", ""));
    rig.server.put(endpoint("a", &[], url("2")));
    assert_eq!(next(&mut stream).await, said(Event::Updated, "a", "2"));
    let mut other = rig.client(address, "ns1/app1").await;
    let namespace = "ns1".to_owned();
    let plain = other.http_endpoint_update(proto::HttpEndpointUpdateRequest { namespace });
    let plain = plain.await.unwrap();
    assert!(plain.metadata().get("ironside-snapshot").is_none());
}

/// KG-20: a client that reads nothing holds up nobody, and gets the last state when it reads.
#[tokio::test]
async fn a_slow_client_holds_up_nobody() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut slow = rig.client(address, "ns1/app1").await;
    let mut quick = rig.client(address, "ns1/app2").await;
    let (mut slow, mut quick) = (endpoints(&mut slow).await, endpoints(&mut quick).await);
    let padding = "x".repeat(4096);
    for edit in 0..1000 {
        rig.server.put(endpoint(
            "e",
            &[],
            json!({"baseUrl": edit.to_string(), "padding": padding}),
        ));
    }
    for stream in [&mut quick, &mut slow] {
        let mut events = 0;
        while next(stream).await.2 != "999" {
            events += 1;
        }
        assert!(events < 1000);
    }
}

/// KG-22: a secret that is missing ends no stream, and comes with the next change at the latest.
#[tokio::test]
async fn a_missing_secret_ends_no_stream() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let mut stream = endpoints(&mut client).await;
    let headers = json!([{"name": "h", "secretKeyRef": {"name": "s", "key": "key"}}]);
    let spec = |url: &str| json!({"baseUrl": url, "headers": headers});
    rig.server.put(endpoint("e", &[], spec("1")));
    rig.event("SecretNotResolved", "e").await;
    rig.server.put(endpoint("other", &[], url("1")));
    assert_eq!(next(&mut stream).await, said(Event::Created, "other", "1"));
    rig.server.put(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "ns1"},
        "data": {"key": "eA=="}}),
    );
    rig.server.put(endpoint("e", &[], spec("2")));
    assert_eq!(next(&mut stream).await, said(Event::Created, "e", "2"));
}

fn pod(name: &str, app_id: &str, config: Option<&str>, address: &str) -> Value {
    let mut annotations = json!({"dapr.io/enabled": "true", "dapr.io/app-id": app_id});
    if let Some(config) = config {
        annotations["dapr.io/config"] = config.into();
    }
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "ns1", "annotations": annotations},
        "status": {"phase": "Running", "podIP": address}})
}

fn configuration(name: &str, mark: u32) -> Value {
    object(
        "Configuration",
        "ns1",
        name,
        json!({"spec": {"mark": mark}}),
    )
}

async fn configurations(client: &mut Client, pod: Option<&'static str>) -> Configurations {
    let namespace = "ns1".to_owned();
    let mut request = Request::new(proto::ConfigurationUpdateRequest { namespace });
    if let Some(pod) = pod {
        request
            .metadata_mut()
            .insert("ironside-pod-name", pod.parse().unwrap());
    }
    client
        .configuration_update(request)
        .await
        .unwrap()
        .into_inner()
}

/// The next event: name and mark.
async fn configured(stream: &mut Configurations) -> (String, u64) {
    let event = tokio::time::timeout(LONG, stream.message()).await.unwrap();
    let json = read(&event.unwrap().unwrap().configuration);
    let name = json["metadata"]["name"].as_str().unwrap().to_owned();
    (name, json["spec"]["mark"].as_u64().unwrap())
}

/// KG-16, KG-18: during a rollout each pod has its own.
#[tokio::test]
async fn a_sidecar_hears_of_the_configuration_of_its_pod() {
    let rig = Rig::start().await;
    for name in ["c1", "c2", "c3"] {
        rig.server.put(configuration(name, 0));
    }
    rig.server.put(pod("a-old", "app1", Some("c1"), "10.0.0.1"));
    rig.server
        .put(pod("b-new", "app1", Some("c2"), "127.0.0.1"));
    rig.server.put(pod("other", "app2", Some("c3"), "10.0.0.3"));
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let mut named = configurations(&mut client, Some("a-old")).await;
    // Of the reference, which sends no name: its address is that of the new pod.
    let mut addressed = configurations(&mut client, None).await;
    // A name of another app's pod counts for nothing.
    let mut lying = configurations(&mut client, Some("other")).await;
    for (name, mark) in [("c3", 1), ("c1", 2), ("c2", 3), ("c1", 4), ("c2", 5)] {
        rig.server.put(configuration(name, mark));
    }
    // Changes may be joined; the last of each is told.
    for (stream, want) in [
        (&mut named, ("c1", 4)),
        (&mut addressed, ("c2", 5)),
        (&mut lying, ("c2", 5)),
    ] {
        loop {
            let (name, mark) = configured(stream).await;
            assert_eq!(name, want.0);
            if mark == want.1 {
                break;
            }
        }
    }
}

/// KG-17, KG-19: silence until a pod names one.
#[tokio::test]
async fn a_pod_may_name_a_configuration_later() {
    let rig = Rig::start().await;
    rig.server.put(configuration("c1", 0));
    rig.server.put(pod("p", "app1", None, "10.0.0.1"));
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let mut stream = configurations(&mut client, Some("p")).await;
    rig.server.put(configuration("c1", 1));
    // It is read, and thrown away, before the pod names it.
    let metrics = rig.common.metrics.exposition();
    let idle = "dapr_operator_stream_queue_length{kind=\"Configuration\"} 0";
    rig.until("an empty queue", |_| metrics().contains(idle).then_some(()))
        .await;
    rig.server.put(pod("p", "app1", Some("c1"), "10.0.0.1"));
    let pods = &rig.pods;
    rig.until("the pod", |_| {
        let held = pods.lock();
        held.of_app("ns1", "app1", "p")?.config.clone()
    })
    .await;
    rig.server.put(configuration("c1", 2));
    assert_eq!(configured(&mut stream).await, ("c1".to_owned(), 2));
}

/// KG-21: streams end with a status, and in time.
#[tokio::test]
async fn a_stop_ends_streams() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let mut stream = endpoints(&mut client).await;
    let namespace = "ns1".to_owned();
    let silent = proto::McpServerUpdateRequest { namespace };
    let mut silent = client.mcp_server_update(silent).await.unwrap().into_inner();
    let stuck = rig.tasks.shutdown(Duration::from_secs(5));
    let ended = async { (stream.message().await, silent.message().await) };
    let ((told, silence), stuck) = tokio::join!(ended, stuck);
    for status in [told.err().unwrap(), silence.err().unwrap()] {
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert_eq!(status.message(), "operator is shutting down");
    }
    assert!(stuck.is_empty(), "{stuck:?}");
}

/// KG-24: many streams hear of one edit, of which each holds one copy at most.
#[tokio::test]
async fn many_streams_hear_of_one_edit() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut streams = Vec::new();
    for number in 0..20 {
        let mut client = rig.client(address, &format!("ns1/app{number}")).await;
        for _ in 0..50 {
            streams.push(endpoints(&mut client).await);
        }
    }
    rig.server.put(endpoint("e", &[], url("1")));
    for stream in &mut streams {
        assert_eq!(next(stream).await, said(Event::Created, "e", "1"));
    }
    let text = rig.common.metrics.exposition()();
    let count = "dapr_operator_stream_delivery_seconds_count{kind=\"HTTPEndpoint\"} 1000";
    assert!(text.contains(count), "{text}");
    assert!(rig.server.seen(&When::new("list", "secrets")).is_empty());
}
