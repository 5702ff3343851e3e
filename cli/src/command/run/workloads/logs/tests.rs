//! What is shown of a log, and what of it comes again.

use std::path::PathBuf;

use super::*;
use crate::command::run::template::resolve::Destination;

/// A log that is shown in a file.
struct Shown {
    tail: Tail,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Shown {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let sink = Sink::open(Destination::File, path.clone(), "", false).unwrap();
        let tail = Tail { sink, last: None };
        Self {
            tail,
            path,
            _folder: folder,
        }
    }

    /// Shows an answer to its end: words, each behind the second in which it was written.
    async fn answer(&mut self, lines: &[(&str, &str)]) {
        let lines = lines
            .iter()
            .map(|(second, word)| format!("2026-11-22T04:16:{second}Z {word}\n"));
        self.bytes(lines.collect::<String>().as_bytes()).await;
    }

    async fn bytes(&mut self, mut answer: &[u8]) {
        self.tail.show(Pin::new(&mut answer)).await.unwrap();
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn words(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }
}

async fn read(mut log: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(line) = read_piece(&mut log).await.unwrap() {
        lines.push(String::from_utf8(line).unwrap());
    }
    lines
}

#[tokio::test]
async fn a_log_is_read_line_by_line() {
    let lines = read(b"one\n\nlast without an end").await;
    assert_eq!(lines, ["one\n", "\n", "last without an end"]);
    assert_eq!(&*ended(lines[2].as_bytes()), b"last without an end\n");
}

#[tokio::test]
async fn a_line_without_end_comes_in_pieces() {
    let endless = vec![b'x'; 2 * LINE];
    let first = read_piece(&mut endless.as_slice()).await.unwrap().unwrap();
    assert!((LINE..=2 * LINE).contains(&first.len()));
}

#[test]
fn a_line_says_when_it_was_written() {
    let (time, rest) = split_time(b"2026-11-22T04:16:13.5Z two words\n").unwrap();
    assert_eq!(time.to_string(), "2026-11-22T04:16:13.5Z");
    assert_eq!(rest, b"two words\n");
    for other in [
        &b"no time\n"[..],
        b"\n",
        b"2026-11-22T04:16:13Z",
        b"\xff x\n",
    ] {
        assert_eq!(split_time(other), None);
    }
}

/// API servers take whole seconds: rounded up, what was written between would never be asked for.
#[tokio::test]
async fn a_log_is_asked_for_from_the_second_of_its_last_line() {
    let mut shown = Shown::new();
    assert_eq!(shown.tail.since(), None);
    for (second, since) in [
        ("02", "02"),
        ("02.25", "02"),
        ("02.75", "02"),
        ("02.999999999", "02"),
        ("03", "03"),
    ] {
        shown.answer(&[(second, "x")]).await;
        let asked = shown.tail.since().unwrap().to_string();
        assert_eq!(asked, format!("2026-11-22T04:16:{since}Z"), "{second}");
    }
}

/// Coarse clocks give many lines one time; those that came already are known by their number.
#[tokio::test]
async fn lines_of_one_time_are_all_shown_once() {
    let mut shown = Shown::new();
    let lines = [("1", "a"), ("1", "b"), ("1", "c"), ("1", "d"), ("2", "e")];
    let lines = lines.map(|(second, word)| (format!("0{second}.5"), word));
    let lines: Vec<(&str, &str)> = lines
        .iter()
        .map(|(time, word)| (time.as_str(), *word))
        .collect();
    for known in [2, 2, 3, 4, 5, 5] {
        shown.answer(&lines[..known]).await;
    }
    assert_eq!(shown.words(), ["a", "b", "c", "d", "e"]);
}

/// A clock that is set back mutes nothing, neither at once nor after a break.
#[tokio::test]
async fn lines_of_a_clock_that_was_set_back_are_shown() {
    let mut shown = Shown::new();
    shown.answer(&[("08.5", "a"), ("09.5", "b")]).await;
    // What comes again is hidden up to the last line that is known, and not beyond it.
    let second = [("08.5", "a"), ("09.5", "b"), ("03.5", "c"), ("04.5", "d")];
    shown.answer(&second).await;
    assert_eq!(shown.words(), ["a", "b", "c", "d"]);
    let asked = shown.tail.since().unwrap().to_string();
    assert_eq!(asked, "2026-11-22T04:16:04Z", "what is new is asked for");
    shown.answer(&[("04.5", "d"), ("05.5", "e")]).await;
    assert_eq!(shown.words(), ["a", "b", "c", "d", "e"]);
}

/// A line that comes in pieces counts when it has ended; the last one of a container may lack its end.
#[tokio::test]
async fn a_line_counts_at_its_end() {
    let mut shown = Shown::new();
    let long = format!("2026-11-22T04:16:01.5Z {}", "x".repeat(LINE));
    let mut broken = futures_util::io::BufReader::new(Breaks(long.as_bytes()));
    let ended = shown.tail.show(Pin::new(&mut broken)).await;
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(shown.tail.since(), None, "the rest is still to come");
    shown.bytes(format!("{long} rest\n").as_bytes()).await;
    assert!(shown.text().ends_with(" rest\n"));
    for _ in 0..2 {
        shown.bytes(b"2026-11-22T04:16:02.5Z last").await;
    }
    assert_eq!(shown.text().matches("last\n").count(), 1);
}

/// An answer that breaks off behind its bytes.
struct Breaks<'a>(&'a [u8]);

impl futures_util::io::AsyncRead for Breaks<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut [u8],
    ) -> std::task::Poll<io::Result<usize>> {
        if self.0.is_empty() {
            return std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}
