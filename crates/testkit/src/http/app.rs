//! A fake HTTP app: records what arrives, answers what a script says.
//!
//! The script sees a request when its body has ended, or at its head if it asks for that.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

use super::{
    answer::{Answer, Step},
    wire::{Cursor, Digest, End, Framing, Head, Reader, Writer, halves},
};

/// Bytes of a body that are kept; the rest is only counted.
const KEPT: usize = 8 << 20;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers.
    pub head: Head,
    /// The first 8 MiB of the body.
    pub body: Vec<u8>,
    /// All bytes of the body.
    pub length: u64,
    /// Digest of all bytes of the body.
    pub digest: u64,
    /// How the body was delimited.
    pub framing: Framing,
    /// How it ended.
    pub end: End,
    /// Whether the other side went away before the answer was written.
    pub cancelled: bool,
}

impl Seen {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.head.word(0)
    }

    /// Path and query as sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.word(1)
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

/// Decides on an answer.
pub type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// Decides at the head of a request, before its body is read; `None` leaves it to the script.
pub type EarlyScript = dyn Fn(&Head) -> Option<Answer> + Send + Sync;

/// Wraps an accepted connection, for TLS.
pub type Wrap = dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn super::client::Io>>> + Send>>
    + Send
    + Sync;

/// How an app is started.
pub struct Setup {
    script: Arc<Script>,
    early: Arc<EarlyScript>,
    wrap: Option<Arc<Wrap>>,
    port: u16,
    continues: bool,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Setup {
    /// An app that answers by `script`.
    #[must_use]
    pub fn new(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self {
            script: Arc::new(script),
            early: Arc::new(|_| None),
            wrap: None,
            port: 0,
            continues: false,
        }
    }

    /// Asks `early` first, at the head of each request.
    #[must_use]
    pub fn early(
        mut self,
        early: impl Fn(&Head) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        self.early = Arc::new(early);
        self
    }

    /// Listens on this port instead of a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Answers `Expect: 100-continue`.
    #[must_use]
    pub fn continues(mut self) -> Self {
        self.continues = true;
        self
    }

    /// Wraps each connection.
    #[must_use]
    pub fn wrap(mut self, wrap: Arc<Wrap>) -> Self {
        self.wrap = Some(wrap);
        self
    }

    /// Starts listening on 127.0.0.1.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(self) -> io::Result<HttpApp> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], self.port))).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let app = App {
            setup: Arc::new(self),
            shared: Arc::clone(&shared),
        };
        Ok(HttpApp {
            port,
            shared,
            task: spawn(app.accept(listener)),
        })
    }
}

/// A running app; it stops when dropped.
#[derive(Debug)]
pub struct HttpApp {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl HttpApp {
    /// Starts an app that answers by `script`.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Setup::new(script).start().await
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops listening and breaks all connections.
    pub async fn stop(&mut self) {
        self.task.abort();
        // The end of an aborted task is an error by definition.
        drop((&mut self.task).await);
    }

    /// All requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.record().seen.clone()
    }

    /// All requests since the last call.
    #[must_use]
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.record().seen)
    }

    /// Waits until `count` requests are recorded since the last [`Self::take`].
    pub async fn arrived(&self, count: usize) {
        self.until(|record| record.seen.len() >= count).await;
    }

    /// Waits until `count` requests are inside the app at the same time.
    pub async fn busy(&self, count: usize) {
        self.until(|record| record.inside >= count).await;
    }

    /// Waits until a recorded request was given up by the other side.
    pub async fn cancelled(&self) {
        self.until(|record| {
            record
                .seen
                .iter()
                .any(|seen| seen.cancelled || seen.end == End::Cut)
        })
        .await;
    }

    async fn until(&self, holds: impl Fn(&Record) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if holds(&self.shared.record()) {
                return;
            }
            changed.await;
        }
    }

    /// The largest number of requests that were inside at the same time.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.shared.record().peak
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.record().connections
    }
}

impl Drop for HttpApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Shared {
    record: Mutex<Record>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Record {
    seen: Vec<Seen>,
    connections: usize,
    inside: usize,
    peak: usize,
}

impl Shared {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>) -> Inside {
        let mut record = self.record();
        record.inside = record.inside.saturating_add(1);
        record.peak = record.peak.max(record.inside);
        drop(record);
        self.changed.notify_waiters();
        Inside(Arc::clone(self))
    }

    /// Keeps a request and returns its place.
    fn keep(&self, seen: Seen) -> usize {
        let mut record = self.record();
        record.seen.push(seen);
        let place = record.seen.len().saturating_sub(1);
        drop(record);
        self.changed.notify_waiters();
        place
    }

    fn cancelled(&self, place: usize) {
        if let Some(seen) = self.record().seen.get_mut(place) {
            seen.cancelled = true;
        }
        self.changed.notify_waiters();
    }
}

struct Inside(Arc<Shared>);

impl Drop for Inside {
    fn drop(&mut self) {
        let mut record = self.0.record();
        record.inside = record.inside.saturating_sub(1);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests own their tasks by the handle"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

#[derive(Clone)]
struct App {
    setup: Arc<Setup>,
    shared: Arc<Shared>,
}

impl App {
    async fn accept(self, listener: TcpListener) {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let app = self.clone();
            let mut record = self.shared.record();
            record.connections = record.connections.saturating_add(1);
            drop(record);
            connections.spawn(async move {
                // A connection that breaks is what some tests are about: its requests are recorded as cut.
                drop(app.wrapped(stream).await);
            });
        }
    }

    async fn wrapped(self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match &self.setup.wrap {
            Some(wrap) => {
                let io = wrap(stream).await?;
                self.serve(io).await
            }
            None => self.serve(stream).await,
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, io: S) -> io::Result<()> {
        let (mut reader, mut writer) = halves(io);
        while let Some(head) = reader.head().await? {
            let _inside = self.shared.enter();
            let early = (self.setup.early)(&head);
            let decided = early.is_some();
            if self.setup.continues && head.header("expect").is_some() {
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            let (answer, place) = match early {
                Some(answer) => {
                    let framing = head.request_framing();
                    let cut = Seen {
                        head,
                        body: Vec::new(),
                        length: 0,
                        digest: Digest::default().finish(),
                        framing,
                        end: End::Cut,
                        cancelled: false,
                    };
                    (answer, self.shared.keep(cut))
                }
                None => {
                    let seen = read_request(&mut reader, head).await;
                    let answer = (seen.end == End::Whole).then(|| (self.setup.script)(&seen));
                    let place = self.shared.keep(seen);
                    let Some(answer) = answer else { return Ok(()) };
                    (answer, place)
                }
            };
            let done = perform(&mut reader, &mut writer, answer).await;
            match done.inspect_err(|_| self.shared.cancelled(place))? {
                Done::KeptOpen if !decided => {}
                Done::KeptOpen | Done::Closed => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Waits for `until`, unless the other side goes away first.
async fn unless_closed<S: AsyncRead + AsyncWrite + Unpin>(
    reader: &mut Reader<S>,
    until: impl Future<Output = ()>,
) -> io::Result<()> {
    tokio::select! {
        () = until => Ok(()),
        () = reader.closed() => Err(io::ErrorKind::ConnectionAborted.into()),
    }
}

async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    reader: &mut Reader<S>,
    writer: &mut Writer<S>,
    answer: Answer,
) -> io::Result<Done> {
    for step in answer.finish() {
        match step {
            Step::Write(bytes) => writer.write(&bytes).await?,
            Step::Repeat(bytes, times) => {
                for _ in 0..times {
                    writer.write(&bytes).await?;
                }
            }
            Step::Close => return Ok(Done::Closed),
            Step::Pause(time) => unless_closed(reader, tokio::time::sleep(time)).await?,
            Step::Gate(gate) => unless_closed(reader, gate.pass()).await?,
        }
    }
    Ok(Done::KeptOpen)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Done {
    KeptOpen,
    Closed,
}

async fn read_request<S: AsyncRead + AsyncWrite + Unpin>(
    reader: &mut Reader<S>,
    head: Head,
) -> Seen {
    let framing = head.request_framing();
    let mut cursor = Cursor::new(framing);
    let (mut body, mut digest) = (Vec::new(), Digest::default());
    while let Some(piece) = reader.piece(&mut cursor).await {
        digest.add(&piece);
        let room = KEPT.saturating_sub(body.len()).min(piece.len());
        body.extend_from_slice(piece.get(..room).unwrap_or_default());
    }
    let (length, digest) = (digest.length(), digest.finish());
    Seen {
        head,
        body,
        length,
        digest,
        framing,
        end: cursor.end().unwrap_or(End::Cut),
        cancelled: false,
    }
}
