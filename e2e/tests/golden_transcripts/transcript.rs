//! Reads a transcript: sections, exchanges, HTTP messages and gRPC calls as they are written down.
//!
//! Knows the notation of the files and nothing of a sidecar. A body is cut from the raw text by its declared
//! length or its chunk sizes, because the notation alone cannot tell a final line feed from a separator.

use std::fs;

use ironside_e2e::binaries::root;

/// A file of `e2e/golden`.
#[derive(Clone, Debug)]
pub(crate) struct Transcript {
    pub(crate) name: String,
    pub(crate) sections: Vec<Section>,
}

/// What stands below one `==` line.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    pub(crate) text: String,
}

/// Which way a section's bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    AtApp,
    AppAnswer,
    AtPeer,
    Reply,
}

/// A request with everything that follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) label: String,
    pub(crate) request: String,
    pub(crate) at_app: Option<String>,
    pub(crate) app_answer: Option<String>,
    pub(crate) at_peer: Option<String>,
    pub(crate) reply: String,
    /// The reference broke the app's request off.
    pub(crate) aborted: bool,
}

impl Transcript {
    /// Reads the file whose name starts with `number`.
    pub(crate) fn read(number: &str) -> Self {
        let folder = root().join("e2e/golden");
        let prefix = format!("{number}-");
        let mut names = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let path = names
            .find(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(&prefix)
            })
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let mut sections = Vec::new();
        // A section starts at a line of its own; the line feed before it belongs to the separator.
        for part in format!("\n{text}").split("\n== ").skip(1) {
            let (title, text) = part.split_once('\n').unwrap_or((part, ""));
            sections.push(Section {
                title: title.to_owned(),
                text: text.to_owned(),
            });
        }
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            sections,
        }
    }

    /// Groups the sections by the request they follow from.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        let mut exchanges: Vec<Exchange> = Vec::new();
        for section in &self.sections {
            let Some(direction) = section.direction() else {
                continue;
            };
            if direction == Direction::Request {
                let label = section.label();
                exchanges.push(Exchange {
                    label,
                    request: section.text.clone(),
                    ..Exchange::default()
                });
                continue;
            }
            let exchange = exchanges.last_mut().unwrap();
            let text = section.text.clone();
            exchange.aborted |= section.title.contains("(request aborted)");
            match direction {
                Direction::AtApp => exchange.at_app = Some(text),
                Direction::AppAnswer => exchange.app_answer = Some(text),
                Direction::AtPeer => exchange.at_peer = Some(text),
                Direction::Reply => exchange.reply = text,
                Direction::Request => {}
            }
        }
        exchanges
    }
}

impl Section {
    fn label(&self) -> String {
        let label = self
            .title
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next());
        label.unwrap_or_default().to_owned()
    }

    fn direction(&self) -> Option<Direction> {
        let title = self.title.rsplit("] ").next().unwrap_or(&self.title);
        let (from, to) = self
            .title
            .split("   [")
            .next()
            .unwrap_or(title)
            .split_once(" -> ")?;
        let from = from.rsplit("] ").next().unwrap_or(from);
        Some(match (from, to) {
            ("client", _) => Direction::Request,
            ("app", _) => Direction::AppAnswer,
            (_, "client") => Direction::Reply,
            (_, "peer sidecar") => Direction::AtPeer,
            (_, to) if to.contains("app") => Direction::AtApp,
            _ => return None,
        })
    }
}

/// An HTTP/1.1 message as written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpText {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) chunks: Option<Vec<Vec<u8>>>,
}

impl HttpText {
    pub(crate) fn parse(text: &str) -> Self {
        let (head, rest) = text
            .split_once("\n\n")
            .unwrap_or((text.trim_end_matches('\n'), ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap_or_default().to_owned();
        let headers: Vec<_> = lines.map(pair).collect();
        let value = |name: &str| {
            let same = headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name));
            same.map(|(_, value)| value.as_str())
        };
        let (body, chunks) = if rest.starts_with('(') {
            // A body that is described, not shown.
            (rest.trim_end().as_bytes().to_vec(), None)
        } else if value("transfer-encoding") == Some("chunked") {
            let chunks = parse_chunks(rest);
            (chunks.concat(), Some(chunks))
        } else if let Some(length) =
            value("content-length").and_then(|text| text.parse::<usize>().ok())
        {
            (
                rest.as_bytes()
                    .get(..length)
                    .unwrap_or(rest.trim_end().as_bytes())
                    .to_vec(),
                None,
            )
        } else {
            (rest.trim_end_matches('\n').as_bytes().to_vec(), None)
        };
        Self {
            line,
            headers,
            body,
            chunks,
        }
    }

    /// The bytes that this message is on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{}\r\n", self.line).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        match &self.chunks {
            Some(chunks) => {
                for chunk in chunks {
                    bytes.extend_from_slice(&ironside_testkit::http::client::encode_chunk(chunk));
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
            None => bytes.extend_from_slice(&self.body),
        }
        bytes
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let same = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str())
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }
}

/// A size line, so many bytes, a line feed, again; `0` ends it.
fn parse_chunks(text: &str) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while let Some((size, tail)) = rest.split_once('\n') {
        let Ok(size @ 1..) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        chunks.push(tail.as_bytes()[..size].to_vec());
        rest = tail.get(size..).unwrap().trim_start_matches('\n');
    }
    chunks
}

fn pair(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(": ")
        .or_else(|| line.split_once(':'))
        .unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

/// One side of a gRPC call as written down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrpcText {
    /// Pseudo headers and metadata, or the initial metadata of a reply.
    pub(crate) headers: Vec<(String, String)>,
    /// The text after `message: `.
    pub(crate) messages: Vec<String>,
    /// Trailing metadata of a reply.
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) trailers_only: bool,
}

impl GrpcText {
    pub(crate) fn parse(text: &str) -> Self {
        let mut call = Self::default();
        let mut in_trailers = false;
        for line in text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('('))
        {
            match line {
                "headers:" => {}
                "trailers:" => in_trailers = true,
                "trailers only:" => (in_trailers, call.trailers_only) = (true, true),
                _ if line.starts_with("message: ") => call.messages.push(line[9..].to_owned()),
                _ if line.starts_with("/dapr.") => {
                    call.headers.push((":path".to_owned(), line.to_owned()))
                }
                _ => {
                    let list = if in_trailers {
                        &mut call.trailers
                    } else {
                        &mut call.headers
                    };
                    list.push(grpc_pair(line));
                }
            }
        }
        call
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Pseudo headers start with a colon, so the separator is the one after the first character.
fn grpc_pair(line: &str) -> (String, String) {
    let at = line[1..].find(':').unwrap() + 1;
    (line[..at].to_owned(), line[at + 1..].trim().to_owned())
}

#[test]
fn chunks_hold_their_own_line_feeds() {
    let reply = HttpText::parse(
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n9\ndata: 0\n\n\n9\ndata: 1\n\n\n0\n",
    );
    assert_eq!(reply.body, b"data: 0\n\ndata: 1\n\n");
}

#[test]
fn a_declared_length_keeps_the_last_line_feed() {
    let reply = HttpText::parse("HTTP/1.1 400 Bad Request\nContent-Length: 3\n\nab\n\n");
    assert_eq!(reply.body, b"ab\n");
}

#[test]
fn every_transcript_parses() {
    for number in 1..=37 {
        let transcript = Transcript::read(&format!("{number:02}"));
        assert!(!transcript.sections.is_empty(), "{}", transcript.name);
    }
    assert_eq!(Transcript::read("21").exchanges().len(), 5);
    assert_eq!(Transcript::read("25").exchanges().len(), 11);
}
