//! Files that change under a running `daprd` (process-interface 2.9, 10).

mod rig;

use std::time::Duration;

use ironside_testkit::http::{Connection, Request};
use rig::{NEVER, Plan, app, within, write};
use rustix::process::Signal;

fn endpoint(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata: {{name: {name}}}\nspec: {{baseUrl: \"http://127.0.0.1:1\"}}\n"
    )
}

fn component(name: &str, kind: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec: {{type: {kind}, version: v1}}\n"
    )
}

/// Fact: process-interface 10, rows 10 to 12: the process, its ports and its connections stay.
#[tokio::test]
async fn edits_take_effect_in_place() {
    let plan = Plan::new(NEVER);
    let config = plan.write("config.yaml", "spec: {}\n");
    std::fs::create_dir(plan.path("resources")).unwrap();
    let folder = plan.path("resources");
    let words = [
        "--config",
        config.to_str().unwrap(),
        "--resources-path",
        folder.to_str().unwrap(),
    ];
    let mut sidecar = plan.words(&words).start();
    let (pid, port) = (sidecar.pid(), sidecar.http_port().await);
    let mut kept = Connection::tcp(port).await.unwrap();
    let text = kept
        .send(&Request::get("/v1.0/metadata"))
        .await
        .unwrap()
        .text();
    assert!(!text.contains("httpEndpoints"), "{text}");

    write(&folder.join("ep.yaml"), &endpoint("ep"));
    sidecar
        .line("Received HTTPEndpoint CREATED event: ep")
        .await;
    sidecar
        .line("configuration and resources are in force")
        .await;
    let text = kept
        .send(&Request::get("/v1.0/metadata"))
        .await
        .unwrap()
        .text();
    assert!(
        text.contains(r#""httpEndpoints":[{"name":"ep"}]"#),
        "{text}"
    );

    // The same content again is no event; the next real one is.
    let before = sidecar.log().len();
    write(&folder.join("ep.yaml"), &endpoint("ep"));
    write(&folder.join("other.yaml"), &endpoint("other"));
    sidecar
        .line_after(before, "Received HTTPEndpoint CREATED event: other")
        .await;
    sidecar
        .line_after(before, "configuration and resources are in force")
        .await;
    assert!(
        !sidecar.log()[before..]
            .iter()
            .any(|line| line.contains("event: ep"))
    );

    let before = sidecar.log().len();
    write(
        &config,
        "spec: {api: {denied: [{name: metadata, version: v1.0, protocol: http}]}}\n",
    );
    sidecar.signal(Signal::HUP);
    sidecar.line("Received signal 'hangup'; restarting").await;
    sidecar
        .line_after(before, "configuration and resources are in force")
        .await;
    let text = kept
        .send(&Request::get("/v1.0/metadata"))
        .await
        .unwrap()
        .text();
    assert!(text.contains("ERR_DIRECT_INVOKE"), "{text}");
    assert_eq!(sidecar.pid(), pid);
    assert_eq!(sidecar.terminate().await, 0);
}

/// A bad edit keeps the last good state and says what to correct.
#[tokio::test]
async fn a_bad_edit_is_one_line_and_changes_nothing() {
    let plan = Plan::new(NEVER);
    let config = plan.write(
        "config.yaml",
        "spec: {logging: {apiLogging: {enabled: true}}}\n",
    );
    let mut sidecar = plan.words(&["--config", config.to_str().unwrap()]).start();
    let port = sidecar.http_port().await;
    write(&config, "spec:\n  api: [not, a, map]\n");
    let line = sidecar.line("an edit cannot be used").await;
    assert!(
        line.contains("config.yaml") && line.contains("the last good state stays in force"),
        "{line}"
    );
    assert_eq!(
        within("an answer", rig::ask(port, Request::get("/v1.0/metadata")))
            .await
            .status(),
        200
    );
    sidecar.line("HTTP API Called").await;
    write(&config, "spec: {}\n");
    sidecar
        .line("configuration and resources are in force")
        .await;
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: process-interface 10 row 13, 6.2.
#[tokio::test]
async fn two_components_of_one_name_end_the_start() {
    let plan = Plan::new(NEVER);
    for file in ["a.yaml", "b.yaml"] {
        plan.write(file, &component("same", "middleware.http.uppercase"));
    }
    let folder = plan.path("");
    let (code, log) = plan
        .words(&["--resources-path", folder.to_str().unwrap()])
        .start()
        .end()
        .await;
    assert_eq!(code, 1);
    let text = "Fatal error from runtime: failed to load components: duplicate definition of Component name same (middleware.http.uppercase/v1) with existing same (middleware.http.uppercase/v1)";
    assert!(log.lines().any(|line| line.contains(text)), "{log}");
}

/// Fact: process-interface 10 row 14, 8: other building blocks and unreadable documents are lines, not ends.
#[tokio::test]
async fn a_folder_full_of_other_blocks_is_accepted_with_one_line_each() {
    let app = app().await;
    let plan = Plan::new(app.port());
    plan.write("state.yaml", &component("statestore", "state.redis"));
    plan.write("pubsub.yaml", &component("pubsub", "pubsub.redis"));
    plan.write(
        "sub.yaml",
        "apiVersion: dapr.io/v2alpha1\nkind: Subscription\nmetadata: {name: s}\nspec: {}\n",
    );
    plan.write("res.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec: {policies: {retries: {x: {policy: nonsense}}}}\n");
    plan.write("broken.yaml", "kind: [\n");
    let folder = plan.path("");
    let mut sidecar = plan
        .words(&["--resources-path", folder.to_str().unwrap()])
        .start();
    sidecar.ready().await;
    let log = sidecar.log();
    for text in [
        "statestore (state.redis/v1)",
        "pubsub (pubsub.redis/v1)",
        "Subscription s",
        "Could not read resiliency policy r: ",
        "broken.yaml",
    ] {
        assert_eq!(
            log.iter().filter(|line| line.contains(text)).count(),
            1,
            "{text}:\n{}",
            log.join("\n")
        );
    }
    assert!(
        !sidecar
            .get("/v1.0/metadata")
            .await
            .text()
            .contains("components")
    );
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation 5.5, SI-136, SI-137; issue: a pipeline that names another type stops the start.
#[tokio::test]
async fn pipelines_are_built_from_components() {
    let app = app().await;
    let plan = Plan::new(app.port());
    let alias = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: alias}\nspec:\n  type: middleware.http.routeralias\n  version: v1\n  metadata:\n  - name: routes\n    value: '{\"/short\": \"/v1.0/invoke/appa/method/long\"}'\n";
    plan.write("alias.yaml", &alias.replace("routeralias", "routealias"));
    let pipeline = |kind: &str| {
        format!(
            "spec: {{httpPipeline: {{handlers: [{{name: alias, type: {kind}}}, {{name: gone, type: middleware.http.uppercase}}]}}}}\n"
        )
    };
    let config = plan.write("config.conf", &pipeline("middleware.http.routealias"));
    let folder = plan.path("");
    let words = [
        "--resources-path",
        folder.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let (code, log) = plan.words(&words).start().end().await;
    assert_eq!(code, 1, "{log}");
    assert!(
        log.contains("httpPipeline names component alias (middleware.http.routealias/v1)"),
        "{log}"
    );
    assert!(log.contains("set spec.ignoreErrors: true"), "{log}");

    let plan = Plan::new(app.port());
    plan.write("alias.yaml", alias);
    let config = plan.write("config.conf", &pipeline("middleware.http.routeralias"));
    let folder = plan.path("");
    let words = [
        "--resources-path",
        folder.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let mut sidecar = plan.words(&words).start();
    sidecar
        .line("Component loaded: alias (middleware.http.routeralias/v1)")
        .await;
    sidecar.ready().await;
    assert_eq!(sidecar.get("/short").await.text(), "GET /long");
    assert!(sidecar.get("/v1.0/metadata").await.text().contains(
        r#""components":[{"name":"alias","type":"middleware.http.routeralias","version":"v1"}]"#
    ));
    assert_eq!(sidecar.terminate().await, 0);
}

/// The periodic listing finds what no event told.
#[tokio::test]
async fn a_folder_that_was_replaced_is_found_by_the_listing() {
    let plan = Plan::new(NEVER);
    let folder = plan.path("resources");
    std::fs::create_dir(&folder).unwrap();
    let words = [
        "--resources-path",
        folder.to_str().unwrap(),
        "--hot-reload-reconcile-interval",
        "200ms",
    ];
    let mut sidecar = plan.words(&words).start();
    sidecar.http_port().await;
    std::fs::rename(&folder, folder.with_extension("old")).unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("ep.yaml"), endpoint("ep")).unwrap();
    let seen = tokio::time::timeout(
        Duration::from_secs(20),
        sidecar.line("Received HTTPEndpoint CREATED event: ep"),
    );
    assert!(seen.await.is_ok());
    assert_eq!(sidecar.terminate().await, 0);
}
