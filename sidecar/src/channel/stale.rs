//! A connection on which no request is begun once the app has closed it.
//!
//! An app that ends closes its idle connections, and a request may be on its way to one of them: taken from the pool
//! while the farewell has come but nobody has read it. Such a request would be lost, though nothing of it was sent.
//! So the socket is asked before the first byte of each request, and a request that was not begun is told from one
//! whose answer is missing ([`Stale`]): the app knows nothing of it. Only plain HTTP/1.1, where one request follows
//! the other. Decides nothing about another
//! attempt. Stage 22.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower_service::Service;

/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// What the connector below makes.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connection ended before the first byte of a request.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed before the request")]
pub(crate) struct Stale;

impl Stale {
    /// True if an I/O error is this.
    pub(crate) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// A connector whose connections are asked before each request.
#[derive(Debug, Clone)]
pub(crate) struct StaleCheck<C> {
    connector: C,
    /// Whether requests follow one another, as in HTTP/1.1.
    one_by_one: bool,
}

impl<C> StaleCheck<C> {
    /// Asks connections of `connector` on which requests follow one another; others are left as they are.
    pub(crate) const fn new(connector: C, one_by_one: bool) -> Self {
        Self {
            connector,
            one_by_one,
        }
    }
}

impl<C, R> Service<R> for StaleCheck<C>
where
    C: Service<R, Response = Stream>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Checked>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Checked>, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let connecting = self.connector.call(request);
        let one_by_one = self.one_by_one;
        Box::pin(async move { Ok(TokioIo::new(Checked::new(connecting.await?, one_by_one))) })
    }
}

/// Where a connection is between one request and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The next byte written is the first of a request.
    Ready,
    /// Something of a request was written, nothing was read since.
    Written,
    /// A final answer began; so many bytes of the end of its head were read.
    Head(usize),
    /// What was read since may be no final answer: the next byte may belong to the same request.
    Unsure,
    /// Requests do not follow one another, or cannot be told apart.
    Unknown,
}

/// A connection to an app.
#[derive(Debug)]
pub(crate) struct Checked {
    stream: TokioIo<Stream>,
    turn: Turn,
}

impl Checked {
    fn new(stream: Stream, one_by_one: bool) -> Self {
        let turn = match &stream {
            MaybeHttpsStream::Http(_) if one_by_one => Turn::Ready,
            MaybeHttpsStream::Http(_) | MaybeHttpsStream::Https(_) => Turn::Unknown,
        };
        Self {
            stream: TokioIo::new(stream),
            turn,
        }
    }

    /// Refuses to begin a request if the peer has closed.
    fn begin(&self) -> io::Result<()> {
        if self.turn == Turn::Ready && self.is_closed() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, Stale));
        }
        Ok(())
    }

    /// Asks the socket itself: what the runtime knows of it may be older.
    fn is_closed(&self) -> bool {
        let MaybeHttpsStream::Http(tcp) = self.stream.inner() else {
            return false;
        };
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(tcp.inner()).peek(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => !matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }

    /// Notes what became of a write.
    fn wrote(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match (self.turn, result) {
            (Turn::Unknown, result) | (_, result @ (Poll::Pending | Poll::Ready(Ok(0)))) => result,
            (Turn::Ready, Poll::Ready(Err(error))) => {
                Poll::Ready(Err(io::Error::new(error.kind(), Stale)))
            }
            (Turn::Written | Turn::Head(_) | Turn::Unsure, Poll::Ready(Err(error))) => {
                Poll::Ready(Err(error))
            }
            (
                Turn::Ready | Turn::Written | Turn::Head(_) | Turn::Unsure,
                result @ Poll::Ready(Ok(_)),
            ) => {
                self.turn = Turn::Written;
                result
            }
        }
    }

    /// Notes what was read.
    fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let matched = match self.turn {
            Turn::Written if begins_final_answer(bytes) => 0,
            Turn::Head(matched) => matched,
            Turn::Written => {
                self.turn = Turn::Unsure;
                return;
            }
            Turn::Ready | Turn::Unsure | Turn::Unknown => return,
        };
        self.turn = match end_of_head(matched, bytes) {
            matched if matched == END.len() => Turn::Ready,
            // The request is not over for the client, and goes on if it has more to send.
            matched => Turn::Head(matched),
        };
    }
}

/// True if this begins with a final answer.
fn begins_final_answer(bytes: &[u8]) -> bool {
    let code = bytes
        .strip_prefix(b"HTTP/1.1 ")
        .or_else(|| bytes.strip_prefix(b"HTTP/1.0 "));
    matches!(code, Some([b'2'..=b'5', ..]))
}

/// How much of [`END`] was read with these bytes, after `matched` of it before them.
fn end_of_head(mut matched: usize, bytes: &[u8]) -> usize {
    for byte in bytes {
        matched = match END.get(matched) {
            None => break,
            Some(expected) if expected == byte => matched + 1,
            Some(_) => usize::from(*byte == b'\r'),
        };
    }
    matched
}

impl AsyncRead for Checked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.read(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Checked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin()?;
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin()?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Connection for Checked {
    fn connected(&self) -> Connected {
        self.stream.inner().connected()
    }
}

#[cfg(test)]
mod tests;
