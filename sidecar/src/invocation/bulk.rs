//! How many values an internal message holds, asked before it is decoded.
//!
//! Decoded, an empty value of a header takes some fifty times its two bytes: who may send megabytes would get hundreds
//! of them, allowed or not. Owns where messages hold such values, and how many there may be. A message that cannot be
//! walked is left to the decoder, which says why. Part of stages 15 and 17.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tonic::Status;

use super::headers::MAX_NAMES;

/// Most values, and the entries that hold them, in one place of a message: a name with one value is three.
const MOST: usize = 4 * MAX_NAMES;

/// Where a kind of message holds values: numbers of fields, from the outside in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places(&'static [&'static [u32]]);

/// `InternalInvokeRequest`: metadata.
pub(crate) const REQUEST: Places = Places(&[&[2, 2, 1]]);
/// `InternalInvokeRequestStream`.
pub(crate) const REQUEST_STREAM: Places = Places(&[&[1, 2, 2, 1]]);
/// `InternalInvokeResponse`: headers, trailers, details of the status.
pub(crate) const RESPONSE: Places = Places(&[&[2, 2, 1], &[3, 2, 1], &[1, 3]]);
/// `InternalInvokeResponseStream`.
pub(crate) const RESPONSE_STREAM: Places = Places(&[&[1, 2, 2, 1], &[1, 3, 2, 1], &[1, 1, 3]]);

/// Refuses a message with more values than any legitimate one has.
///
/// # Errors
/// ResourceExhausted, naming the bound.
pub(crate) fn check(message: &[u8], places: Places) -> Result<(), Status> {
    if places.0.iter().any(|path| count(message, path) > MOST) {
        return Err(Status::resource_exhausted(format!(
            "more metadata values than {MOST}, the most that are taken"
        )));
    }
    Ok(())
}

/// Fields along the path; it stops soon after there are too many, and where nothing can be read.
fn count(mut message: &[u8], path: &[u32]) -> usize {
    let Some((wanted, rest)) = path.split_first() else {
        return 0;
    };
    let mut found = 0;
    while !message.is_empty() && found <= MOST {
        let Ok((field, kind)) = decode_key(&mut message) else {
            break;
        };
        if field != *wanted || kind != WireType::LengthDelimited {
            if skip_field(kind, field, &mut message, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut message).ok();
        let length = length.and_then(|length| usize::try_from(length).ok());
        let Some((inner, after)) = length.and_then(|length| message.split_at_checked(length))
        else {
            break;
        };
        found += 1 + count(inner, rest);
        message = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use ironside_proto::internals::{
        InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
        InternalInvokeResponseStream, ListStringValue,
    };
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    fn map(names: usize, values: usize) -> HashMap<String, ListStringValue> {
        let list = ListStringValue {
            values: vec![String::new(); values],
        };
        (0..names)
            .map(|name| (name.to_string(), list.clone()))
            .collect()
    }

    #[test]
    fn values_are_counted_wherever_they_are() {
        for (names, values, fits) in [
            (0, 0, true),
            (1, MOST - 8, true),
            (1, MOST, false),
            (MOST / 3 - 4, 1, true),
            (MOST / 2 + 1, 1, false),
            (1, 1_000_000, false),
        ] {
            let request = InternalInvokeRequest {
                metadata: map(names, values),
                ..InternalInvokeRequest::default()
            };
            let response = InternalInvokeResponse {
                trailers: map(names, values),
                ..InternalInvokeResponse::default()
            };
            let request_stream = InternalInvokeRequestStream {
                request: Some(request.clone()),
                payload: None,
            };
            let response_stream = InternalInvokeResponseStream {
                response: Some(response.clone()),
                payload: None,
            };
            for (bytes, places) in [
                (request.encode_to_vec(), REQUEST),
                (response.encode_to_vec(), RESPONSE),
                (request_stream.encode_to_vec(), REQUEST_STREAM),
                (response_stream.encode_to_vec(), RESPONSE_STREAM),
            ] {
                let outcome = check(&bytes, places);
                assert_eq!(outcome.is_ok(), fits, "{names} {values} {places:?}");
            }
        }
    }

    /// Each place has the bound for itself, as what fills it has; and each is looked at.
    #[test]
    fn places_of_an_answer_are_counted_each() {
        use ironside_proto::google::protobuf::Any;
        use ironside_proto::internals::Status;
        let details = |count| Status {
            details: vec![Any::default(); count],
            ..Status::default()
        };
        for (headers, trailers, many, fits) in [
            (MAX_NAMES, MAX_NAMES, MOST - 2, true),
            (MOST, 0, 0, false),
            (0, MOST, 0, false),
            (0, 0, MOST, false),
        ] {
            let response = InternalInvokeResponse {
                status: Some(details(many)),
                headers: map(headers, 1),
                trailers: map(trailers, 1),
                ..InternalInvokeResponse::default()
            };
            let stream = InternalInvokeResponseStream {
                response: Some(response.clone()),
                payload: None,
            };
            assert_eq!(check(&response.encode_to_vec(), RESPONSE).is_ok(), fits);
            assert_eq!(
                check(&stream.encode_to_vec(), RESPONSE_STREAM).is_ok(),
                fits
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_asked(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for places in [REQUEST, REQUEST_STREAM, RESPONSE, RESPONSE_STREAM] {
                prop_assert!(check(&bytes, places).is_ok());
            }
        }
    }
}
