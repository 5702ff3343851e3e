//! HTTP in front of the store: one request in, one answer or one endless watch out.
//!
//! Owns status codes, lists, watches with bookmarks, the metadata-only form of both, and the order in which a request
//! is recorded, refused, delayed and done.

use super::access;
use super::exec;
use super::faults::{Fault, Seen};
use super::forward;
use super::route::Target;
use super::select::Selector;
use super::store::{Expired, Key, Refusal};
use super::{Inner, Shared};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(super) type Body = BoxBody<Bytes, io::Error>;

/// Objects of one page when the client names no limit of its own.
const PAGE: usize = 500;

/// A watch that is being told.
struct Watch {
    shared: Arc<Shared>,
    target: Target,
    selector: Selector,
    metadata_only: bool,
    /// What has been told so far.
    revision: u64,
    /// The number of bookmarks that were asked for so far.
    bookmarks: u64,
    /// The number of drops so far.
    drops: u64,
    ended: bool,
}

/// Answers one request; an error ends the connection without an answer.
pub(super) async fn answer(
    shared: Arc<Shared>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, io::Error> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let metadata_only = accepts_metadata(&head.headers);
    let is_json_patch = is_json_patch(&head.headers);
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let query = head.uri.query().unwrap_or_default();
    let read = Target::read(head.method.as_str(), head.uri.path(), query).and_then(|target| {
        let selector =
            Selector::read(target.query("fieldSelector"), target.query("labelSelector"))?;
        Ok((target, selector))
    });
    let (target, selector) = match read {
        Ok(read) => read,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let seen = Seen::new(&target, query, selector.name(), body.clone());
    let fault = shared.record(&seen);
    let _flight = shared.fly(&seen);
    if let Err(refusal) = access::check(shared.lock().rules.as_deref(), &seen) {
        return Ok(refused(&refusal));
    }
    let mut spoilt = None;
    match fault {
        None => {}
        Some(Fault::Status(code)) => return Ok(refused(&Refusal::new(code, "injected"))),
        Some(Fault::DoneButStatus(code)) => spoilt = Some(Refusal::new(code, "injected")),
        Some(Fault::Close) => return Err(io::ErrorKind::ConnectionAborted.into()),
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Hold(hold)) => hold.pass().await,
        Some(Fault::Answer(text)) => return Ok(response(200, text.into())),
        Some(Fault::Cut(text)) => return Ok(cut(text)),
        Some(Fault::Exec(ran)) => return Ok(exec::answer(ran, &head.headers, upgrade)),
        Some(Fault::Forward(here)) => {
            let port = target.query("ports").parse().unwrap_or_default();
            return Ok(forward::answer(port, here, &head.headers, upgrade));
        }
    }
    if target.verb == "watch" {
        return Ok(watch(shared, target, selector, metadata_only));
    }
    let done = match is_json_patch && target.verb == "patch" {
        true => {
            let key = Key::of_target(&target);
            shared.lock().store.json_patch(key, body)
        }
        false => act(&mut shared.lock(), &target, &selector, body),
    };
    shared.tell();
    if let Some(refusal) = spoilt {
        return Ok(refused(&refusal));
    }
    let code = if target.verb == "create" { 201 } else { 200 };
    Ok(match done {
        Ok(object) => response(code, shaped(object, metadata_only).to_string().into()),
        Err(refusal) => refused(&refusal),
    })
}

fn act(
    inner: &mut Inner,
    target: &Target,
    selector: &Selector,
    body: Value,
) -> Result<Value, Refusal> {
    if (target.verb, target.resource.as_str()) == ("create", "tokenreviews") {
        return review(inner, body);
    }
    if (target.verb, target.resource.as_str()) == ("create", "subjectaccessreviews") {
        return Ok(rights(inner, body));
    }
    if let ("create", "pods", Some("eviction")) = (
        target.verb,
        target.resource.as_str(),
        target.subresource.as_deref(),
    ) {
        return inner.store.delete(Key::of_target(target));
    }
    if target
        .subresource
        .as_deref()
        .is_some_and(|part| part != "status")
    {
        return Err(Refusal::new(
            404,
            "the server could not find the requested resource",
        ));
    }
    let key = Key::of_target(target);
    match target.verb {
        "get" => inner.store.get(&key).cloned(),
        "list" => list(inner, target, selector),
        "create" => inner.store.create(key, body),
        "update" => inner.store.update(key, body),
        "patch" if is_applied(target, &body) => {
            let how = (target.query("fieldManager"), target.is_set("force"));
            inner.store.apply(key, how, body)
        }
        "patch" => inner.store.merge(key, &body),
        "delete" => inner.store.delete(key),
        _ => Err(Refusal::new(405, "the server does not allow this method")),
    }
}

/// Whether a patch is a whole object of one manager, as server-side apply sends it.
fn is_applied(target: &Target, body: &Value) -> bool {
    let is_object = body.get("apiVersion").is_some() && body.get("kind").is_some();
    target.subresource.is_none() && is_object && !target.query("fieldManager").is_empty()
}

/// Everybody may do everything but what was taken away.
fn rights(inner: &Inner, mut body: Value) -> Value {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
    let right = (
        text("/spec/user").unwrap_or_default().to_owned(),
        text("/spec/resourceAttributes/verb")
            .unwrap_or_default()
            .to_owned(),
        text("/spec/resourceAttributes/resource")
            .unwrap_or_default()
            .to_owned(),
    );
    let status = json!({"allowed": !inner.denied.contains(&right)});
    if let Some(members) = body.as_object_mut() {
        members.insert("status".to_owned(), status);
    }
    body
}

fn review(inner: &Inner, body: Value) -> Result<Value, Refusal> {
    match body.pointer("/spec/token").and_then(Value::as_str) {
        None | Some("") => Err(Refusal::new(
            400,
            "token is required for TokenReview in authentication",
        )),
        Some(_) => Ok(inner.tokens.review(body)),
    }
}

/// A list in pages; the token of the next page is the number of objects that were given.
fn list(inner: &Inner, target: &Target, selector: &Selector) -> Result<Value, Refusal> {
    let from: usize = target.query("continue").parse().unwrap_or_default();
    let limit = target.query("limit").parse().unwrap_or(PAGE).max(1);
    let all = inner.store.list(target, selector);
    let kind = all
        .first()
        .and_then(|object| object.get("kind"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut metadata = json!({"resourceVersion": inner.store.revision().to_string()});
    let total = all.len();
    if from + limit < total
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("continue".to_owned(), (from + limit).to_string().into());
    }
    Ok(json!({
        "kind": format!("{kind}List"), "apiVersion": target.api_version(), "metadata": metadata,
        "items": all.into_iter().skip(from).take(limit).collect::<Vec<_>>(),
    }))
}

fn watch(
    shared: Arc<Shared>,
    target: Target,
    selector: Selector,
    metadata_only: bool,
) -> Response<Body> {
    let limit = target.query("timeoutSeconds").parse().unwrap_or(290);
    let (bookmarks, drops) = (*shared.bookmarks.borrow(), *shared.drops.borrow());
    let watch = Watch {
        revision: target.query("resourceVersion").parse().unwrap_or_default(),
        shared,
        target,
        selector,
        metadata_only,
        bookmarks,
        drops,
        ended: false,
    };
    let end = Box::pin(tokio::time::sleep(Duration::from_secs(limit)));
    let frames = stream::unfold((watch, end), |(mut watch, mut end)| async {
        let lines = tokio::select! {
            lines = watch.next() => lines?,
            () = &mut end => return None,
        };
        Some((Ok(Frame::data(Bytes::from(lines))), (watch, end)))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    json_header(&mut response);
    response
}

// === impl Watch ===

impl Watch {
    /// The next lines; `None` when the watch is over.
    async fn next(&mut self) -> Option<String> {
        let mut revisions = self.shared.revisions.subscribe();
        let mut bookmarks = self.shared.bookmarks.subscribe();
        let mut drops = self.shared.drops.subscribe();
        loop {
            if self.ended || *drops.borrow_and_update() != self.drops {
                return None;
            }
            revisions.borrow_and_update();
            if let Some(lines) = self.news() {
                return Some(lines);
            }
            if let Some(line) = self.bookmark(*bookmarks.borrow_and_update()) {
                return Some(line);
            }
            let woken = tokio::select! {
                woken = revisions.changed() => woken,
                woken = bookmarks.changed() => woken,
                woken = drops.changed() => woken,
            };
            woken.ok()?;
        }
    }

    fn news(&mut self) -> Option<String> {
        let inner = self.shared.lock();
        let told = inner
            .store
            .since(self.revision, &self.target, &self.selector);
        let Ok(events) = told else {
            let Expired = Expired;
            self.ended = true;
            let refusal = Refusal::expired(self.revision, inner.store.revision());
            return Some(line(
                &json!({"type": "ERROR", "object": refusal.to_status()}),
            ));
        };
        self.revision = inner.store.revision().max(self.revision);
        drop(inner);
        let lines: String = events
            .into_iter()
            .map(|mut event| {
                if let Some(object) = event.get_mut("object") {
                    *object = shaped(object.take(), self.metadata_only);
                }
                line(&event)
            })
            .collect();
        (!lines.is_empty()).then_some(lines)
    }

    fn bookmark(&mut self, asked: u64) -> Option<String> {
        let due = asked != self.bookmarks && self.target.is_set("allowWatchBookmarks");
        self.bookmarks = asked;
        due.then(|| {
            line(&json!({"type": "BOOKMARK", "object": {
                "kind": "Bookmark", "apiVersion": self.target.api_version(),
                "metadata": {"resourceVersion": self.revision.to_string()},
            }}))
        })
    }
}

fn line(event: &Value) -> String {
    format!("{event}\n")
}

fn is_json_patch(headers: &http::HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind == "application/json-patch+json")
}

fn accepts_metadata(headers: &http::HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT);
    accept
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("as=PartialObjectMetadata"))
}

/// The object as it was asked for: whole, or its metadata.
fn shaped(object: Value, metadata_only: bool) -> Value {
    if !metadata_only || object.get("kind").and_then(Value::as_str) == Some("Status") {
        return object;
    }
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    match object.get("items").and_then(Value::as_array) {
        Some(items) => json!({
            "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "items": items.iter().map(|item| shaped(item.clone(), true)).collect::<Vec<_>>(),
        }),
        None => json!({
            "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        }),
    }
}

fn refused(refusal: &Refusal) -> Response<Body> {
    response(refusal.code, refusal.to_status().to_string().into())
}

fn response(code: u16, text: Bytes) -> Response<Body> {
    let mut response = Response::new(
        Full::new(text)
            .map_err(|never: Infallible| match never {})
            .boxed(),
    );
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    json_header(&mut response);
    response
}

/// An answer that never comes to its end.
fn cut(text: String) -> Response<Body> {
    let text = stream::iter([Ok(Frame::data(Bytes::from(text)))]);
    let end = stream::once(async {
        // What was said so far goes out first.
        tokio::task::yield_now().await;
        Err(io::ErrorKind::ConnectionAborted.into())
    });
    Response::new(BodyExt::boxed(StreamBody::new(text.chain(end))))
}

fn json_header(response: &mut Response<Body>) {
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
}
