//! The control port: orders of a test, and what it asks for. Plain HTTP/1.1.

use std::convert::Infallible;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    answer::{Body, reply, with_status},
    load::{Load, Order},
    state::State,
};

/// Answers a request to the control port.
pub(crate) async fn answer(
    state: State,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let outcome = route(&state, request).await;
    Ok(outcome.unwrap_or_else(|error| {
        let text = json!({"error": format!("{error:#}")});
        with_status(StatusCode::BAD_REQUEST, &text)
    }))
}

async fn route(state: &State, request: Request<Incoming>) -> Result<Response<Body>> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let body = request.into_body().collect().await?.to_bytes();
    match (path.as_str(), method) {
        ("/healthz", Method::GET) => Ok(reply(&json!({"healthy": true}))),
        ("/counts", Method::GET) => Ok(reply(&json!(state.counts()))),
        ("/counts", Method::DELETE) => {
            state.forget();
            Ok(reply(&json!({})))
        }
        ("/call", Method::POST) => {
            let call = serde_json::from_slice(&body).context("the call")?;
            let outcome = state.caller().make(&call).await;
            Ok(reply(&serde_json::to_value(outcome)?))
        }
        ("/load", Method::PUT) => start(state, &body),
        ("/load", Method::GET) => told(state, Load::account),
        ("/load", Method::DELETE) => told(state, Load::end),
        _ => Ok(with_status(
            StatusCode::NOT_FOUND,
            &json!({"error": format!("nothing at {path}")}),
        )),
    }
}

fn start(state: &State, body: &Bytes) -> Result<Response<Body>> {
    let order: Order = serde_json::from_slice(body).context("the load")?;
    // The one before ends with its account.
    *state.load() = Some(Load::start(state.caller(), &order));
    Ok(reply(&json!({})))
}

fn told(
    state: &State,
    ask: impl FnOnce(&mut Load) -> crate::load::Account,
) -> Result<Response<Body>> {
    match state.load().as_mut() {
        Some(load) => Ok(reply(&serde_json::to_value(ask(load))?)),
        None => Ok(with_status(
            StatusCode::NOT_FOUND,
            &json!({"error": "no load was started"}),
        )),
    }
}
