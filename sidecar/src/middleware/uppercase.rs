//! `middleware.http.uppercase`: shows that a pipeline works.
//!
//! Owns the mapping of bodies, frame by frame and in ASCII only, so that lengths stay what was declared.
//! Requests and answers are both mapped: the sheets name one each (SI-138), and an app that echoes cannot
//! tell. Nobody runs this in earnest.

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;

use crate::body::Body;

/// `body` in capitals.
pub(super) fn body(body: Body) -> Body {
    body.map_frame(|frame: Frame<Bytes>| frame.map_data(|data| data.to_ascii_uppercase().into()))
        .boxed_unsync()
}
