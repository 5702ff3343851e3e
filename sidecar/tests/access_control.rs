//! What a sidecar says about the rules it loads: once for each finding, with the place of the rule.

#![cfg(test)]

mod rig;

use ironside_proto::{
    common::{HttpExtension, InvokeRequest, http_extension::Verb},
    internals::InternalInvokeRequest,
};
use ironside_testkit::{
    grpc::{GrpcClient, encode},
    http::{Connection, Gate, Request},
};
use prost::Message as _;
use rig::{Daprd, NEVER, Plan, app, hanging, rpc, within, write};
use serde_json::Value;

const DECISIONS: &str = "/v1.0-alpha1/accesscontrol/decisions";
const UNARY: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";

/// A Configuration with this block.
fn block(rules: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec:\n  accessControl:\n{rules}"
    )
}

fn object(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\nmetadata: {{name: {name}}}\nspec:\n  policies:\n  - {{appId: web, namespace: default, defaultAction: allow}}\n"
    )
}

fn start(configuration: &str, objects: &[&str]) -> Daprd {
    let plan = Plan::new(NEVER);
    let config = plan.write("rules.yaml", configuration);
    let folder = plan.path("resources");
    std::fs::create_dir(&folder).unwrap();
    for name in objects {
        write(&folder.join(format!("{name}.yaml")), &object(name));
    }
    let words = [config.to_str().unwrap(), folder.to_str().unwrap()].map(str::to_owned);
    let [config, folder] = words.each_ref().map(String::as_str);
    plan.words(&["--config", config, "--resources-path", folder])
        .start()
}

/// A call of an app's method.
fn invoke(method: &str) -> InternalInvokeRequest {
    InternalInvokeRequest {
        ver: 1,
        message: Some(InvokeRequest {
            method: method.to_owned(),
            http_extension: Some(HttpExtension {
                verb: Verb::Get.into(),
                ..HttpExtension::default()
            }),
            ..InvokeRequest::default()
        }),
        ..InternalInvokeRequest::default()
    }
}

/// How many lines hold all of these.
fn count(sidecar: &Daprd, parts: &[&str]) -> usize {
    let holds = |line: &&String| parts.iter().all(|part| line.contains(part));
    sidecar.log().iter().filter(holds).count()
}

/// Rows K101, K105, K108, K109: rules of the block that do not do what they look like.
#[tokio::test]
async fn rules_of_the_block_that_do_nothing_are_warned_of() {
    let rules = "    policies:
    - {appId: web, namespace: default, trustDomain: public, defaultAction: deny}
    - appId: web
      namespace: default
      trustDomain: public
      defaultAction: deny
      operations:
      - {name: /lower, httpVerb: [get], action: allow}
      - {name: /none, action: allow}
      - {name: /fine, httpVerb: [GET], action: allow}
";
    let mut sidecar = start(&block(rules), &[]);
    let at = "Configuration/rules /spec/accessControl/policies/";
    for (what, rule) in [
        ("an entry that a later one replaces", "0: replaced"),
        ("a verb in lower case", "1/operations/0: dead"),
        ("no verb", "1/operations/1: dead"),
    ] {
        let line = sidecar.line(&format!("{at}{rule}")).await;
        assert!(line.contains("level=warning"), "{what}: {line}");
    }
    let line = sidecar.line("has policies and no defaultAction").await;
    assert!(
        line.contains("level=warning") && line.contains("Configuration rules"),
        "{line}"
    );
    assert_eq!(count(&sidecar, &["/operations/2"]), 0);

    // Another edit says nothing twice, and the finding that is new.
    let skip = sidecar.log().len();
    let more = format!("{rules}      - {{name: /again, httpVerb: [put], action: allow}}\n");
    write(&sidecar.path("rules.yaml"), &block(&more));
    sidecar.line_after(skip, "/operations/3: dead").await;
    assert_eq!(count(&sidecar, &[at, "1/operations/0: dead"]), 1);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Row K101: the flag is what the documentation says of an omitted default, so there is nothing to warn of.
#[tokio::test]
async fn a_strict_sidecar_need_not_warn_of_an_omitted_default() {
    let rules = "    policies:\n    - {appId: web, namespace: default, trustDomain: public, defaultAction: allow}\n";
    let plan = Plan::new(NEVER);
    let config = plan.write("rules.yaml", &block(rules));
    let words = [
        "--access-control-strict",
        "--config",
        config.to_str().unwrap(),
    ];
    let mut sidecar = plan.words(&words).start();
    sidecar.http_port().await;
    assert_eq!(count(&sidecar, &["no defaultAction"]), 0);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Facts M8, M9, row K199: both forms at once are one warning for each start; the last object that goes is one.
#[tokio::test]
async fn both_forms_and_the_end_of_one_are_warned_of() {
    let mut sidecar = start(&block("    defaultAction: deny\n"), &["one", "two"]);
    let both = "both spec.accessControl of the Configuration and AccessControl objects apply";
    sidecar.line(both).await;
    let folder = sidecar.path("resources");
    let gone = "the last AccessControl for this app is gone";
    std::fs::remove_file(folder.join("one.yaml")).unwrap();
    sidecar
        .line("Received AccessControl DELETED event: one")
        .await;
    assert_eq!(count(&sidecar, &[gone]), 0);
    std::fs::remove_file(folder.join("two.yaml")).unwrap();
    let line = sidecar.line(gone).await;
    assert!(line.contains("level=warning"), "{line}");
    let skip = sidecar.log().len();
    write(&folder.join("one.yaml"), &object("one"));
    sidecar
        .line_after(skip, "Received AccessControl CREATED event: one")
        .await;
    assert_eq!(sidecar.terminate().await, 0);
    assert_eq!(count(&sidecar, &[both]), 1);
}

/// Without a token the list is for this machine only: loopback and the socket file, and no other address.
#[tokio::test]
async fn decisions_are_shown_to_this_machine_only() {
    let words = ["--dapr-listen-addresses", ""];
    let mut sidecar = Plan::new(NEVER).words(&words).start();
    let port = sidecar.http_port().await;
    let found = if_addrs::get_if_addrs().unwrap();
    let addresses = found.iter().map(if_addrs::Interface::ip);
    let mut asked = 0;
    for address in addresses.filter(std::net::IpAddr::is_ipv4) {
        let host = format!("{address}:{port}");
        let mut connection = within("a connection", Connection::to(&host)).await.unwrap();
        let reply = connection.send(&Request::get(DECISIONS)).await.unwrap();
        if address.is_loopback() {
            assert_eq!(
                (reply.status(), reply.text().as_str()),
                (200, "{\"decisions\":[]}\n")
            );
        } else {
            assert_eq!(reply.status(), 403);
            assert!(
                reply.text().contains("\"ERR_ACCESS_CONTROL_DECISIONS\""),
                "{}",
                reply.text()
            );
        }
        asked += 1;
    }
    assert!(asked > 0);
    assert_eq!(sidecar.terminate().await, 0);

    let plan = Plan::new(NEVER);
    let folder = plan.path("sockets");
    std::fs::create_dir(&folder).unwrap();
    let words = ["--unix-domain-socket", folder.to_str().unwrap()];
    let mut sidecar = plan.words(&words).start();
    let socket = folder.join("dapr-appa-http.socket");
    sidecar.line("HTTP server listening on").await;
    let mut connection = Connection::unix(&socket).await.unwrap();
    let reply = connection.send(&Request::get(DECISIONS)).await.unwrap();
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact 4.9, rows K162, K164: what a peer sends that speaks to the port itself is told as it came, and what is
/// refused before any rule is told too.
#[tokio::test]
async fn calls_of_a_strange_peer_are_told_as_they_came() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let port = sidecar.internal_port().await;
    let mut message = invoke("public/..//admin");
    let extension = message.message.as_mut().unwrap();
    extension.http_extension = Some(HttpExtension {
        verb: Verb::Put.into(),
        querystring: "token=s3cret".to_owned(),
    });
    let reply = rpc(port, UNARY, &[], &message.encode_to_vec()).await;
    assert_eq!(reply.code(), Some(0), "{}", reply.message());
    for (path, callee) in [
        ("/pkg.S/M", "other"),
        ("/dapr.proto.runtime.v1.AppCallback/OnInvoke", "appa"),
    ] {
        let reply = rpc(port, path, &[("dapr-callee-app-id", callee)], b"").await;
        assert_eq!(reply.code(), Some(7), "{path}");
    }
    let text = sidecar.get(DECISIONS).await.text();
    assert!(!text.contains("s3cret"), "{text}");
    let list: Value = serde_json::from_str(&text).unwrap();
    let told = |at: usize| {
        let field = |name: &str| {
            list["decisions"][at][name]
                .as_str()
                .unwrap_or("-")
                .to_owned()
        };
        let names = [
            "decision",
            "reason",
            "operation",
            "rawOperation",
            "verb",
            "protocol",
            "caller",
        ];
        names.map(field).join(" ")
    };
    let want = [
        "deny reserved-service /dapr.proto.runtime.v1.AppCallback/OnInvoke - NONE proxy ",
        "deny relay-refused /pkg.S/M - NONE proxy ",
        "allow no-policy /admin public/..//admin PUT http ",
    ];
    assert_eq!([told(0), told(1), told(2)], want);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact 4.8, rows K197, TM31: a call whose last byte comes after a denial was published is under the denial, however
/// early it began.
#[tokio::test]
async fn a_unary_call_is_decided_when_it_is_whole() {
    let app = app().await;
    let plan = Plan::new(app.port());
    let config = plan.write("rules.yaml", &block("    defaultAction: allow\n"));
    let words = ["--config", config.to_str().unwrap()];
    let mut sidecar = plan.words(&words).start();
    sidecar.ready().await;
    let port = sidecar.internal_port().await;
    let message = invoke("late").encode_to_vec();
    let reply = rpc(port, UNARY, &[], &message).await;
    assert_eq!(reply.code(), Some(0), "{}", reply.message());

    let client = GrpcClient::connect(port).await.unwrap();
    let mut call = within("a stream", client.open(UNARY, &[])).await.unwrap();
    let framed = encode(&message);
    let half = framed.len() / 2;
    call.send_data(framed.slice(..half), false);
    // A call of the same connection that is answered: the half before it is there.
    let reply = client.call(UNARY, &[], &[&message]).await.unwrap();
    assert_eq!(reply.code(), Some(0), "{}", reply.message());
    let skip = sidecar.log().len();
    write(
        &sidecar.path("rules.yaml"),
        &block("    defaultAction: deny\n"),
    );
    sidecar.line_after(skip, "resources are in force").await;
    call.send_data(framed.slice(half..), true);
    let reply = within("an answer", call.finish()).await;
    assert_eq!(reply.code(), Some(7), "{}", reply.message());
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact 4.8: a path that a pipeline makes of another is under the rules of when the app would get it, not under
/// those of when the call came.
#[tokio::test]
async fn a_rewritten_path_is_under_the_rules_of_now() {
    let gate = Gate::new();
    let app = hanging(&gate).await;
    let plan = Plan::new(app.port());
    let folder = plan.path("resources");
    std::fs::create_dir(&folder).unwrap();
    let alias = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: alias}\nspec:\n  type: middleware.http.routeralias\n  version: v1\n  metadata:\n  - name: routes\n    value: '{\"/door\": \"/admin\"}'\n";
    write(&folder.join("alias.yaml"), alias);
    let rules = |action: &str| {
        format!(
            "{}  appHttpPipeline: {{handlers: [{{name: alias, type: middleware.http.routeralias}}]}}\n",
            block(&format!("    defaultAction: {action}\n"))
        )
    };
    let config = plan.write("rules.yaml", &rules("allow"));
    let words = [config.to_str().unwrap(), folder.to_str().unwrap()].map(str::to_owned);
    let [config, folder] = words.each_ref().map(String::as_str);
    let places = ["--app-max-concurrency", "1"];
    let plan = plan.words(&["--config", config, "--resources-path", folder]);
    let mut sidecar = plan.words(&places).start();
    sidecar.ready().await;
    let client = GrpcClient::connect(sidecar.internal_port().await)
        .await
        .unwrap();
    let open = async |method: &str| {
        let mut call = client.open(UNARY, &[]).await.unwrap();
        call.send_data(encode(&invoke(method).encode_to_vec()), true);
        call
    };
    let first = within("a call", open("hang")).await;
    within("the app", async {
        while !app.seen().iter().any(|seen| seen.path() == "/hang") {
            sidecar.get("/v1.0/healthz").await;
        }
    })
    .await;
    // It is allowed, and waits for the place that the first one has.
    let second = within("a call", open("door")).await;
    within("a decision", async {
        while !sidecar.get(DECISIONS).await.text().contains("\"/door\"") {}
    })
    .await;
    let skip = sidecar.log().len();
    write(&sidecar.path("rules.yaml"), &rules("deny"));
    sidecar.line_after(skip, "resources are in force").await;
    gate.open();
    let first = within("an answer", first.finish()).await;
    assert_eq!(first.code(), Some(0), "it was with the app already");
    let second = within("an answer", second.finish()).await;
    assert_eq!(second.code(), Some(7), "{}", second.message());
    assert!(!app.seen().iter().any(|seen| seen.path() == "/admin"));
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact F11: objects of an operator that cannot be asked would refuse a peer without identity, so it is refused; the
/// own app is not.
#[tokio::test]
async fn an_operator_that_cannot_be_asked_leaves_the_app_closed() {
    let app = app().await;
    let plan = Plan::new(app.port());
    let config = plan.write("rules.yaml", "spec: {}\n");
    let words = ["--config", config.to_str().unwrap()];
    let address = ["--control-plane-address", "127.0.0.1:1"];
    let mut sidecar = plan.words(&words).words(&address).start();
    let line = sidecar.line("calls of peers are refused").await;
    assert!(line.contains("level=warning"), "{line}");
    sidecar.ready().await;
    let port = sidecar.internal_port().await;
    let message = invoke("door").encode_to_vec();
    let reply = rpc(port, UNARY, &[], &message).await;
    assert_eq!(reply.code(), Some(14), "{}", reply.message());
    assert_eq!(
        reply.message(),
        "access control policy is not available yet"
    );
    let own = sidecar.get("/v1.0/invoke/appa/method/door").await;
    assert_eq!(own.status(), 200, "{}", own.text());

    let skip = sidecar.log().len();
    write(
        &sidecar.path("rules.yaml"),
        &block("    defaultAction: allow\n"),
    );
    sidecar.line_after(skip, "resources are in force").await;
    let reply = rpc(port, UNARY, &[], &message).await;
    assert_eq!(reply.code(), Some(14), "a file does not open it");
    let seen = app.seen();
    assert_eq!(seen.iter().filter(|seen| seen.path() == "/door").count(), 1);
    assert_eq!(sidecar.terminate().await, 0);
}

/// A warning that stands is said once, however often something else is edited.
#[tokio::test]
async fn an_edit_of_something_else_repeats_no_warning() {
    let rules = "    policies:\n    - {appId: web, namespace: default, trustDomain: public}\n";
    let mut sidecar = start(&block(rules), &[]);
    sidecar.line("has policies and no defaultAction").await;
    sidecar.http_port().await;
    let skip = sidecar.log().len();
    let endpoint = "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {name: ep}\nspec: {baseUrl: 'http://127.0.0.1:1'}\n";
    write(&sidecar.path("resources").join("ep.yaml"), endpoint);
    sidecar.line_after(skip, "resources are in force").await;
    assert_eq!(count(&sidecar, &["has policies and no defaultAction"]), 1);
    assert_eq!(sidecar.terminate().await, 0);
}
