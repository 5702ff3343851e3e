//! A stream that looks at what comes in: silence, HTTP/2, or the head of an HTTP/1.1 request.
//!
//! Owns [`Counted`], a pass-through, and [`Opening`], what it knows. The HTTP library would wait without end for
//! a client that sends less than an HTTP/2 preface, and cannot tell a kept connection from a slow head.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The HTTP/2 connection preface; every whole HTTP/1.1 request head that is shorter has been answered by then.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What came in on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Bytes, until there are enough.
    bytes: AtomicUsize,
    /// The bytes are no HTTP/2 preface.
    is_http1: AtomicBool,
    /// Bytes of an HTTP/1.1 request came whose head is not whole.
    head: AtomicBool,
}

/// A stream that counts.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    opening: Opening,
}

// === impl Opening ===

impl Opening {
    /// True if the client has said enough for its protocol to be known.
    pub(crate) fn is_over(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= PREFACE.len()
    }

    /// True if an HTTP/1.1 client has begun with something that nobody has called done.
    pub(crate) fn is_head_under_way(&self) -> bool {
        self.0.head.load(Ordering::Relaxed)
    }

    /// Whatever came so far belongs to a request that is known.
    pub(crate) fn head_done(&self) {
        self.0.head.store(false, Ordering::Relaxed);
    }

    fn saw(&self, bytes: &[u8]) {
        let before = self.0.bytes.load(Ordering::Relaxed);
        if let Some(expected) = PREFACE.get(before..).filter(|rest| !rest.is_empty()) {
            let common = expected.len().min(bytes.len());
            if expected.get(..common) != bytes.get(..common) {
                self.0.is_http1.store(true, Ordering::Relaxed);
            }
            self.0.bytes.store(before + common, Ordering::Relaxed);
        }
        if !bytes.is_empty() && self.0.is_http1.load(Ordering::Relaxed) {
            self.0.head.store(true, Ordering::Relaxed);
        }
    }

    /// `inner`, counted here.
    pub(crate) fn count<S>(&self, inner: S) -> Counted<S> {
        Counted {
            inner,
            opening: self.clone(),
        }
    }
}

// === impl Counted ===

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.opening
            .saw(buf.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_opening_is_over_with_a_preface() {
        let (mut client, server) = tokio::io::duplex(64);
        let opening = Opening::default();
        let mut counted = opening.count(server);
        let mut first = [0; 23];
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r")
            .await
            .unwrap();
        counted.read_exact(&mut first).await.unwrap();
        assert!(!opening.is_over());
        client.write_all(b"\n").await.unwrap();
        counted.read_exact(&mut [0; 1]).await.unwrap();
        assert!(opening.is_over());
    }

    #[test]
    fn only_http1_has_heads_under_way() {
        let http1 = Opening::default();
        http1.saw(b"P");
        assert!(!http1.is_head_under_way(), "it may be either");
        http1.saw(b"OST / HTTP/1.1\r\nHost: x\r\n");
        assert!(http1.is_head_under_way());
        http1.head_done();
        http1.saw(b"");
        assert!(!http1.is_head_under_way());
        http1.saw(b"G");
        assert!(http1.is_head_under_way());
        let http2 = Opening::default();
        for byte in PREFACE.iter().chain(b"\0\0\0") {
            http2.saw(&[*byte]);
        }
        assert!(http2.is_over() && !http2.is_head_under_way());
    }
}
