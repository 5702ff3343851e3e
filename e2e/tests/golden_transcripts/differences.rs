//! Where a sidecar of ours answers otherwise than the reference, on purpose: one table, each row with its reason.
//!
//! A row edits what a transcript expects before the comparison, so that our behaviour is held as firmly as the
//! rest. A row that matches no exchange fails the test that reads the table.

use crate::transcript::{Exchange, Transcript};

/// A deliberate difference.
pub(crate) struct Difference {
    /// File name of the transcript without its words.
    pub(crate) transcript: &'static str,
    /// Which exchange of it, from 0.
    pub(crate) exchange: usize,
    /// The hazard of the fact sheet, chapter 9.2, or the row that decides.
    pub(crate) hazard: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
    edit: fn(&mut Exchange),
}

/// All of them.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        transcript: "07",
        exchange: 0,
        hazard: "security.md O-C9",
        reason: "a client cannot hand a token to another app: dapr-api-token is never passed on",
        edit: |exchange| {
            drop_lines(&mut exchange.at_app, &["Dapr-Api-Token: zz"]);
        },
    },
    Difference {
        transcript: "10",
        exchange: 0,
        hazard: "1.7",
        reason: "all lines of a repeated header reach the app, baggage too",
        edit: |exchange| {
            insert_before(
                &mut exchange.at_app,
                "Dapr-Callee-App-Id:",
                "Baggage: k2=v2\n",
            );
        },
    },
    Difference {
        transcript: "11",
        exchange: 9,
        hazard: "E16",
        reason: "the refusal of a large head carries date and length, as every answer does",
        edit: |exchange| {
            let more = "Connection: close\nContent-Length: 35\nDate: now\n";
            exchange.reply = exchange.reply.replace("Connection: close\n", more);
        },
    },
    Difference {
        transcript: "08",
        exchange: 0,
        hazard: "H1",
        reason: "identity that a client made up is stripped before the genuine one is stamped",
        edit: |exchange| {
            drop_lines(
                &mut exchange.at_app,
                &[
                    "Dapr-Callee-App-Id: evil2",
                    "Dapr-Caller-App-Id: evil\n",
                    ": evilns",
                ],
            );
        },
    },
    Difference {
        transcript: "09",
        exchange: 0,
        hazard: "SI-033, SI-034",
        reason: "a self-invocation carries genuine identity headers, as in the reference tree of August 2026",
        edit: |exchange| {
            drop_lines(&mut exchange.at_app, &["Dapr-Caller-App-Id: evil"]);
            let stamped = "Dapr-Callee-App-Id: appa\nDapr-Caller-App-Id: appa\nDapr-Caller-Namespace: default\n";
            insert_before(&mut exchange.at_app, "Traceparent:", stamped);
        },
    },
    Difference {
        transcript: "21",
        exchange: 2,
        hazard: "H1",
        reason: "identity that a client made up is stripped before the genuine one is stamped",
        edit: |exchange| drop_lines(&mut exchange.at_app, &["dapr-caller-app-id: evil"]),
    },
    Difference {
        transcript: "21",
        exchange: 1,
        hazard: "H1",
        reason: "a callee id that the client used as target is replaced by the genuine one, not joined by it",
        edit: |exchange| {
            drop_lines(&mut exchange.at_app, &["dapr-callee-app-id: appg"]);
            insert_before(
                &mut exchange.at_app,
                "dapr-caller-app-id:",
                "dapr-callee-app-id: appg\n",
            );
        },
    },
    Difference {
        transcript: "21",
        exchange: 3,
        hazard: "chapter 3",
        reason: "the code is the same; the reference's text names a frame of its own transport",
        edit: |exchange| {
            let theirs = "stream terminated by RST_STREAM with error code: CANCEL";
            exchange.reply = exchange.reply.replace(theirs, "context deadline exceeded");
        },
    },
    Difference {
        transcript: "22",
        exchange: 4,
        hazard: "H26",
        reason: "initial metadata is forwarded when it comes, also when no message follows",
        edit: |exchange| {
            exchange.reply = exchange
                .reply
                .replace("trailers only:\n", "headers:\nx-init: 1\n");
            exchange.reply = exchange
                .reply
                .replace("grpc-status:", "trailers:\ngrpc-status:");
        },
    },
    Difference {
        transcript: "22",
        exchange: 7,
        hazard: "chapter 3",
        reason: "a fragment is no part of a request target in HTTP: the libraries of both ends leave it out",
        edit: |exchange| {
            let reply = exchange.reply.replace("grpc-status: 3", "grpc-status: 12");
            let theirs = "invalid method: method contains forbidden character: \"/greet.G/H#i\"";
            exchange.reply = reply.replace(theirs, "unknown method");
        },
    },
    Difference {
        transcript: "23",
        exchange: 1,
        hazard: "H7",
        reason: "the namespace is compared too, so another one is another app",
        edit: |exchange| {
            let stamped = "dapr-caller-app-id: appg\ndapr-callee-app-id: appg\n\
                           traceparent: 00-00000000000000000000000000000000-0000000000000000-00\n\
                           grpc-trace-bin: AAAAAAAAAAAAAAAAAAAAAAAAAQAAAAAAAAAAAgA\n";
            insert_before(&mut exchange.at_app, "message:", stamped);
        },
    },
    Difference {
        transcript: "21",
        exchange: 0,
        hazard: "resiliency-observability.md T-16",
        reason: "a proxied app gets one trace context, not the client's and the sidecar's",
        edit: |exchange| {
            let text = exchange.at_app.as_deref();
            exchange.at_app = text.map(|text| text.replace(&CLIENTS.repeat(2), CLIENTS));
        },
    },
    Difference {
        transcript: "29",
        exchange: 6,
        hazard: "resiliency-observability.md T-16",
        reason: "a proxied app gets one trace context, not the client's and the sidecar's",
        edit: |exchange| drop_lines(&mut exchange.at_app, &[CLIENTS]),
    },
    Difference {
        transcript: "29",
        exchange: 4,
        hazard: "resiliency-observability.md 2",
        reason: "the app gets the trace state everywhere, not over HTTP only",
        edit: |exchange| {
            insert_before(&mut exchange.at_app, "message:", "tracestate: a=b\n");
        },
    },
    Difference {
        transcript: "29",
        exchange: 5,
        hazard: "resiliency-observability.md 2",
        reason: "the app gets the innermost span everywhere, not the client's own",
        edit: |exchange| {
            for theirs in [
                "b7ad6b7169203331",
                "AAAK92UZFs1D3YRI6yEcgDGcAbeta3FpIDMxAgE",
            ] {
                // Another span of the same trace: its id is only compared with itself.
                let ours = if theirs.len() == 16 {
                    "1111111111111111"
                } else {
                    "AAAK92UZFs1D3YRI6yEcgDGcARERERERERERAgE"
                };
                exchange.at_app = exchange
                    .at_app
                    .take()
                    .map(|text| text.replace(theirs, ours));
            }
        },
    },
];

/// The context of the client in the transcripts.
const CLIENTS: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n";

/// The rows for one exchange: applied, and told why.
pub(crate) fn amend(transcript: &str, number: usize, exchange: &mut Exchange) -> Vec<String> {
    let number_of = transcript.split('-').next().unwrap_or_default();
    let rows = DIFFERENCES
        .iter()
        .filter(|row| row.transcript == number_of && row.exchange == number);
    rows.map(|row| {
        (row.edit)(exchange);
        format!("{}: {}", row.hazard, row.reason)
    })
    .collect()
}

#[test]
fn every_difference_changes_what_a_transcript_expects() {
    for row in DIFFERENCES {
        let before = Transcript::read(row.transcript)
            .exchanges()
            .remove(row.exchange);
        let mut after = before.clone();
        (row.edit)(&mut after);
        let same = (&before.at_app, &before.reply) == (&after.at_app, &after.reply);
        assert!(
            !same,
            "{} exchange {}: no difference",
            row.transcript, row.exchange
        );
        eprintln!(
            "{}.{} {}: {}",
            row.transcript, row.exchange, row.hazard, row.reason
        );
    }
}

fn drop_lines(text: &mut Option<String>, marks: &[&str]) {
    let Some(text) = text else { return };
    let gone = |line: &str| marks.iter().any(|mark| format!("{line}\n").contains(mark));
    *text = text
        .lines()
        .filter(|line| !gone(line))
        .map(|line| format!("{line}\n"))
        .collect();
}

fn insert_before(text: &mut Option<String>, mark: &str, lines: &str) {
    if let Some(text) = text {
        let at = text.find(mark).unwrap();
        text.insert_str(at, lines);
    }
}
