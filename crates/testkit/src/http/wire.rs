//! HTTP/1.1 as bytes: reads heads, chunks and ends exactly as they arrive.
//!
//! Nothing is normalised: names keep their case, headers their order, chunks their borders, and a body that
//! stops early is told apart from one that ended. Knows nothing of requests or answers.

use std::io;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};

/// Largest head accepted; a test that needs more tests something else.
const HEAD_LIMIT: usize = 1 << 20;

/// Bytes asked from the socket at once.
const READ: usize = 64 * 1024;

/// A first line and the headers below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line.
    pub line: String,
    /// Names and values in the order and spelling of the wire.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of `name`, any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All values of `name`, any case, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The `index`th word of the first line.
    #[must_use]
    pub fn word(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }

    /// How the body below this head is delimited, for a request.
    #[must_use]
    pub fn request_framing(&self) -> Framing {
        self.framing().unwrap_or(Framing::Empty)
    }

    /// How the body below this head is delimited, for the answer to a request of method `asked`.
    #[must_use]
    pub fn reply_framing(&self, asked: &str) -> Framing {
        let bare = matches!(self.word(1), "204" | "304") || self.word(1).starts_with('1');
        if asked == "HEAD" || bare {
            return Framing::Empty;
        }
        self.framing().unwrap_or(Framing::UntilClose)
    }

    fn framing(&self) -> Option<Framing> {
        if self
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
        {
            return Some(Framing::Chunked);
        }
        self.header("content-length")
            .and_then(|value| value.trim().parse().ok())
            .map(Framing::Length)
    }
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After so many bytes.
    Length(u64),
    /// After the chunk of size 0.
    Chunked,
    /// When the connection closes.
    UntilClose,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its framing promised.
    Whole,
    /// The connection ended first.
    Cut,
}

/// A running checksum over bytes, wherever the borders of their pieces are.
#[derive(Clone, Debug, Default)]
pub struct Digest {
    // The standard library's hasher reads a stream of bytes and is fast without optimisation.
    hasher: std::hash::DefaultHasher,
    length: u64,
}

impl Digest {
    /// Takes the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(&mut self.hasher, bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
    }

    /// How many bytes it has seen.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The checksum.
    #[must_use]
    pub fn finish(&self) -> u64 {
        std::hash::Hasher::finish(&self.hasher)
    }
}

/// Where a reader stands inside a body.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    framing: Framing,
    left: u64,
    end: Option<End>,
}

impl Cursor {
    /// At the start of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let (left, end) = match framing {
            Framing::Empty | Framing::Length(0) => (0, Some(End::Whole)),
            Framing::Length(length) => (length, None),
            Framing::Chunked | Framing::UntilClose => (0, None),
        };
        Self { framing, left, end }
    }

    /// How the body ended, once it did.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Writer<S> {
    io: WriteHalf<S>,
}

/// The receiving half, with what was read ahead.
#[derive(Debug)]
pub struct Reader<S> {
    io: ReadHalf<S>,
    ahead: Vec<u8>,
}

/// Parts a connection into its halves.
pub fn halves<S: AsyncRead + AsyncWrite>(io: S) -> (Reader<S>, Writer<S>) {
    let (read, write) = tokio::io::split(io);
    (
        Reader {
            io: read,
            ahead: Vec::new(),
        },
        Writer { io: write },
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> Writer<S> {
    /// Writes bytes as they are.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Closes the sending half.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Reader<S> {
    /// Waits until the other side closes or resets; bytes that arrive meanwhile are kept.
    pub async fn closed(&mut self) {
        while self.ahead.len() < HEAD_LIMIT && self.fill().await.is_ok_and(|count| count > 0) {}
    }

    /// Reads the next head; `None` when the connection ended before its first byte.
    ///
    /// # Errors
    /// When the connection breaks inside the head, or the head is no HTTP/1.1.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n\r\n") {
                let text: Vec<u8> = self.ahead.drain(..at.saturating_add(4)).collect();
                return parse_head(&text).map(Some);
            }
            if self.ahead.len() > HEAD_LIMIT {
                return Err(io::Error::other("the head does not end"));
            }
            if self.fill().await? == 0 {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Reads the next piece of a body: one chunk, or what has arrived. `None` at its end, whole or cut.
    pub async fn piece(&mut self, cursor: &mut Cursor) -> Option<Vec<u8>> {
        if cursor.end.is_some() {
            return None;
        }
        let piece = match cursor.framing {
            Framing::Chunked => self.chunk(cursor).await,
            Framing::Length(_) => self.counted(cursor).await,
            Framing::UntilClose => self.rest(cursor).await,
            Framing::Empty => None,
        };
        if piece.is_none() && cursor.end.is_none() {
            cursor.end = Some(End::Cut);
        }
        piece
    }

    async fn counted(&mut self, cursor: &mut Cursor) -> Option<Vec<u8>> {
        if self.ahead.is_empty() && self.fill().await.unwrap_or(0) == 0 {
            return None;
        }
        let count = usize::try_from(cursor.left)
            .unwrap_or(usize::MAX)
            .min(self.ahead.len());
        cursor.left = cursor.left.saturating_sub(count as u64);
        if cursor.left == 0 {
            cursor.end = Some(End::Whole);
        }
        Some(self.ahead.drain(..count).collect())
    }

    async fn rest(&mut self, cursor: &mut Cursor) -> Option<Vec<u8>> {
        if self.ahead.is_empty() {
            match self.fill().await {
                Ok(0) => cursor.end = Some(End::Whole),
                Ok(_) => {}
                Err(_) => cursor.end = Some(End::Cut),
            }
        }
        let piece = std::mem::take(&mut self.ahead);
        (!piece.is_empty()).then_some(piece)
    }

    async fn chunk(&mut self, cursor: &mut Cursor) -> Option<Vec<u8>> {
        let line = self.line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            // Trailers, up to an empty line.
            while !self.line().await?.is_empty() {}
            cursor.end = Some(End::Whole);
            return None;
        }
        let whole = size.checked_add(2)?;
        while self.ahead.len() < whole {
            if self.fill().await.unwrap_or(0) == 0 {
                // What arrived of a broken chunk is handed out, so that a cut can be measured.
                cursor.end = Some(End::Cut);
                self.ahead.truncate(size);
                let piece = std::mem::take(&mut self.ahead);
                return (!piece.is_empty()).then_some(piece);
            }
        }
        let mut piece: Vec<u8> = self.ahead.drain(..whole).collect();
        piece.truncate(size);
        Some(piece)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = find(&self.ahead, b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..at.saturating_add(2)).take(at).collect();
                return String::from_utf8(line).ok();
            }
            if self.fill().await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.ahead.reserve(READ);
        self.io.read_buf(&mut self.ahead).await
    }
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|window| window == mark)
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    // Latin-1: every byte a value may hold becomes one character.
    let text: String = bytes.iter().copied().map(char::from).collect();
    let mut lines = text.split("\r\n").take_while(|line| !line.is_empty());
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = lines.map(|line| {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| io::Error::other(format!("no header: {line:?}")))?;
        Ok((name.to_owned(), value.trim().to_owned()))
    });
    Ok(Head {
        line,
        headers: headers.collect::<io::Result<_>>()?,
    })
}
