//! What counts as equal between a transcript and a sidecar of ours.
//!
//! Compared are status, reason, the multiset of headers with the order of values, and body bytes. Everything
//! that is left out of the comparison is a row of [`IGNORED`]; deliberate differences are not here but in
//! `differences.rs`.

use std::collections::BTreeMap;

use base64::Engine as _;

/// What is not compared, and why.
pub(crate) const IGNORED: &[(&str, &str)] = &[
    ("Date", "a clock; compared only where the app itself set it"),
    (
        "trace and span ids",
        "random; which of them are equal is compared",
    ),
    (
        "digits of an all-zero trace context",
        "ours is a valid one that nobody records (T-08); which are equal is compared",
    ),
    (
        "ports",
        "each run has its own; the transcript's are replaced before comparing",
    ),
    ("host name", "the machine's own stands for \"rig\""),
    (
        "Content-Length of a body that names a port",
        "follows the body, which is compared",
    ),
    (
        "letter case of header names",
        "HTTP/2 has none and HTTP/1.1 gives it no meaning",
    ),
    (
        "order of different headers",
        "no meaning; the order of the values of one header is compared",
    ),
    ("borders of chunks and data frames", "the sender's choice"),
    (
        "User-Agent Go-http-client/1.1",
        "default of the reference's HTTP library, not copied",
    ),
    (
        "an added Accept-Encoding: gzip",
        "default of the reference's HTTP library, not copied",
    ),
    (
        "user-agent grpc-go",
        "default of the reference's gRPC library",
    ),
    (
        "grpc-accept-encoding",
        "which encodings a library offers; ours are sent as they came",
    ),
    (
        "content-length of a gRPC request",
        "ours says how long a unary request is; the message itself is compared",
    ),
    (
        "value of grpc-timeout",
        "what is left of the deadline at that moment",
    ),
    (
        "empty grpc-message beside status 0",
        "absent and empty mean the same",
    ),
    (
        "how much of an aborted request reached the app",
        "a question of timing; that it did not end as a whole one is compared",
    ),
    (
        "how the end of a plaintext connection to a TLS port is worded (32.3)",
        "what the transport notices first depends on timing",
    ),
    (
        "times in section titles",
        "how long the reference's machine took",
    ),
    ("version and commit in metadata", "each build has its own"),
];

/// Headers by lower-case name, values in order.
pub(crate) type Bag = BTreeMap<String, Vec<String>>;

pub(crate) fn bag(headers: &[(String, String)]) -> Bag {
    let mut bag = Bag::new();
    for (name, value) in headers {
        bag.entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.clone());
    }
    bag
}

/// Pairs the random ids of a transcript with those of a run: equal stays equal, different stays different.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pairs: Vec<(String, String)>,
}

impl Ids {
    /// Ids that the client chose stand for themselves.
    pub(crate) fn fixed(request: &str) -> Self {
        let mut ids = Self::default();
        for line in request
            .lines()
            .filter(|line| line.to_ascii_lowercase().starts_with("traceparent:"))
        {
            for part in line.split('-').skip(1).take(2) {
                ids.pairs.push((part.to_owned(), part.to_owned()));
            }
        }
        ids
    }

    fn same(&mut self, expected: &str, found: &str) -> bool {
        let zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        // Where the reference sends zeros, ours is a valid id (resiliency-observability T-08).
        if zero(found) {
            return false;
        }
        if let Some((left, right)) = self
            .pairs
            .iter()
            .find(|(left, right)| left == expected || right == found)
        {
            return left == expected && right == found;
        }
        self.pairs.push((expected.to_owned(), found.to_owned()));
        true
    }

    fn same_traceparent(&mut self, expected: &str, found: &str) -> bool {
        let (expected, found): (Vec<_>, Vec<_>) =
            (expected.split('-').collect(), found.split('-').collect());
        expected.len() == 4
            && found.len() == 4
            && expected[0] == found[0]
            && expected[3] == found[3]
            && self.same(expected[1], found[1])
            && self.same(expected[2], found[2])
    }

    fn same_header(&mut self, name: &str, expected: &str, found: &str) -> bool {
        match name {
            "traceparent" => self.same_traceparent(expected, found),
            "grpc-trace-bin" => match (spelled(expected), spelled(found)) {
                (Some(expected), Some(found)) => self.same_traceparent(&expected, &found),
                _ => false,
            },
            "grpc-timeout" => !found.is_empty(),
            "date" => !expected.contains("2001") || expected == found,
            _ => expected == found,
        }
    }
}

/// A binary trace context in the spelling of `traceparent`.
fn spelled(text: &str) -> Option<String> {
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let bytes = engine
        .decode(text.trim_end_matches('='))
        .ok()
        .filter(|bytes| bytes.len() == 29)?;
    let hex = |part: &[u8]| {
        part.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    Some(format!(
        "00-{}-{}-{:02x}",
        hex(&bytes[2..18]),
        hex(&bytes[19..27]),
        bytes[28]
    ))
}

/// Compares two bags and lists what differs.
pub(crate) fn headers(what: &str, expected: &Bag, found: &Bag, ids: &mut Ids) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, values) in expected {
        match found.get(name) {
            None => wrong.push(format!("{what}: no {name} (expected {values:?})")),
            Some(have) if have.len() != values.len() => {
                wrong.push(format!(
                    "{what}: {name}: expected {values:?}, found {have:?}"
                ));
            }
            Some(have) => {
                let same = values
                    .iter()
                    .zip(have)
                    .all(|(left, right)| ids.same_header(name, left, right));
                if !same {
                    wrong.push(format!(
                        "{what}: {name}: expected {values:?}, found {have:?}"
                    ));
                }
            }
        }
    }
    for (name, values) in found
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name))
    {
        wrong.push(format!("{what}: unexpected {name}: {values:?}"));
    }
    wrong
}

/// Compares two values and says which differ.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
    what: &str,
    expected: &T,
    found: &T,
) -> Vec<String> {
    if expected == found {
        Vec::new()
    } else {
        vec![format!("{what}: expected {expected:?}, found {found:?}")]
    }
}

#[test]
fn what_is_ignored_has_a_reason() {
    for (what, reason) in IGNORED {
        eprintln!("not compared: {what}: {reason}");
        assert!(!reason.is_empty(), "{what}");
    }
}

#[test]
fn ids_are_paired_one_to_one() {
    let mut ids = Ids::fixed("traceparent: 00-aa-bb-01");
    assert!(ids.same("aa", "aa") && !ids.same("aa", "cc"));
    assert!(ids.same("dd", "ee") && ids.same("dd", "ee"));
    assert!(!ids.same("dd", "ff") && !ids.same("gg", "ee"));
    assert!(!ids.same("00", "00") && ids.same("00", "hh") && !ids.same("00", "ii"));
}

#[test]
fn the_binary_context_spells_the_textual_one() {
    assert_eq!(
        spelled("AAAK92UZFs1D3YRI6yEcgDGcAbeta3FpIDMxAgE").as_deref(),
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    );
}

#[test]
fn an_order_of_values_counts() {
    let list =
        |pairs: [(&str, &str); 2]| pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let (one, two) = (
        bag(&list([("X-A", "1"), ("x-a", "2")])),
        bag(&list([("x-a", "2"), ("X-A", "1")])),
    );
    assert_eq!(headers("t", &one, &two, &mut Ids::default()).len(), 1);
    assert!(headers("t", &one, &one, &mut Ids::default()).is_empty());
}
