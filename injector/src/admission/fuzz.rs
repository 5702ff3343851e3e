//! Any bytes as a review.
//!
//! What is understood gets an answer that the API server can read, with the same identity; a patch applies to the pod
//! that was sent, takes nothing of it away, and is the same the second time. Driven by `ironside_testkit::fuzz`.

use super::review::Question;
use super::*;
use crate::patch::tests::{ANCHORS, daprd_of, plain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironside_testkit::fuzz::Fuzz;

fn review(data: &[u8]) {
    let Ok(question) = Question::read(data) else {
        return;
    };
    let (mut settings, callers) = (plain(), Callers::new(&["*:*"]).unwrap());
    settings.native = data.len().is_multiple_of(2);
    let moment = Moment {
        settings: &settings,
        callers: &callers,
        trust_anchors: Some(ANCHORS),
        mtls: true,
    };
    let answer = question
        .answer(&decide(&question.request, &moment))
        .unwrap();
    let again = question
        .answer(&decide(&question.request, &moment))
        .unwrap();
    assert_eq!(answer, again);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let response = &answer["response"];
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(response["uid"], question.request.uid);
    let is_denied = response.get("status").is_some();
    assert_eq!(response["allowed"], !is_denied);
    if let Some(text) = response.get("patch") {
        let text = STANDARD.decode(text.as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&text).unwrap();
        let mut pod = question.request.object.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        assert!(daprd_of(&pod).is_some());
        assert_eq!(
            pod["metadata"]["annotations"],
            question.request.object["metadata"]["annotations"]
        );
    }
}

#[test]
fn whatever_is_sent_gets_an_answer() {
    Fuzz {
        name: "review",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/review"),
        dictionary: &[
            b"\"dapr.io/enabled\":\"true\"",
            b"\"dapr.io/",
            b"\"metadata\":{}",
            b"\"annotations\":",
            b"\"labels\":null",
            b"\"containers\":[]",
            b"\"containers\":null",
            b"\"initContainers\":[{\"name\":\"a\"}]",
            b"\"volumes\":[{\"name\":\"v\"}]",
            b"\"env\":[]",
            b"\"volumeMounts\":null",
            b"\"tolerations\":[{}]",
            b"\"ownerReferences\":[{\"controller\":true}]",
            b"\"env\":\"A=1,B=2\"",
            b"\"unix-domain-socket-path\":\"/s\"",
            b"\"volume-mounts\":\"v:/m\"",
            b"null",
            b"true",
            b"[]",
            b"{}",
            b"\"\"",
            b",",
            b":",
            b"\\u0000",
            b"9223372036854775808",
            b"1e309",
        ],
        count: 15_000,
        longest: 16 * 1024,
        target: review,
    }
    .run();
}
