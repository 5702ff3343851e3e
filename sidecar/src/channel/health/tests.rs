//! What probes find and what follows from it.

use super::*;

#[test]
fn failures_count_in_a_row() {
    let mut verdict = Verdict::new(3);
    let script = [
        (Probed::Ill, None),
        (Probed::Ill, None),
        (Probed::Well, Some(true)),
        (Probed::Ill, None),
        (Probed::Ill, None),
        (Probed::Ill, Some(false)),
        (Probed::Ill, Some(false)),
        (Probed::Well, Some(true)),
    ];
    for (step, (probed, expected)) in script.into_iter().enumerate() {
        assert_eq!(verdict.after(probed), expected, "step {step}");
    }
}

/// Fact: service-invocation 5.3.
#[test]
fn only_a_good_answer_is_health() {
    for (answer, probed) in [
        (Answer::Http(Some(200)), Probed::Well),
        (Answer::Http(Some(299)), Probed::Well),
        (Answer::Http(Some(199)), Probed::Ill),
        (Answer::Http(Some(300)), Probed::Ill),
        (Answer::Http(Some(503)), Probed::Ill),
        (Answer::Http(None), Probed::Ill),
        (Answer::Grpc(Code::Ok), Probed::Well),
        (Answer::Grpc(Code::Unimplemented), Probed::Ill),
    ] {
        assert_eq!(answer.judged(), probed, "{answer:?}");
    }
}

#[tokio::test]
async fn the_port_is_waited_for() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let target = AppTarget {
        address: "127.0.0.1".into(),
        port,
        protocol: AppProtocol::Http,
    };
    let waiting = wait_for_port(&target);
    let open = async {
        tokio::time::sleep(KNOCK_PAUSE * 2).await;
        tokio::net::TcpListener::bind(("127.0.0.1", port))
            .await
            .unwrap()
    };
    let both = async { tokio::join!(waiting, open) };
    let ((), listener) = tokio::time::timeout(Duration::from_secs(20), both)
        .await
        .unwrap();
    drop(listener);
}

/// Fact: cli-and-clients SD-14: Python's gRPC server resets a request without `:authority`.
#[test]
fn grpc_probe_names_the_app() {
    let app = Authority::new("127.0.0.1", 3000).unwrap();
    let request = health_request(Some(&app)).unwrap();
    assert_eq!(
        request.uri().to_string(),
        format!("http://127.0.0.1:3000{HEALTH_CHECK}")
    );
}
