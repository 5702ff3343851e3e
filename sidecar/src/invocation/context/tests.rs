//! Tables of trace headers: what is read, and what the next hop gets.

use proptest::prelude::*;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const OTHER: &str = "00-11111111111111111111111111111111-2222222222222222-01";
const ON: Sampling = Sampling::ParentBased(1.0);

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn binary(text: &str) -> String {
    use base64::Engine as _;
    let bytes = TraceParent::parse(text).unwrap().to_binary();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What an app behind this sidecar gets of these headers.
fn through(sampling: Sampling, from: Source, fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = headers(fields);
    let (trace, _) = CallTrace::start(sampling, &headers, from);
    trace.take_from(&mut headers);
    trace.to_http_app(&mut headers);
    headers
}

fn parts(headers: &HeaderMap) -> (String, String, String) {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().unwrap().to_str().unwrap().to_owned();
    assert!(values.next().is_none(), "{headers:?}");
    let mut parts = value.split('-').skip(1).map(str::to_owned);
    let mut next = || parts.next().unwrap();
    (next(), next(), next())
}

/// T-02, T-03, T-04, T-05: the trace goes on with a span of this sidecar, or begins.
#[test]
fn a_span_goes_below_what_was_sent() {
    let joined = [
        (parent("01"), "01"),
        (parent("00"), "00"),
        (parent("03"), "01"),
        (format!("01-{TRACE}-{SPAN}-01-more"), "01"),
        (format!("fe-{TRACE}-{SPAN}-01"), "01"),
    ];
    for (text, flags) in joined {
        let found = parts(&through(ON, Source::Http, &[("traceparent", &text)]));
        assert_eq!((&*found.0, &*found.2), (TRACE, flags), "{text}");
        assert_ne!(found.1, SPAN);
    }
    let absent = [
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{TRACE}-{SPAN}"),
        format!("00-{TRACE}-{SPAN}-01-more"),
        String::new(),
    ];
    for text in absent {
        let found = parts(&through(ON, Source::Http, &[("traceparent", &text)]));
        assert_ne!(found.0, TRACE, "{text}");
        assert_eq!(found.2, "01");
    }
}

/// T-07, T-08: without spans the context goes through; where there is none, a valid one is made that nobody records.
#[test]
fn without_spans_the_context_goes_through() {
    let same = [("traceparent", &*parent("01")), ("tracestate", "what ever")];
    let found = through(Sampling::PassThrough, Source::Http, &same);
    assert_eq!(found, headers(&same));
    for broken in [None, Some("nonsense")] {
        let fields = broken.map(|text| ("traceparent", text));
        let found = through(Sampling::PassThrough, Source::Http, fields.as_slice());
        let (trace, span, flags) = parts(&found);
        assert!(trace != "0".repeat(32) && span != "0".repeat(16));
        assert_eq!(flags, "00");
    }
}

/// T-09.
#[test]
fn rate_0_touches_nothing() {
    let fields = [
        ("traceparent", "nonsense"),
        ("traceparent", OTHER),
        ("tracestate", "a=b"),
        ("grpc-trace-bin", "x"),
    ];
    let found = through(Sampling::Off, Source::Http, &fields);
    assert_eq!(found, headers(&fields));
    let (trace, _) = CallTrace::start(Sampling::Off, &found, Source::Grpc);
    let mut empty = HeaderMap::new();
    trace.to_grpc(&mut empty);
    trace.to_hop_error(&mut empty);
    trace.to_http_client(&mut empty);
    assert!(empty.is_empty() && !trace.is_on() && trace.id().is_none());
}

/// T-13, T-14, T-15: over gRPC the binary form wins, over HTTP it is none.
#[test]
fn over_grpc_the_binary_form_wins() {
    let (text, coded) = (parent("01"), binary(OTHER));
    let unpadded = coded.trim_end_matches('=').to_owned();
    let other = OTHER.split('-').nth(1).unwrap();
    for (from, fields, trace) in [
        (Source::Grpc, vec![("grpc-trace-bin", &*coded)], other),
        (Source::Grpc, vec![("grpc-trace-bin", &*unpadded)], other),
        (Source::Grpc, vec![("traceparent", &*text)], TRACE),
        (
            Source::Grpc,
            vec![("traceparent", &*text), ("grpc-trace-bin", &*coded)],
            other,
        ),
        (
            Source::Grpc,
            vec![("traceparent", &*text), ("grpc-trace-bin", "AA")],
            TRACE,
        ),
        (
            Source::Sidecar,
            vec![("traceparent", &*text), ("grpc-trace-bin", &*coded)],
            other,
        ),
        (
            Source::Http,
            vec![("traceparent", &*text), ("grpc-trace-bin", &*coded)],
            TRACE,
        ),
    ] {
        let found = parts(&through(ON, from, &fields));
        assert_eq!(found.0, trace, "{from:?} {fields:?}");
    }
    // Only the trace is named.
    let short = {
        use base64::Engine as _;
        let bytes = [&[0, 0][..], &[7; 16]].concat();
        base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
    };
    let fields = [("grpc-trace-bin", &*short)];
    assert_eq!(
        parts(&through(ON, Source::Grpc, &fields)).0,
        "07".repeat(16)
    );
    let (_, span, _) = parts(&through(Sampling::PassThrough, Source::Grpc, &fields));
    assert_ne!(span, "0".repeat(16));
}

/// T-11, T-12: a trace state goes beside the context that came with it, if it is one and short enough.
#[test]
fn a_trace_state_goes_with_its_context() {
    let (context, long) = (parent("01"), ["k=", &"v".repeat(200)].concat());
    let long = [&*long, &*long.replace('k', "l"), &*long.replace('k', "m")].join(",");
    for (with, states, want) in [
        (true, vec!["a=b"], Some("a=b")),
        (true, vec!["a=b", "c=d"], Some("a=b,c=d")),
        (true, vec!["a b"], None),
        (true, vec![&*long], None),
        (false, vec!["a=b"], None),
    ] {
        let mut fields: Vec<_> = states.iter().map(|state| ("tracestate", *state)).collect();
        if with {
            fields.push(("traceparent", &*context));
        }
        let found = through(ON, Source::Http, &fields);
        let found: Vec<_> = found.get_all(TRACESTATE).iter().collect();
        assert_eq!(found, want.as_slice(), "{states:?}");
        // Behind another sidecar it was looked at already.
        let found = through(ON, Source::Sidecar, &fields);
        assert_eq!(found.get_all(TRACESTATE).iter().count(), states.len());
    }
}

/// T-17: a client hears of this sidecar's span, unless the app named one.
#[test]
fn a_client_hears_of_one_span() {
    let (context, fields) = (parent("01"), |text| {
        [("traceparent", text), ("tracestate", "a=b")]
    });
    let (trace, above) = CallTrace::start(ON, &headers(&fields(&context)), Source::Http);
    assert_eq!(above.unwrap().to_string(), context);
    let mut none = HeaderMap::new();
    trace.to_http_client(&mut none);
    assert_eq!(none[TRACEPARENT], trace.span().to_string());
    assert_eq!(none[TRACESTATE], "a=b");
    let mut own = headers(&[("traceparent", OTHER), ("tracestate", "own=1")]);
    trace.to_http_client(&mut own);
    assert_eq!(
        own,
        headers(&[("traceparent", OTHER), ("tracestate", "own=1")])
    );
}

/// T-18: both forms say the same.
#[test]
fn both_forms_are_one_span() {
    let (trace, _) = CallTrace::start(ON, &HeaderMap::new(), Source::Grpc);
    let mut found = headers(&[
        ("traceparent", OTHER),
        ("grpc-trace-bin", "AA"),
        ("grpc-trace-bin", "AB"),
    ]);
    trace.to_grpc(&mut found);
    assert_eq!((found.len(), found.keys_len()), (2, 2));
    let text = TraceParent::parse_bytes(found[TRACEPARENT].as_bytes());
    assert_eq!(text, Some(trace.span()));
    assert_eq!(binary_parent(&found), text);
    assert_eq!(
        trace.id().map(|id| id.to_string()),
        Some(trace.span().trace_id.to_string())
    );
}

proptest! {
    /// Whatever a client sends, the next hop gets exactly one valid context.
    #[test]
    fn any_headers_make_one_valid_context(
        text in proptest::option::of("[ -~]{0,60}|0[0-2]-[0-9a-fA]{32}-[0-9a-f]{16}-0[0-9](-x)?"),
        coded in proptest::option::of("[A-Za-z0-9+/=]{0,44}"),
        state in proptest::option::of("[ -~]{0,60}"),
        mode in 0..3_usize,
    ) {
        let mut fields = Vec::new();
        fields.extend(text.as_deref().map(|text| ("traceparent", text)));
        fields.extend(coded.as_deref().map(|text| ("grpc-trace-bin", text)));
        fields.extend(state.as_deref().map(|text| ("tracestate", text)));
        let from = [Source::Http, Source::Grpc, Source::Sidecar][mode];
        for sampling in [ON, Sampling::PassThrough, Sampling::ParentBased(-1.0)] {
            let mut headers = headers(&fields);
            let (trace, _) = CallTrace::start(sampling, &headers, from);
            trace.take_from(&mut headers);
            trace.to_grpc(&mut headers);
            prop_assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
            let (next, above) = CallTrace::start(ON, &headers, Source::Sidecar);
            prop_assert_eq!(above, Some(trace.span()));
            prop_assert!(trace.span().is_valid());
            prop_assert_eq!(next.span().trace_id, trace.span().trace_id);
        }
    }
}
