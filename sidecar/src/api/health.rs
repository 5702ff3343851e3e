//! `GET /v1.0/healthz` and `GET /v1.0/healthz/outbound`.
//!
//! Owns the three refusals of service-invocation 1.14. App probes have no influence here. Refuses to own
//! readiness itself, which is the registry's.

use http::{Response, StatusCode};
use ironside_chassis::health::Health;

use super::reply;
use crate::body::Body;

/// Answers `/v1.0/healthz`; `query` may name the app ID that is expected here.
pub(crate) fn healthz(health: &Health, own_app_id: &str, query: Option<&str>) -> Response<Body> {
    let waiting = health.not_ready_targets();
    if !waiting.is_empty() {
        let message = format!("dapr is not ready: [{}]", waiting.join(" "));
        return reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ERR_HEALTH_NOT_READY",
            &message,
        );
    }
    if query
        .and_then(app_id_of)
        .is_some_and(|asked| asked != own_app_id)
    {
        return reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ERR_HEALTH_APPID_NOT_MATCH",
            "dapr app-id does not match",
        );
    }
    reply::no_content()
}

/// Answers `/v1.0/healthz/outbound`: servers, resolver, components and endpoints, but not the app.
pub(crate) fn outbound(outbound: &Health) -> Response<Body> {
    if outbound.is_ready() {
        return reply::no_content();
    }
    reply::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        "ERR_OUTBOUND_HEALTH_NOT_READY",
        "dapr outbound is not ready",
    )
}

/// The first `appid` of a query, decoded; `None` if there is none or it is empty.
fn app_id_of(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("appid="))?
        .replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&value)
        .decode_utf8_lossy()
        .into_owned();
    (!decoded.is_empty()).then_some(decoded)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(answer: Response<Body>) -> (u16, String) {
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            head.status.as_u16(),
            String::from_utf8(bytes.to_vec()).unwrap(),
        )
    }

    /// Fact: process-interface 2.4, service-invocation E17 to E19.
    #[tokio::test]
    async fn the_four_answers() {
        let (all, out) = (Health::new(), Health::new());
        let (runtime, servers) = (all.register("runtime"), out.register("outbound"));
        let not_ready =
            r#"{"errorCode":"ERR_HEALTH_NOT_READY","message":"dapr is not ready: [runtime]"}"#;
        assert_eq!(
            text(healthz(&all, "appa", None)).await,
            (500, not_ready.to_owned())
        );
        let outbound_off = r#"{"errorCode":"ERR_OUTBOUND_HEALTH_NOT_READY","message":"dapr outbound is not ready"}"#;
        assert_eq!(text(outbound(&out)).await, (500, outbound_off.to_owned()));
        servers.ready();
        assert_eq!(text(outbound(&out)).await, (204, String::new()));
        runtime.ready();
        for query in [None, Some("x=1&appid=appa"), Some("appid=")] {
            assert_eq!(
                text(healthz(&all, "appa", query)).await,
                (204, String::new()),
                "{query:?}"
            );
        }
        let mismatch =
            r#"{"errorCode":"ERR_HEALTH_APPID_NOT_MATCH","message":"dapr app-id does not match"}"#;
        assert_eq!(
            text(healthz(&all, "appa", Some("appid=zz"))).await,
            (500, mismatch.to_owned())
        );
    }
}
