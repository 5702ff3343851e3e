//! Rows T-04, T-05 of resiliency-observability, golden 10 and 29, and round trips.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn rng() -> SmallRng {
    SmallRng::seed_from_u64(7)
}

#[test]
fn a_header_is_read_and_written() {
    let text = format!("00-{TRACE}-{SPAN}-01");
    let parent = TraceParent::parse(&text).unwrap();
    assert_eq!(parent.trace_id.to_string(), TRACE);
    assert_eq!(parent.span_id.to_string(), SPAN);
    assert!(parent.is_sampled() && parent.is_valid());
    assert_eq!(parent.to_string(), text);
    assert_eq!(parent.to_text(), text.as_bytes());
}

/// Facts: resiliency-observability T-04, T-05.
#[test]
fn what_counts_as_absent() {
    let zero_trace = "0".repeat(32);
    let zero_span = "0".repeat(16);
    let table = [
        (format!("00-{TRACE}-{SPAN}-00"), true),
        (format!("00-{TRACE}-{SPAN}-ff"), true),
        (format!("01-{TRACE}-{SPAN}-01-extra"), true),
        (format!("fe-{TRACE}-{SPAN}-0102"), true),
        (format!("0A-{TRACE}-{SPAN}-0A"), true),
        (format!("ff-{TRACE}-{SPAN}-01"), false),
        (format!("FF-{TRACE}-{SPAN}-01"), false),
        (format!("00-{TRACE}-{SPAN}-01-extra"), false),
        (format!("00-{TRACE}-{SPAN}-01-"), false),
        (format!("00-{TRACE}-{SPAN}"), false),
        (format!("00-{TRACE}-{SPAN}-"), false),
        (format!("00-{TRACE}-{SPAN}-1"), false),
        (format!("00-{TRACE}-{SPAN}-0g"), false),
        (format!("0-{TRACE}-{SPAN}-01"), false),
        (format!("0000-{TRACE}-{SPAN}-01"), false),
        (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false),
        (format!("00-{TRACE}-{}-01", SPAN.to_uppercase()), false),
        (format!("00-{zero_trace}-{SPAN}-01"), false),
        (format!("00-{TRACE}-{zero_span}-01"), false),
        (format!("00-{TRACE}0-{SPAN}-01"), false),
        (format!(" 00-{TRACE}-{SPAN}-01"), false),
        (format!("00-{TRACE}-{SPAN}-01 "), false),
        (TraceParent::zero().to_string(), false),
        (String::new(), false),
        ("ü".repeat(16), false),
    ];
    for (text, accepted) in table {
        assert_eq!(TraceParent::parse(&text).is_some(), accepted, "{text}");
        assert_eq!(
            TraceParent::parse_bytes(text.as_bytes()).is_some(),
            accepted
        );
    }
    assert_eq!(TraceParent::parse_bytes(b"\xff"), None);
}

/// Fact: golden 11, the context of a sidecar without tracing.
#[test]
fn zero_is_spelled_out() {
    let want = "00-00000000000000000000000000000000-0000000000000000-00";
    assert_eq!(TraceParent::zero().to_string(), want);
    assert_eq!(TraceParent::zero().to_text(), want.as_bytes());
}

/// Fact: golden 29, the bytes of `AAAK92UZFs1D3YRI6yEcgDGcAZGZyWfOxxd/AgE`.
#[test]
fn the_binary_form_is_the_reference_one() {
    let parent = TraceParent::parse(&format!("00-{TRACE}-9199c967cec7177f-01")).unwrap();
    let mut want = vec![0, 0];
    want.extend(parent.trace_id.0);
    want.push(1);
    want.extend([0x91, 0x99, 0xc9, 0x67, 0xce, 0xc7, 0x17, 0x7f]);
    want.extend([2, 1]);
    assert_eq!(parent.to_binary().as_slice(), want);
    assert_eq!(TraceParent::from_binary(&want), Some(parent));
}

#[test]
fn binary_fields_after_the_trace_are_optional() {
    let whole = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
    let binary = whole.to_binary();
    let only_trace = TraceParent::from_binary(&binary[..18]).unwrap();
    assert_eq!(only_trace.trace_id, whole.trace_id);
    assert!(!only_trace.is_valid());
    assert!(only_trace.child(&mut rng()).is_valid());
    let no_flags = TraceParent::from_binary(&binary[..27]).unwrap();
    assert_eq!(
        (no_flags.span_id, no_flags.is_sampled()),
        (whole.span_id, false)
    );
    // Bytes after the fields are ignored.
    let mut longer = binary.to_vec();
    longer.push(9);
    assert_eq!(TraceParent::from_binary(&longer), Some(whole));
    let mut flags_after_trace = binary[..18].to_vec();
    flags_after_trace.extend([2, 1]);
    assert!(
        TraceParent::from_binary(&flags_after_trace)
            .unwrap()
            .is_sampled()
    );
}

#[test]
fn other_binaries_count_as_absent() {
    let binary = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-01"))
        .unwrap()
        .to_binary();
    let mut version = binary;
    version[0] = 1;
    let mut first_field = binary;
    first_field[1] = 1;
    for bad in [
        &[][..],
        &[0],
        &binary[..17],
        &version,
        &first_field,
        &TraceParent::zero().to_binary(),
    ] {
        assert_eq!(TraceParent::from_binary(bad), None, "{bad:?}");
    }
}

#[test]
fn a_child_keeps_trace_and_decision() {
    for flags in ["00", "01", "03"] {
        let parent = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-{flags}")).unwrap();
        let child = parent.child(&mut rng());
        assert_eq!(child.trace_id, parent.trace_id);
        assert_ne!(child.span_id, parent.span_id);
        assert_eq!(child.is_sampled(), parent.is_sampled());
        assert!(child.flags.0 <= 1);
    }
}

#[test]
fn roots_differ() {
    let mut rng = rng();
    let (one, two) = (
        TraceParent::root(true, &mut rng),
        TraceParent::root(false, &mut rng),
    );
    assert!(one.is_valid() && two.is_valid());
    assert_ne!(one.trace_id, two.trace_id);
    assert!(one.is_sampled() && !two.is_sampled());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _no_panic = TraceParent::parse(&text);
    }

    #[test]
    fn near_headers_are_read_or_refused(text in "[0-9a-fA-F]{0,3}(-[0-9a-fg]{14,34}){0,3}(-[0-9a-f]{0,3}){0,2}") {
        if let Some(parent) = TraceParent::parse(&text) {
            prop_assert!(parent.is_valid());
        }
    }

    #[test]
    fn any_binary_is_read_or_refused(binary in prop::collection::vec(0_u8..4, 0..40)) {
        let _no_panic = TraceParent::from_binary(&binary);
    }

    #[test]
    fn both_forms_are_read_back(trace: [u8; 16], span: [u8; 8], flags: u8) {
        let parent = TraceParent { trace_id: TraceId(trace), span_id: SpanId(span), flags: Flags(flags) };
        prop_assume!(parent.is_valid());
        prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
        prop_assert_eq!(TraceParent::parse_bytes(&parent.to_text()), Some(parent));
        prop_assert_eq!(TraceParent::from_binary(&parent.to_binary()), Some(parent));
    }
}
