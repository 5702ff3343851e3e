//! What a fake app answers: a list of steps that can stop in the middle, wait for a signal, or break off.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::Semaphore;

use super::client::encode_chunk;

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Write(Vec<u8>),
    Repeat(Vec<u8>, u64),
    Pause(Duration),
    Gate(Gate),
    Close,
}

/// Lets an answer go on when the test says so.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets one waiting answer pass.
    pub fn open(&self) {
        self.0.add_permits(1);
    }

    pub(super) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// What the app answers.
#[derive(Clone, Debug)]
pub struct Answer {
    head: String,
    steps: Vec<Step>,
}

impl Answer {
    /// An answer without body; `Content-Length: 0` unless a body follows.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self {
            head: format!("HTTP/1.1 {code} X\r\n"),
            steps: Vec::new(),
        }
    }

    /// 200 with a text.
    #[must_use]
    pub fn text(body: &str) -> Self {
        Self::status(200)
            .header("Content-Type", "text/plain")
            .body(body)
    }

    /// Bytes as they are.
    #[must_use]
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            head: String::new(),
            steps: vec![Step::Write(bytes.into())],
        }
    }

    /// Adds a header; call it before the body is set.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// Ends the head and writes a body of fixed length.
    #[must_use]
    pub fn body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let with = self
            .header("Content-Length", &body.len().to_string())
            .end_head();
        if body.is_empty() {
            with
        } else {
            with.write(body)
        }
    }

    /// Ends the head and announces chunks.
    #[must_use]
    pub fn chunked(self) -> Self {
        self.header("Transfer-Encoding", "chunked").end_head()
    }

    /// Ends the head; what follows is written as it is.
    #[must_use]
    pub fn end_head(mut self) -> Self {
        let head = std::mem::take(&mut self.head);
        self.write(format!("{head}\r\n"))
    }

    /// Writes bytes.
    #[must_use]
    pub fn write(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Write(bytes.as_ref().to_vec()));
        self
    }

    /// Writes one chunk.
    #[must_use]
    pub fn chunk(self, data: impl AsRef<[u8]>) -> Self {
        self.write(encode_chunk(data.as_ref()))
    }

    /// Writes the same bytes `times` over.
    #[must_use]
    pub fn repeat(mut self, bytes: impl Into<Vec<u8>>, times: u64) -> Self {
        self.steps.push(Step::Repeat(bytes.into(), times));
        self
    }

    /// Writes the last chunk.
    #[must_use]
    pub fn last_chunk(self) -> Self {
        self.write("0\r\n\r\n")
    }

    /// Lets time pass.
    #[must_use]
    pub fn pause(mut self, time: Duration) -> Self {
        self.steps.push(Step::Pause(time));
        self
    }

    /// Waits for the gate.
    #[must_use]
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.steps.push(Step::Gate(gate.clone()));
        self
    }

    /// Closes the connection.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    pub(super) fn finish(self) -> VecDeque<Step> {
        let open = !self.head.is_empty();
        let whole = if open { self.body("") } else { self };
        whole.steps.into()
    }
}
