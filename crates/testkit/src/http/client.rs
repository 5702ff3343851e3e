//! A client that sends given bytes and tells everything about the answer.

use std::{io, path::Path};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use super::wire::{Cursor, End, Framing, Head, Reader, Writer, halves};

/// Either kind of connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A request as bytes.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    bytes: Vec<u8>,
}

impl Request {
    /// A request without body or headers other than `Host`.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        let bytes = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
        Self {
            method: method.to_owned(),
            bytes,
        }
    }

    /// `GET path`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// `POST path` with a body of fixed length.
    #[must_use]
    pub fn post(path: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", path).body(body)
    }

    /// Bytes as they are; the method is read from them.
    #[must_use]
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        let method = bytes.split(|byte| *byte == b' ').next().unwrap_or_default();
        Self {
            method: String::from_utf8_lossy(method).into_owned(),
            bytes,
        }
    }

    /// Adds a header; call it before the body is set.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let at = self.bytes.len().saturating_sub(2);
        self.bytes
            .splice(at..at, format!("{name}: {value}\r\n").into_bytes());
        self
    }

    /// Sets a body of fixed length.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let mut with = self.header("Content-Length", &body.len().to_string());
        with.bytes.extend_from_slice(body);
        with
    }

    /// Sets a chunked body.
    #[must_use]
    pub fn chunked<C: AsRef<[u8]>>(self, chunks: impl IntoIterator<Item = C>) -> Self {
        let mut with = self.header("Transfer-Encoding", "chunked");
        for chunk in chunks {
            with.bytes.extend_from_slice(&encode_chunk(chunk.as_ref()));
        }
        with.bytes.extend_from_slice(b"0\r\n\r\n");
        with
    }

    /// The method word.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// What goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// One chunk with its frame.
#[must_use]
pub fn encode_chunk(data: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", data.len()).into_bytes();
    framed.extend_from_slice(data);
    framed.extend_from_slice(b"\r\n");
    framed
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status line and headers.
    pub head: Head,
    /// Body bytes.
    pub body: Vec<u8>,
    /// Size of each piece, the chunk borders of a chunked body.
    pub pieces: Vec<usize>,
    /// How the body was delimited.
    pub framing: Framing,
    /// How it ended.
    pub end: End,
    /// Interim answers that came first.
    pub interim: Vec<Head>,
}

impl Reply {
    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.word(1).parse().unwrap_or(0)
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.head.line.splitn(3, ' ').nth(2).unwrap_or_default()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An open connection.
pub struct Connection {
    reader: Reader<Box<dyn Io>>,
    writer: Writer<Box<dyn Io>>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn tcp(port: u16) -> io::Result<Self> {
        Self::to(&format!("127.0.0.1:{port}")).await
    }

    /// Connects to `host:port`.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn to(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(Box::new(stream)))
    }

    /// Connects to a Unix socket.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self::over(Box::new(UnixStream::connect(path).await?)))
    }

    fn over(io: Box<dyn Io>) -> Self {
        let (reader, writer) = halves(io);
        Self { reader, writer }
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write(bytes).await
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.writer.half_close().await
    }

    /// Waits until the other side closes.
    pub async fn closed(&mut self) {
        self.reader.closed().await;
    }

    /// Reads a head, interim answers included.
    ///
    /// # Errors
    /// When the connection ends first.
    pub async fn head(&mut self) -> io::Result<Head> {
        next_head(&mut self.reader).await
    }

    /// Reads the next piece of the body that `cursor` stands in.
    pub async fn piece(&mut self, cursor: &mut Cursor) -> Option<Vec<u8>> {
        self.reader.piece(cursor).await
    }

    /// Reads the answer to a request of method `asked` to its end.
    ///
    /// # Errors
    /// When the connection ends before the head is whole.
    pub async fn reply(&mut self, asked: &str) -> io::Result<Reply> {
        read_reply(&mut self.reader, asked).await
    }

    /// Sends a request and reads its answer; both run at once, so that an early answer is seen.
    ///
    /// # Errors
    /// When the connection ends before the head of the answer is whole.
    pub async fn send(&mut self, request: &Request) -> io::Result<Reply> {
        let Self { reader, writer } = self;
        let write = async {
            // A server may answer and close before it read all: its answer counts, not the broken pipe.
            drop(writer.write(request.bytes()).await);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            reply = read_reply(reader, request.method()) => reply,
            () = write => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

async fn next_head(reader: &mut Reader<Box<dyn Io>>) -> io::Result<Head> {
    reader
        .head()
        .await?
        .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn read_reply(reader: &mut Reader<Box<dyn Io>>, asked: &str) -> io::Result<Reply> {
    let mut interim = Vec::new();
    let head = loop {
        let head = next_head(reader).await?;
        if !head.word(1).starts_with('1') || head.word(1) == "101" {
            break head;
        }
        interim.push(head);
    };
    let framing = head.reply_framing(asked);
    let mut cursor = Cursor::new(framing);
    let (mut body, mut pieces) = (Vec::new(), Vec::new());
    while let Some(piece) = reader.piece(&mut cursor).await {
        pieces.push(piece.len());
        body.extend_from_slice(&piece);
    }
    Ok(Reply {
        head,
        body,
        pieces,
        framing,
        end: cursor.end().unwrap_or(End::Cut),
        interim,
    })
}

/// Sends one request over a connection of its own.
///
/// # Errors
/// When nobody listens, or the connection ends before the head of the answer is whole.
pub async fn send(port: u16, request: &Request) -> io::Result<Reply> {
    Connection::tcp(port).await?.send(request).await
}
