//! Get and List over mutual TLS, and who may.

use super::rig::{LONG, OPERATOR, Rig, identity, now};
use ironside_identity::SpiffeId;
use ironside_proto::operator as proto;
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{Fault, Rule, When};
use ironside_transport::{HANDSHAKE_LIMIT, TlsClient};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tonic::Code;

pub(super) fn object(kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    });
    let all = object.as_object_mut().unwrap();
    all.extend(rest.as_object().unwrap().clone());
    object
}

pub(super) fn endpoint(name: &str, scopes: &[&str], spec: Value) -> Value {
    object(
        "HTTPEndpoint",
        "ns1",
        name,
        json!({"scopes": scopes, "spec": spec}),
    )
}

fn secret(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "ns1"},
        "data": {"key": "c2VjcmV0"},
    })
}

fn header(secret: &str) -> Value {
    json!({"baseUrl": "https://a", "headers": [{"name": "h", "secretKeyRef": {"name": secret, "key": "key"}}]})
}

pub(super) fn read(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

fn names(list: &[bytes::Bytes]) -> Vec<String> {
    let name = |json: &bytes::Bytes| read(json)["metadata"]["name"].as_str().unwrap().to_owned();
    list.iter().map(name).collect()
}

/// KG-01, KG-02: who shows no certificate of these roots is not served.
#[tokio::test]
async fn strangers_get_no_connection() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // An alert of TLS, or the end; no HTTP/2.
    let _ended = tokio::time::timeout(LONG, plain.read_to_end(&mut answer))
        .await
        .unwrap();
    assert!(answer.len() < 16, "{answer:?}");
    let other = Ca::new();
    let id = "spiffe://cluster.local/ns/ns1/app1";
    let stranger = TlsClient::new(identity(&other, id, &rig.ca), now());
    let tcp = TcpStream::connect(address).await.unwrap();
    let operator = SpiffeId::parse(OPERATOR).unwrap();
    if let Ok(mut stream) = stranger.connect_control_plane(tcp, &operator).await {
        // TLS 1.3 clients learn of it when they read.
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(LONG, stream.read_to_end(&mut answer));
        assert!(ended.await.unwrap().is_err() || answer.is_empty());
    }
}

/// An address that connects and says nothing has a share, beyond which it is turned away at once; others come in.
#[tokio::test]
async fn silence_of_one_address_keeps_nobody_out() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut silent = Vec::new();
    for _ in 0..257 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(address).await.unwrap());
    }
    let mut last = silent.pop().unwrap();
    let mut byte = [0];
    let ended = tokio::time::timeout(HANDSHAKE_LIMIT / 2, last.read(&mut byte));
    let ended = ended.await.expect("turned away before a handshake's time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let mut client = rig.client(address, "ns1/app1").await;
    let namespace = String::from("ns1");
    let list = client.list_resiliency(proto::ListResiliencyRequest { namespace });
    list.await.unwrap();
}

/// KG-03 for every RPC, and KG-10.
#[tokio::test]
async fn a_sidecar_reads_its_own_namespace_only() {
    let rig = Rig::start().await;
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    for namespace in ["ns2", ""] {
        let namespace = namespace.to_owned();
        macro_rules! refused {
            ($($rpc:ident($request:expr);)*) => {$(
                let status = client.$rpc($request).await.err().unwrap();
                assert_eq!(status.code(), Code::PermissionDenied, stringify!($rpc));
                let text = "identity does not match requested namespace";
                assert!(status.message().contains(text), "{}", status.message());
            )*};
        }
        let name = String::from("x");
        refused! {
            get_configuration(proto::GetConfigurationRequest { name: name.clone(), namespace: namespace.clone() });
            configuration_update(proto::ConfigurationUpdateRequest { namespace: namespace.clone() });
            get_resiliency(proto::GetResiliencyRequest { name: name.clone(), namespace: namespace.clone() });
            list_resiliency(proto::ListResiliencyRequest { namespace: namespace.clone() });
            resiliency_update(proto::ResiliencyUpdateRequest { namespace: namespace.clone() });
            list_http_endpoints(proto::ListHttpEndpointsRequest { namespace: namespace.clone() });
            http_endpoint_update(proto::HttpEndpointUpdateRequest { namespace: namespace.clone() });
            list_components(proto::ListComponentsRequest { namespace: namespace.clone() });
            component_update(proto::ComponentUpdateRequest { namespace: namespace.clone() });
            list_subscriptions(ironside_proto::google::protobuf::Empty {});
            list_subscriptions_v2(proto::ListSubscriptionsRequest { namespace: namespace.clone() });
            subscription_update(proto::SubscriptionUpdateRequest { namespace: namespace.clone() });
            list_mcp_servers(proto::ListMcpServersRequest { namespace: namespace.clone() });
            mcp_server_update(proto::McpServerUpdateRequest { namespace: namespace.clone() });
            list_workflow_access_policy(proto::ListWorkflowAccessPolicyRequest { namespace: namespace.clone() });
            workflow_access_policy_update(proto::WorkflowAccessPolicyUpdateRequest { namespace: namespace.clone() });
        }
    }
    let namespace = "ns1".to_owned();
    let subscriptions = proto::ListSubscriptionsRequest { namespace };
    let listed = client.list_subscriptions_v2(subscriptions).await.unwrap();
    assert!(listed.into_inner().subscriptions.is_empty());
}

/// KG-04, KG-05, KG-23.
#[tokio::test]
async fn a_configuration_is_given_whole_with_its_secrets() {
    let rig = Rig::start().await;
    let traced = |reference: Value| {
        let headers = json!([{"name": "h", "secretKeyRef": reference}]);
        json!({"spec": {"tracing": {"otel": {"headers": headers}}, "ofALaterVersion": {"x": [1]}}})
    };
    for (name, reference) in [
        ("good", json!({"name": "s", "key": "key"})),
        ("keyless", json!({"name": "s"})),
        ("gone", json!({"name": "gone", "key": "key"})),
    ] {
        rig.server
            .put(object("Configuration", "ns1", name, traced(reference)));
    }
    rig.server.put(secret("s"));
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let mut get = async |name: &str| {
        let (name, namespace) = (name.to_owned(), "ns1".to_owned());
        let request = proto::GetConfigurationRequest { name, namespace };
        let got = client.get_configuration(request).await;
        got.map(|got| read(&got.into_inner().configuration))
    };
    let good = get("good").await.unwrap();
    assert_eq!(good["kind"], "Configuration");
    assert_eq!(
        good["spec"]["tracing"]["otel"]["headers"][0]["value"],
        "secret"
    );
    assert_eq!(good["spec"]["ofALaterVersion"], json!({"x": [1]}));
    assert_eq!(
        get("keyless").await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(
        get("gone").await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let missing = get("missing").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert!(missing.message().contains("not found"), "{missing}");
}

/// KG-06, KG-07, KG-08, KG-09.
#[tokio::test]
async fn lists_hold_what_is_for_the_app() {
    let rig = Rig::start().await;
    for (name, scopes) in [
        ("r1", json!([])),
        ("r2", json!(["app1"])),
        ("r3", json!(["app2"])),
    ] {
        rig.server.put(object(
            "Resiliency",
            "ns1",
            name,
            json!({"scopes": scopes, "spec": {}}),
        ));
        rig.server.put(object(
            "Component",
            "ns1",
            name,
            json!({"scopes": scopes, "spec": {}}),
        ));
    }
    rig.server
        .put(object("Component", "ns2", "foreign", json!({"spec": {}})));
    rig.server.put(secret("s"));
    rig.server.put(endpoint("good", &[], header("s")));
    rig.server.put(endpoint("broken", &[], header("gone")));
    rig.server.put(endpoint("others", &["app2"], header("s")));
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let namespace = "ns1".to_owned();
    let request = proto::ListResiliencyRequest {
        namespace: namespace.clone(),
    };
    let listed = client.list_resiliency(request).await.unwrap().into_inner();
    assert_eq!(names(&listed.resiliencies), ["r1", "r2", "r3"]);
    let request = proto::ListComponentsRequest {
        namespace: namespace.clone(),
    };
    let listed = client.list_components(request).await.unwrap().into_inner();
    assert_eq!(names(&listed.components), ["r1", "r2"]);
    let request = proto::ListHttpEndpointsRequest { namespace };
    let listed = client
        .list_http_endpoints(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(names(&listed.http_endpoints), ["good"]);
    assert_eq!(
        read(&listed.http_endpoints[0])["spec"]["headers"][0]["value"],
        "c2VjcmV0"
    );
    let text = rig.event("SecretNotResolved", "broken").await;
    assert!(text.contains("gone"), "{text}");
}

/// Decision 11: without the right the object is left out, and the Event names the value of the chart.
#[tokio::test]
async fn a_missing_right_names_the_value() {
    let rig = Rig::start().await;
    rig.server.put(endpoint("e", &[], header("s")));
    let all = json!({"rules": [
        {"apiGroups": ["dapr.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
    ]});
    rig.server.restrict(Rule::of_role(&all));
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let namespace = "ns1".to_owned();
    let request = proto::ListHttpEndpointsRequest { namespace };
    let listed = client
        .list_http_endpoints(request)
        .await
        .unwrap()
        .into_inner();
    assert!(listed.http_endpoints.is_empty());
    let text = rig.event("SecretNotResolved", "e").await;
    assert!(
        text.contains("dapr_operator.secretResolution.namespaces"),
        "{text}"
    );
}

/// KO-21: a kind whose definition is missing is an empty list.
#[tokio::test]
async fn a_kind_that_is_not_there_is_empty() {
    let rig = Rig::start().await;
    let when = When::new("list", "resiliencies");
    rig.server.inject(when, Fault::Status(404), usize::MAX);
    let address = rig.serve().await;
    let mut client = rig.client(address, "ns1/app1").await;
    let namespace = "ns1".to_owned();
    let request = proto::ListResiliencyRequest { namespace };
    let listed = client.list_resiliency(request).await.unwrap().into_inner();
    assert!(listed.resiliencies.is_empty());
}

/// Many who ask at once are one request to the API server.
#[tokio::test]
async fn a_secret_is_read_once_for_all_who_ask_together() {
    let rig = Rig::start().await;
    rig.server.put(secret("s"));
    rig.server.put(endpoint("e", &[], header("s")));
    let address = rig.serve().await;
    let hold = rig.server.hold(When::new("get", "secrets"));
    let client = rig.client(address, "ns1/app1").await;
    let ask = |mut client: super::rig::Client| async move {
        let namespace = "ns1".to_owned();
        let request = proto::ListHttpEndpointsRequest { namespace };
        let listed = client.list_http_endpoints(request).await.unwrap();
        listed.into_inner().http_endpoints.len()
    };
    let clients = [
        rig.client(address, "ns1/a").await,
        rig.client(address, "ns1/b").await,
        client,
    ];
    let release = async {
        rig.until("a read", |server| {
            (!server.seen(&When::new("get", "secrets")).is_empty()).then_some(())
        })
        .await;
        hold.release();
    };
    let (counts, ()) = tokio::join!(futures_util::future::join_all(clients.map(ask)), release);
    assert_eq!(counts, [1, 1, 1]);
    assert_eq!(rig.server.peak("get", "secrets"), 1);
}
