//! A stream that counts what came in, so that a connection which never says anything can be told apart.
//!
//! Owns [`Counted`], a pass-through, and [`Opening`], what it knows. The HTTP library times a head only once
//! it knows the protocol; a client that sends less than an HTTP/2 preface would be waited for without end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length of the HTTP/2 connection preface; every whole HTTP/1.1 request head that is shorter has been
/// answered by then.
const PREFACE: usize = 24;

/// Bytes that came in on one connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Opening(Arc<AtomicUsize>);

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
        self.0.load(Ordering::Relaxed) >= PREFACE
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
        // Nobody asks for more than the preface, so the counter is left alone after it.
        if !self.opening.is_over() {
            self.opening
                .0
                .fetch_add(buf.filled().len() - before, Ordering::Relaxed);
        }
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
}
