//! Stage 17, `decode`: internal messages to an invocation.
//!
//! Owns what a leading message has to hold, the length that a unary call states, and the error texts of both. Who
//! calls, and whether it may, is not read here.

use std::time::Duration;

use http::{HeaderMap, header};
use ironside_policy::{Method, OVERRIDE_HEADERS, Verb, VerbSet};
use ironside_proto::{
    common::{InvokeRequest, StreamPayload},
    google::protobuf::Any,
    internals::{InternalInvokeRequest, InternalInvokeRequestStream},
};
use tonic::Status;

use crate::{
    body::{Body, BodyError},
    channel::AppChannel,
    inbound::unread::{Room, Unread},
    invocation::{Invocation, Length, Origin, bulk, grpc, headers, stream::Pieces, wire},
};

/// Time that a peer has for its leading message.
const LEADING_LIMIT: Duration = Duration::from_secs(10);

/// A unary call knows its length, so the app is told (golden 25); what the caller wrote does not count.
pub(super) fn state_length(message: &mut InternalInvokeRequest, length: usize) {
    let verb = message
        .message
        .as_ref()
        .and_then(|message| message.http_extension.as_ref())
        .map(|http| wire::verb_from_wire(http.verb));
    let bodiless = matches!(
        verb,
        Some(Verb::Get | Verb::Head | Verb::Delete | Verb::Options)
    );
    let metadata = &mut message.metadata;
    let stated = metadata.len();
    metadata.retain(|key, _| !key.eq_ignore_ascii_case("content-length"));
    let stated = metadata.len() < stated;
    if length > 0 || stated || !bodiless {
        let values = vec![length.to_string()];
        metadata.insert(
            "content-length".to_owned(),
            ironside_proto::internals::ListStringValue { values },
        );
    }
}

/// The first message of a stream, and the room that it takes.
pub(super) async fn leading(
    pieces: &mut Pieces,
    unread: &Unread,
) -> Result<(InternalInvokeRequest, Option<StreamPayload>, Room), Status> {
    const MISSING: &str = "request does not contain the required fields in the leading chunk";
    let mut room = Room::default();
    let leading = pieces.leading_within(|frame| {
        let enlarged = unread.enlarge(&mut room, frame);
        enlarged.map_err(|full| BodyError::Denied(Box::new(full)))
    });
    let leading = tokio::time::timeout(LEADING_LIMIT, leading)
        .await
        .map_err(|_elapsed| Status::deadline_exceeded("no leading message within 10 s"))?
        .map_err(|error| {
            if let BodyError::Denied(full) = error {
                return *full;
            }
            parsing(&error.to_string())
        })?;
    let Some(leading) = leading else {
        return Err(Status::unknown("EOF"));
    };
    bulk::check(&leading, bulk::REQUEST_STREAM)?;
    let InternalInvokeRequestStream { request, payload } =
        grpc::decode(leading).map_err(|status| parsing(status.message()))?;
    match request {
        Some(request) if !request.metadata.is_empty() && request.message.is_some() => {
            Ok((request, payload, room))
        }
        _ => Err(parsing(MISSING)),
    }
}

pub(super) fn parsing(text: &str) -> Status {
    Status::invalid_argument(format!("parsing InternalInvokeRequest error: {text}"))
}

/// Wire to invocation, and the path as it was written.
pub(super) fn decode(
    message: InternalInvokeRequest,
    body: Body,
    app: &AppChannel,
) -> Result<(Invocation, String), Status> {
    let InternalInvokeRequest {
        ver: _,
        metadata,
        message,
        actor: _,
    } = message;
    let InvokeRequest {
        method: raw,
        data,
        content_type,
        http_extension,
    } = message.unwrap_or_default();
    let Any { type_url, .. } = data.unwrap_or_default();
    let method = Method::parse(&raw)
        .map_err(|error| Status::invalid_argument(format!("invalid method: {error}")))?;
    let wire::Mapped {
        mut headers,
        pseudo,
        canonical,
    } = wire::from_map(metadata).map_err(|error| Status::invalid_argument(error.to_string()))?;
    headers.remove(headers::API_TOKEN);
    headers.remove(headers::APP_ID);
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(Length::Streaming, Length::Fixed);
    let verb = http_extension
        .as_ref()
        .map_or(Verb::None, |extension| wire::verb_from_wire(extension.verb));
    let origin = if canonical {
        Origin::Http
    } else {
        Origin::Grpc
    };
    if !app.is_http() && origin == Origin::Grpc {
        headers.remove(header::CONTENT_LENGTH);
    }
    let call = Invocation {
        method,
        verb,
        has_http: http_extension.is_some(),
        query: http_extension
            .map(|extension| extension.querystring)
            .unwrap_or_default()
            .into(),
        origin,
        headers,
        pseudo,
        content_type: content_type.into(),
        type_url: type_url.into(),
        length,
        body: body.into(),
    };
    Ok((call, raw))
}

/// Verbs that the app may take the request for (fact O-A4).
pub(super) fn overrides(headers: &HeaderMap) -> VerbSet {
    let values = OVERRIDE_HEADERS.iter();
    let values = values.flat_map(|name| headers.get_all(*name));
    VerbSet::overrides(values.filter_map(|value| value.to_str().ok()))
}
