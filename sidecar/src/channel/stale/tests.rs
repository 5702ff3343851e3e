//! Connections that the app closes at the worst moment.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
    time::Duration,
};

use http::Request;
use ironside_chassis::tasks::Tasks;
use ironside_policy::Verb;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::*;
use crate::{
    body,
    channel::{
        ChannelError,
        http::{client, send_error},
    },
};

/// Bounds a hang.
const LONG: Duration = Duration::from_secs(60);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// An app that answers one request with `answer`, closes the connection when told to, and says when it has.
struct App {
    address: SocketAddr,
    close: mpsc::Sender<()>,
    closed: mpsc::Receiver<()>,
}

impl App {
    fn new(answer: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (close, told) = mpsc::channel();
        let (tell, closed) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(answer).unwrap();
            told.recv().unwrap();
            drop(stream);
            tell.send(()).unwrap();
        });
        Self {
            address,
            close,
            closed,
        }
    }

    /// Closes the connection; the runtime of the test learns nothing of it meanwhile.
    fn close(&self) {
        self.close.send(()).unwrap();
        self.closed.recv().unwrap();
    }
}

async fn connect(app: &App, one_by_one: bool) -> Checked {
    let tcp = TcpStream::connect(app.address).await.unwrap();
    Checked::new(MaybeHttpsStream::Http(TokioIo::new(tcp)), one_by_one)
}

/// Only the first byte of a request is refused: what follows `100 Continue` belongs to a request that the app knows.
#[tokio::test]
async fn a_request_is_not_begun_on_a_closed_connection() {
    for (answer, one_by_one, stale) in [
        (ANSWER, true, true),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", true, true),
        (b"HTTP/1.1 100 Continue\r\n\r\n", true, false),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", true, false),
        (b"HTT", true, false),
        (b"HTTP/1.1 2", true, false),
        (b"HTTP/1.1 413 Payload Too Large\r\n", true, false),
        (ANSWER, false, false),
    ] {
        let app = App::new(answer);
        let mut stream = connect(&app, one_by_one).await;
        stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut read = vec![0; answer.len()];
        stream.read_exact(&mut read).await.unwrap();
        app.close();
        let second = stream.write(b"POST / HTTP/1.1\r\n\r\n").await;
        let refused = second.as_ref().is_err_and(Stale::is);
        assert_eq!(refused, stale, "{answer:?}: {second:?}");
    }
}

/// The head of an answer may come in parts; what is written within it is the rest of the request.
#[tokio::test]
async fn a_head_may_come_in_parts() {
    for (parts, goes_on, stale) in [
        (vec![17], false, true),
        (vec![ANSWER.len() - 1], false, true),
        (vec![ANSWER.len() - 3, 1], false, true),
        (vec![15, 2, 1], false, true),
        (vec![17], true, false),
    ] {
        let app = App::new(ANSWER);
        let mut stream = connect(&app, true).await;
        stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
        let rest = ANSWER.len() - parts.iter().sum::<usize>();
        for part in parts.iter().chain([&rest]) {
            if goes_on && *part == rest {
                stream.write_all(b"the body").await.unwrap();
            }
            stream.read_exact(&mut vec![0; *part]).await.unwrap();
        }
        app.close();
        let second = stream.write(b"POST / HTTP/1.1\r\n\r\n").await;
        let refused = second.as_ref().is_err_and(Stale::is);
        assert_eq!(refused, stale, "{parts:?} {goes_on}: {second:?}");
    }
}

/// The rest of a request whose beginning the app has is never taken for a request that it has not.
#[tokio::test]
async fn what_follows_the_first_byte_is_not_asked() {
    let app = App::new(b"");
    let mut stream = connect(&app, true).await;
    stream.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    app.close();
    for _ in 0..3 {
        let rest = stream.write(b"content-length: 0\r\n\r\n").await;
        assert!(!rest.as_ref().is_err_and(Stale::is), "{rest:?}");
    }
}

/// The client takes a connection from its pool whose end it has not heard of: the app knows nothing of the request.
#[tokio::test]
async fn the_client_says_that_the_app_knows_nothing() {
    let app = App::new(ANSWER);
    let tasks = Tasks::new().group("app");
    let client = client(&tasks, false);
    let url = format!("http://{}/", app.address);
    let request = || Request::post(&url).body(body::full("x")).unwrap();
    let answer = client.request(request()).await.unwrap();
    drop(answer);
    // The connection goes back to the pool when its task has seen the end of the answer.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    app.close();
    // A connection of its own would wait for an answer without end: nobody accepts another.
    let second = timeout(LONG, client.request(request()));
    let error = second.await.unwrap().unwrap_err();
    let said = send_error(Verb::Post, &url, &error, "app");
    assert!(
        matches!(&said, ChannelError::NotBegun { cause, .. } if &**cause == "EOF"),
        "{said:?}"
    );
}
