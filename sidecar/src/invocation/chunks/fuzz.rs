//! Any bytes as the stream between two sidecars, in any splits.
//!
//! The decoder says the same however the bytes are cut into slices; it never hands out more than was announced, takes a
//! stream for whole only if it is one by the generated code, and a stream that was cut is never whole where the other
//! was not over. Driven by `ironside_testkit::fuzz`.

use bytes::{Buf as _, Bytes};
use ironside_proto::internals::InternalInvokeRequestStream;
use ironside_testkit::fuzz::Fuzz;
use prost::Message as _;

use super::*;

const LIMIT: usize = 4096;

/// What came out before the end, and how the end was.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    leading: Option<Vec<u8>>,
    body: Vec<u8>,
    end: Result<(), FrameError>,
}

fn chunks(data: &[u8]) {
    // The first byte chooses the splits, the rest is the stream.
    let Some((&choice, wire)) = data.split_first() else {
        return;
    };
    let whole = decode(wire, wire.len());
    let split = decode(wire, usize::from(choice % 7) + 1);
    assert_eq!(kind(&split), kind(&whole), "splits mean nothing");
    if whole.end.is_ok() {
        assert_eq!(split, whole);
        assert_eq!(
            whole,
            by_generated_code(wire),
            "a whole stream is one by the contract"
        );
    }
    assert!(whole.body.len() <= wire.len(), "never more than came in");
    let cut = wire.len() * usize::from(choice) / 256;
    let (head, _) = wire.split_at(cut);
    let cut = decode(head, head.len());
    if cut.end.is_ok() {
        assert_eq!(
            cut,
            by_generated_code(head),
            "whole only between two messages"
        );
    }
    assert!(whole.body.starts_with(&cut.body) || cut.body.starts_with(&whole.body));
}

/// How it ended; which of several flaws of a message is named may depend on what was there already.
fn kind(outcome: &Outcome) -> Result<(), FrameError> {
    match outcome.end {
        Err(FrameError::Malformed(_)) => Err(FrameError::Malformed("")),
        ref end => end.clone(),
    }
}

fn decode(wire: &[u8], size: usize) -> Outcome {
    let mut decoder = Decoder::new(LIMIT);
    let mut outcome = Outcome {
        leading: None,
        body: Vec::new(),
        end: Ok(()),
    };
    for slice in wire.chunks(size.max(1)) {
        decoder.push(Bytes::copy_from_slice(slice));
        if let Err(error) = drain(&mut decoder, &mut outcome) {
            outcome.end = Err(error);
            return outcome;
        }
    }
    outcome.end = decoder.finish();
    outcome
}

fn drain(decoder: &mut Decoder, outcome: &mut Outcome) -> Result<(), FrameError> {
    loop {
        match decoder.next()? {
            Event::NeedMore => return Ok(()),
            Event::Data(slice) => {
                assert!(!slice.is_empty() && slice.len() <= LIMIT);
                outcome.body.extend_from_slice(&slice);
            }
            Event::Leading(bytes) => {
                assert!(outcome.leading.is_none() && bytes.len() <= LIMIT);
                // As the two halves do it, which refuse what cannot be decoded.
                let Ok(message) = InternalInvokeRequestStream::decode(bytes.clone()) else {
                    return Err(FrameError::Malformed("leading message"));
                };
                if let Some(payload) = message.payload {
                    decoder.leading_payload(payload.seq)?;
                    outcome.body.extend_from_slice(&payload.data);
                }
                outcome.leading = Some(bytes.to_vec());
            }
        }
    }
}

/// The stream by the generated code alone, message by message.
fn by_generated_code(wire: &[u8]) -> Outcome {
    let mut rest = Bytes::copy_from_slice(wire);
    let mut outcome = Outcome {
        leading: None,
        body: Vec::new(),
        end: Ok(()),
    };
    let mut expected = 0;
    while !rest.is_empty() {
        assert!(rest.len() >= PREFIX, "a prefix is cut");
        assert_eq!(rest.get_u8(), 0, "compressed");
        let size = rest.get_u32() as usize;
        assert!(size <= LIMIT && size <= rest.len(), "a message is cut");
        let bytes = rest.split_to(size);
        let message = InternalInvokeRequestStream::decode(bytes.clone());
        let message = message.unwrap_or_else(|error| panic!("accepted, and no message: {error}"));
        match outcome.leading {
            None => outcome.leading = Some(bytes.to_vec()),
            Some(_) => assert!(
                message.request.is_none_or(|late| late.encoded_len() == 0),
                "a late head"
            ),
        }
        if let Some(payload) = message.payload {
            assert_eq!(payload.seq, expected, "a number out of order");
            expected += 1;
            outcome.body.extend_from_slice(&payload.data);
        }
    }
    outcome
}

#[test]
fn frames_are_whole_or_refused() {
    Fuzz {
        name: "chunks",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/chunks"),
        dictionary: &[
            b"\x00\x00\x00\x00\x00",
            b"\x00\x00\x00\x00\x02",
            b"\x01\x00\x00\x00\x00",
            b"\x00\xff\xff\xff\xff",
            b"\x0a\x00",
            b"\x12\x00",
            b"\x12\x02\x10\x01",
            b"\x0a\x01x",
            b"\x10\x00",
            b"\x10\x01",
            b"\x10\x02",
            b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x12\xff\xff\xff\xff\x0f",
            b"\x0d\x00\x00\x00\x00",
            b"\x09\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\x13",
            b"\x14",
            b"\x1a\x00",
            b"\x00",
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        ],
        count: 60_000,
        longest: 8192,
        target: chunks,
    }
    .run();
}
