//! A rotation over Secret and ConfigMap: restarts, failing writes, replicas, wishes, and keys that others touch.

use super::*;

/// A rotation over the objects, by a new replica for each step, and what others read of it.
#[tokio::test]
async fn each_phase_outlives_a_restart_and_is_published() {
    let server = installed();
    let (clock, hand) = clock();
    let mut counts = Vec::new();
    for phase in ["steady", "distribute", "sign", "steady"] {
        let mut guard = replica(&server, &clock).await;
        let authority = guard.start().await.unwrap();
        let line = format!("dapr_sentry_rotation_phase{{phase=\"{phase}\"}} 1");
        assert!(metric(&guard, &line), "{line}");
        assert_eq!(key_of(&server, "ca.crt"), published_roots(&server));
        counts.push(roots(&authority));
        let before = updates(&server);
        let again = replica(&server, &clock).await.start().await.unwrap();
        assert_eq!(again.bundle(), authority.bundle());
        assert_eq!(updates(&server), before, "nothing is due, whoever asks");
        hand.advance(due(&guard));
    }
    assert_eq!(counts, [1, 2, 2, 1]);
}

/// Each write fails, before it is done and after it, at each step; the next start makes it good.
#[tokio::test]
async fn a_write_that_fails_is_made_good_by_the_next_start() {
    let (clock, hand) = clock();
    let mut whole = (json!({}), json!({}));
    for phase in ["", "steady", "distribute", "sign"] {
        for resource in ["secrets", "configmaps"] {
            for fault in [Fault::Status(500), Fault::DoneButStatus(500), Fault::Close] {
                let server = installed();
                put_secret(&server, whole.0.clone());
                put_map(&server, whole.1.clone());
                server.inject(When::new("update", resource), fault.clone(), 1);
                let mut dies = replica(&server, &clock).await;
                let died = dies.start().await.is_err() || dies.trouble.is_some();
                let what = format!("{phase} {resource} {fault:?}");
                assert!(died, "{what}");
                let mut survivor = replica(&server, &clock).await;
                let authority = survivor.start().await.unwrap();
                assert!(survivor.trouble.is_none(), "{what}");
                assert_eq!(
                    key_of(&server, "ca.crt"),
                    published_roots(&server),
                    "{what}"
                );
                let expected = match phase {
                    "" | "sign" => 1,
                    _ => 2,
                };
                assert_eq!(roots(&authority), expected, "{what}");
            }
        }
        let server = installed();
        put_secret(&server, whole.0.clone());
        put_map(&server, whole.1.clone());
        let mut alive = replica(&server, &clock).await;
        alive.start().await.unwrap();
        let map = server.object("v1", "ConfigMap", NAMESPACE, NAME).unwrap();
        whole = (secret(&server)["data"].clone(), map["data"].clone());
        hand.advance(due(&alive));
    }
}

/// Replicas look at once when a step is due: one makes it, the others find it.
#[tokio::test]
async fn replicas_do_not_rotate_twice() {
    let server = installed();
    let (clock, hand) = clock();
    let (mut one, mut two) = (
        replica(&server, &clock).await,
        replica(&server, &clock).await,
    );
    let (first, second) = (one.start().await.unwrap(), two.start().await.unwrap());
    let (publish_one, published_one) = watch::channel(first);
    let (publish_two, published_two) = watch::channel(second);
    for (step, expected) in [("distribute", 2), ("sign", 2), ("withdraw", 1)] {
        hand.advance(due(&one));
        tokio::join!(
            one.refresh(&publish_one, Woken::Hint),
            two.refresh(&publish_two, Woken::Hint)
        );
        assert_eq!(roots(&published_one.borrow()), expected);
        assert_eq!(
            published_one.borrow().bundle(),
            published_two.borrow().bundle()
        );
        let line = format!("dapr_sentry_rotation_steps_total{{step=\"{step}\"}} 1");
        assert!(metric(&one, &line) ^ metric(&two, &line), "{step}");
    }
    let state: Value = serde_json::from_str(&key_of(&server, "ca-state.json").unwrap()).unwrap();
    assert_eq!(state["generation"], 4, "the first state and three changes");
}

/// A wish is an annotation of the Secret, answered once.
#[tokio::test]
async fn a_wish_is_answered_once_and_declined_for_a_supplied_authority() {
    let server = installed();
    let (clock, _hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let (publish, published) = watch::channel(guard.start().await.unwrap());
    wish(&server);
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(roots(&published.borrow()), 2);
    assert!(!is_wished(&server));
    wish(&server);
    guard.refresh(&publish, Woken::Hint).await;
    assert!(!is_wished(&server));
    assert!(metric(
        &guard,
        "dapr_sentry_rotation_steps_total{step=\"distribute\"} 1"
    ));
    let ca = Ca::new();
    supply(&server, &ca);
    wish(&server);
    guard.refresh(&publish, Woken::Hint).await;
    assert!(!is_wished(&server));
    assert_eq!(published.borrow().bundle(), &ca.bundle());
    let [(reason, _note)] = events(&server).try_into().unwrap();
    assert_eq!(reason, DECLINED);
}

/// What can't be reached is not called unusable, and serves on.
#[tokio::test]
async fn an_api_server_that_is_away_changes_nothing() {
    let server = installed();
    let (clock, hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let (publish, published) = watch::channel(guard.start().await.unwrap());
    let read = When::new("get", "secrets");
    server.inject(read.clone(), Fault::Status(500), usize::MAX);
    hand.advance(due(&guard));
    for _ in 0..3 {
        guard.refresh(&publish, Woken::Hint).await;
    }
    assert_eq!(roots(&published.borrow()), 1);
    assert!(guard.trouble.is_some() && events(&server).is_empty());
    assert!(metric(
        &guard,
        "dapr_sentry_issuercert_reload_failed_total 0"
    ));
    server.heal();
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(roots(&published.borrow()), 2);
    assert!(guard.trouble.is_none());
}

/// Keys of our own authority that somebody took away, or put back from before the last change, are put right; other
/// ones are somebody's own.
#[tokio::test]
async fn keys_of_our_own_are_kept_and_those_of_others_are_theirs() {
    let server = installed();
    let (clock, hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let (publish, published) = watch::channel(guard.start().await.unwrap());
    let first = secret(&server)["data"].clone();
    hand.advance(due(&guard));
    guard.refresh(&publish, Woken::Hint).await;
    let (state, roots_now) = (key_of(&server, "ca-state.json"), key_of(&server, "ca.crt"));
    let mut old = secret(&server);
    old["data"]["ca.crt"] = first["ca.crt"].clone();
    old["data"].as_object_mut().unwrap().remove("issuer.key");
    server.put(old);
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(key_of(&server, "ca.crt"), roots_now);
    assert!(key_of(&server, "issuer.key").is_some());
    assert_eq!(key_of(&server, "ca-state.json"), state);
    let theirs = Ca::new();
    let mut replaced = secret(&server);
    let texts = [
        theirs.root_pem(),
        theirs.issuer_pem(),
        theirs.issuer_key_pem(),
    ];
    for (key, text) in FILES.into_iter().zip(texts) {
        replaced["data"][key] = STANDARD.encode(text).into();
    }
    server.put(replaced);
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(published.borrow().bundle(), &theirs.bundle());
    assert_eq!(
        key_of(&server, "ca-state.json"),
        state,
        "it is not ours to take away"
    );
}
