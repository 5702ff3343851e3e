//! An API server that fails, forgets and delays: what is known stays known, and what changes is heard of.

use crate::rig::{Cluster, Pod, SENTRY, claim, healthz, until};
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{Fault, Token, When};
use serde_json::json;
use tonic::Code;

/// Watches that end, and a history that is gone, are made good by another list; failing lists by another attempt.
#[tokio::test]
async fn a_change_is_heard_of_after_every_kind_of_break() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    // Only a watch can tell: the API server is not asked for what is known already.
    let is_allowed = async || {
        cluster
            .ask(&sentry, claim("shop", "orders", &token))
            .await
            .is_ok()
    };
    let allow = |list: &str| {
        let annotations = json!({"dapr.io/allowed-app-ids": list});
        let metadata =
            json!({"name": "orders-sa", "namespace": "shop", "annotations": annotations});
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
        cluster.server.put(account);
    };
    assert!(is_allowed().await);
    let (list, watch) = (
        When::new("list", "serviceaccounts"),
        When::new("watch", "serviceaccounts"),
    );
    let breaks: [&dyn Fn(); 5] = [
        &|| cluster.server.drop_watches(),
        &|| {
            cluster.server.compact();
            cluster.server.drop_watches();
        },
        &|| {
            cluster.server.inject(watch.clone(), Fault::Status(410), 1);
            cluster.server.drop_watches();
        },
        &|| {
            cluster.server.inject(watch.clone(), Fault::Close, 2);
            cluster.server.drop_watches();
        },
        &|| {
            cluster.server.inject(list.clone(), Fault::Status(500), 1);
            cluster.server.inject(watch.clone(), Fault::Status(410), 1);
            cluster.server.drop_watches();
        },
    ];
    for (round, break_it) in breaks.into_iter().enumerate() {
        let (list, expected) = if round % 2 == 0 {
            ("billing", false)
        } else {
            ("orders", true)
        };
        // A bookmark first, so that a compaction does not always hit an old revision.
        cluster.server.bookmark();
        break_it();
        allow(list);
        until("the change", async || is_allowed().await == expected).await;
    }
    assert_eq!(healthz(&sentry).await, 200, "it was ready all the time");
}

/// Fact: security.md O-S8: the Secret is looked at even where it may not be watched.
#[tokio::test]
async fn a_secret_that_cannot_be_watched_is_looked_at() {
    let cluster = Cluster::new();
    let ca = Ca::new();
    cluster.supply(&ca);
    let forbidden = Fault::Status(403);
    cluster
        .server
        .inject(When::new("list", "secrets"), forbidden.clone(), usize::MAX);
    cluster
        .server
        .inject(When::new("watch", "secrets"), forbidden, usize::MAX);
    let sentry = cluster.sentry(&[]).await;
    sentry.line("Cannot watch objects of kind Secret, trying again");
    let next = ca.new_issuer();
    cluster.supply(&next);
    sentry.line("Issuer credentials changed; reloading");
}

/// Fact: security.md O-S12: three seconds, and a code that sidecars retry.
#[tokio::test]
async fn a_review_that_takes_too_long_is_no_refusal() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    let hold = cluster.server.hold(When::new("create", "tokenreviews"));
    let asked = cluster.ask(&sentry, claim("shop", "orders", &token)).await;
    let Err(status) = asked else { panic!("issued") };
    let text = "too many token reviews under way, try again later";
    assert_eq!(
        (status.code(), status.message()),
        (Code::ResourceExhausted, text)
    );
    hold.release();
    assert!(
        cluster
            .ask(&sentry, claim("shop", "orders", &token))
            .await
            .is_ok()
    );
}

/// Fact: security.md O-S12: a restart of the API server must not end sidecars that start, as a refusal does.
#[tokio::test]
async fn an_api_server_that_is_away_is_no_refusal() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    let ghost = Token::service_account("shop", "orders-sa", &[SENTRY]);
    cluster
        .server
        .accept("ghost", ghost.bound_to("ghost", "no pod has it"));
    let refused = async |token: &str| {
        let asked = cluster.ask(&sentry, claim("shop", "orders", token)).await;
        let Err(status) = asked else { panic!("issued") };
        (status.code(), status.message().to_owned())
    };
    let (reviews, pods) = (
        When::new("create", "tokenreviews"),
        When::new("get", "pods"),
    );
    let review = (reviews, token.as_str(), "token review failed: ");
    let pod = (pods, "ghost", "failed to get pod of identity");
    // To 503 (and 429) the client asks again by itself, until the time for a review is over.
    let slow = "too many token reviews under way";
    for (when, token, text) in [review, pod] {
        for (fault, code, text) in [
            (Fault::Status(503), Code::ResourceExhausted, slow),
            (Fault::Status(500), Code::ResourceExhausted, text),
            (Fault::Close, Code::ResourceExhausted, text),
            (Fault::Status(403), Code::PermissionDenied, text),
        ] {
            let why = format!("{text}{fault:?}");
            cluster.server.inject(when.clone(), fault, usize::MAX);
            let (found, message) = refused(token).await;
            assert!(
                found == code && message.starts_with(text),
                "{why}: {found:?} {message}"
            );
            cluster.server.heal();
        }
    }
    let gone = (
        Code::PermissionDenied,
        "failed to get pod of identity".to_owned(),
    );
    assert_eq!(refused("ghost").await, gone, "an answer is an answer");
    let issued = cluster.ask(&sentry, claim("shop", "orders", &token)).await;
    assert!(issued.is_ok());
}

/// Neither tokens nor keys get into the log, whatever goes wrong, at the level that says most.
#[tokio::test]
async fn the_log_holds_no_secrets() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    assert!(
        cluster
            .ask(&sentry, claim("shop", "orders", &token))
            .await
            .is_ok()
    );
    let echo = json!({"spec": {"token": "a token to be kept"}, "status": 5});
    let reviews = When::new("create", "tokenreviews");
    for fault in [
        Fault::Answer(echo.to_string()),
        Fault::Answer("a token to be kept".to_owned()),
        Fault::Status(500),
        Fault::Close,
    ] {
        cluster.server.inject(reviews.clone(), fault, 1);
        let asked = claim("shop", "orders", "a token to be kept");
        let Err(status) = cluster.ask(&sentry, asked).await else {
            panic!("issued")
        };
        assert!(!status.message().contains("to be kept"), "{status:?}");
    }
    let key = cluster.key("issuer.key").unwrap();
    let key = key.lines().nth(1).unwrap().to_owned();
    let read = When::new("get", "secrets");
    let shown = format!("{{\"data\": \"{key}\"}}");
    cluster.server.inject(read, Fault::Answer(shown), 1);
    cluster.supply(&Ca::new());
    sentry.line("Issuer credentials changed; reloading");
    for line in sentry.lines("", 1) {
        for secret in ["to be kept", "token of orders", &key] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
