//! A gRPC client whose header blocks are written by hand: any `:path`, any name, any bytes, in any order.
//!
//! The HTTP/2 library refuses to send what an attacker would. Here it keeps the connection, and each header block
//! it writes is exchanged on its way out for one of the test's, in literals without compression, which leave the
//! other side's table as it was. Answers are read as by [`GrpcClient`]. One call at a time.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{GrpcClient, GrpcReply};
use crate::http::client::Io;

/// What a client sends before its first frame.
const PREFACE: usize = 24;
/// Length of a frame's head.
const FRAME_HEAD: usize = 9;
/// Largest frame that every server takes.
const FRAME: usize = 16_384;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

type Blocks = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A connection to a gRPC server, for one call at a time.
#[derive(Debug)]
pub struct BareClient {
    client: GrpcClient,
    blocks: Blocks,
}

impl BareClient {
    /// Speaks over a given connection.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn over(io: impl Io + 'static) -> io::Result<Self> {
        let blocks = Blocks::default();
        let exchanged = Exchanged {
            io,
            blocks: Arc::clone(&blocks),
            preface: PREFACE,
            pending: Vec::new(),
            out: Vec::new(),
        };
        Ok(Self {
            client: GrpcClient::over(exchanged, "localhost").await?,
            blocks,
        })
    }

    /// Sends these header fields as they are, all messages, and reads everything.
    ///
    /// # Errors
    /// When the connection is gone; later failures are part of the reply.
    pub async fn call(
        &mut self,
        fields: &[(&str, &[u8])],
        messages: &[&[u8]],
    ) -> io::Result<GrpcReply> {
        let block = fields.iter().flat_map(|(name, value)| {
            let mut field = vec![0];
            literal(name.as_bytes(), &mut field);
            literal(value, &mut field);
            field
        });
        let block = block.collect();
        lock(&self.blocks).push_back(block);
        self.client.call("/", &[], messages).await
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.client.is_open()
    }
}

fn lock(blocks: &Blocks) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
    blocks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A string literal of RFC 7541 5.2, not Huffman coded.
fn literal(text: &[u8], out: &mut Vec<u8>) {
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    let mut rest = text.len();
    if rest < 127 {
        out.push(byte(rest));
    } else {
        out.push(127);
        rest = rest.saturating_sub(127);
        while rest >= 128 {
            out.push(byte(rest % 128) | 128);
            rest /= 128;
        }
        out.push(byte(rest));
    }
    out.extend_from_slice(text);
}

/// The sending half lets everything pass but header blocks.
struct Exchanged<S> {
    io: S,
    blocks: Blocks,
    preface: usize,
    pending: Vec<u8>,
    out: Vec<u8>,
}

impl<S> Exchanged<S> {
    /// Moves all whole frames to the way out.
    fn advance(&mut self) {
        let passed = self.preface.min(self.pending.len());
        self.out.extend(self.pending.drain(..passed));
        self.preface = self.preface.saturating_sub(passed);
        while let Some(&[a, b, c, kind, flags, d, e, f, g]) = self.pending.first_chunk() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            let whole = length.saturating_add(FRAME_HEAD);
            if self.pending.len() < whole {
                return;
            }
            let frame: Vec<u8> = self.pending.drain(..whole).collect();
            let block = || lock(&self.blocks).pop_front();
            match (kind == HEADERS).then(block).flatten() {
                Some(block) => write_block(&block, flags & END_STREAM, [d, e, f, g], &mut self.out),
                None => self.out.extend_from_slice(&frame),
            }
        }
    }
}

fn write_block(block: &[u8], end: u8, stream: [u8; 4], out: &mut Vec<u8>) {
    let count = block.len().div_ceil(FRAME).max(1);
    for (at, part) in (0..count).map(|at| (at, block.chunks(FRAME).nth(at).unwrap_or_default())) {
        let length = u32::try_from(part.len()).unwrap_or_default().to_be_bytes();
        let last = if at.saturating_add(1) == count {
            END_HEADERS
        } else {
            0
        };
        let (kind, flags) = if at == 0 {
            (HEADERS, end | last)
        } else {
            (CONTINUATION, last)
        };
        out.extend(length.iter().skip(1));
        out.extend([kind, flags]);
        out.extend(stream);
        out.extend_from_slice(part);
    }
}

impl<S: AsyncWrite + Unpin> Exchanged<S> {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Exchanged<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        this.pending.extend_from_slice(buf);
        this.advance();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.drain(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Exchanged<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}
