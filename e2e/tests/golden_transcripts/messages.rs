//! The protobuf messages of the transcripts: their text form read, bytes read, both compared as messages.

use std::sync::OnceLock;

use ironside_proto::DESCRIPTORS;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

fn descriptor(name: &str) -> MessageDescriptor {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    let pool = POOL.get_or_init(|| DescriptorPool::decode(DESCRIPTORS).unwrap());
    pool.get_message_by_name(name).unwrap()
}

/// Reads the text form; `"q...(2048)"` stands for a letter repeated.
pub(crate) fn from_text(name: &str, text: &str) -> DynamicMessage {
    DynamicMessage::parse_text_format(descriptor(name), &expand(text)).unwrap()
}

/// Reads the wire form.
pub(crate) fn from_bytes(name: &str, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(descriptor(name), bytes).unwrap()
}

/// The wire form of the text form.
pub(crate) fn encode(name: &str, text: &str) -> Vec<u8> {
    from_text(name, text).encode_to_vec()
}

/// Compares messages and shows those that differ in their text form.
pub(crate) fn equal(
    what: &str,
    expected: &[DynamicMessage],
    found: &[DynamicMessage],
) -> Vec<String> {
    let shown = |messages: &[DynamicMessage]| -> Vec<String> {
        messages
            .iter()
            .map(DynamicMessage::to_text_format)
            .collect()
    };
    if expected == found {
        return Vec::new();
    }
    vec![format!(
        "{what}: expected {:?}\n      found {:?}",
        shown(expected),
        shown(found)
    )]
}

/// Writes abbreviated data out.
fn expand(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("...(") {
        let (before, tail) = rest.split_at(at);
        let (count, after) = tail[4..].split_once(')').unwrap();
        let letter = before.chars().last().unwrap();
        let kept = before.trim_end_matches(letter);
        out.push_str(kept);
        out.extend(std::iter::repeat_n(letter, count.parse().unwrap()));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The bytes of `b'..'`.
pub(crate) fn quoted(text: &str) -> Vec<u8> {
    text.trim_start_matches("b'")
        .trim_end_matches('\'')
        .as_bytes()
        .to_vec()
}

#[test]
fn abbreviations_are_written_out() {
    assert_eq!(
        expand("data: \"qqq...(5)\" seq: 1"),
        "data: \"qqqqq\" seq: 1"
    );
    assert_eq!(expand("data: \"c...(3)\""), "data: \"ccc\"");
    assert_eq!(expand("plain"), "plain");
}
