//! A byte stream that can be cut from outside.
//!
//! hyper runs an HTTP/2 connection in a task of its own and lets nobody end it while streams are open. A
//! connection whose right to exist has ended must go all the same, so the cut is made in its I/O.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

/// The handles of one stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Link {
    /// Cancelling it cuts the stream.
    pub(crate) sever: CancellationToken,
    /// Cancelled when the stream has gone, for whatever reason.
    pub(crate) gone: CancellationToken,
}

/// A stream that ends with an error once its link is severed.
pub(crate) struct Severable<S> {
    io: S,
    severed: Pin<Box<WaitForCancellationFutureOwned>>,
    _gone: DropGuard,
}

impl<S> Severable<S> {
    /// Ties `io` to a new link.
    pub(crate) fn new(io: S) -> (Self, Link) {
        let link = Link::default();
        let severed = Box::pin(link.sever.clone().cancelled_owned());
        let severable = Self {
            io,
            severed,
            _gone: link.gone.clone().drop_guard(),
        };
        (severable, link)
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.severed.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Severable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Severable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_severed_stream_ends_for_a_reader_that_waits() {
        let (near, mut far) = tokio::io::duplex(64);
        let (mut near, link) = Severable::new(near);
        far.write_all(b"a").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'a');
        let (read, ()) = tokio::join!(near.read_u8(), async { link.sever.cancel() });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert!(!link.gone.is_cancelled());
        drop(near);
        assert!(link.gone.is_cancelled());
    }
}
