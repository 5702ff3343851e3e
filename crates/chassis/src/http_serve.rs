//! A small HTTP/1.1 server for the ports that only machines of the house read.
//!
//! Behind the health and metrics ports: a bounded number of connections of
//! which none is waited for, ten seconds to send a request head, one
//! connection a task, all ended by the owner's token. Refused: bodies of
//! requests, HTTP/2, TLS, routing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Tasks;
use seats::{Seat, Seats};

mod seats;

/// Time to read a request head: process-interface 2.3.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept (descriptors exhausted), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Connections served at once; a further one takes the place of another.
    pub(crate) connections: usize,
    /// How long one may last, which then is for one request; `None` for as many as come.
    pub(crate) life: Option<Duration>,
}

/// What is answered to a request head.
pub(crate) type Answer = Arc<dyn Fn(&request::Parts) -> Response<Full<Bytes>> + Send + Sync>;

/// Serves `listener` until `tasks` is cancelled.
pub(crate) async fn run(
    listener: TcpListener,
    name: &'static str,
    bounds: Bounds,
    answer: Answer,
    tasks: &Tasks,
) {
    let stop = tasks.token();
    let group = tasks.group(name);
    let seats = Seats::new(bounds.connections);
    let slots = Arc::new(Semaphore::new(bounds.connections));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept(&listener, &seats, &slots) => accepted,
        };
        match accepted {
            Some((io, place)) => {
                let serving = connection(io, bounds.life, answer.clone());
                let stop = stop.clone();
                group.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = place.seat.lost() => {}
                        () = serving => {}
                    }
                    drop(place);
                });
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// What a connection has while it is served.
struct Place {
    seat: Seat,
    /// Dropped with what it held: there is never more at once.
    _slot: OwnedSemaphorePermit,
}

async fn accept(
    listener: &TcpListener,
    seats: &Seats,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, Place)> {
    let (io, address) = listener.accept().await.ok()?;
    let seat = seats.take(address.ip());
    // Who lost the place is on the way out.
    let slot = slots.clone().acquire_owned().await.ok()?;
    Some((io, Place { seat, _slot: slot }))
}

async fn connection(io: TcpStream, life: Option<Duration>, answer: Answer) {
    let service = service_fn(|request: Request<Incoming>| {
        let (head, _body) = request.into_parts();
        let response = answer(&head);
        async move { Ok::<_, Infallible>(response) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(life.is_none())
        .serve_connection(TokioIo::new(io), service);
    // The end of such a connection, good or bad, concerns nobody.
    let too_long = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ended = serving => {}
        () = too_long => {}
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! A raw client for the tests of the servers built on this one.

    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    pub(crate) async fn loopback() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
        let ask = async {
            let mut io = TcpStream::connect(address).await.unwrap();
            let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            io.write_all(head.as_bytes()).await.unwrap();
            let mut text = String::new();
            io.read_to_string(&mut text).await.unwrap();
            text
        };
        tokio::time::timeout(Duration::from_secs(10), ask)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_cancelled_owner_ends_idle_connections() {
        let tasks = Tasks::new();
        let (listener, address) = loopback().await;
        let owner = tasks.clone();
        tasks.spawn("server", async move {
            run(
                listener,
                "connection",
                Bounds {
                    connections: 8,
                    life: None,
                },
                Arc::new(|_| Response::default()),
                &owner,
            )
            .await;
        });
        let mut idle = TcpStream::connect(address).await.unwrap();
        assert!(get(address, "/").await.starts_with("HTTP/1.1 200"));
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
        let mut rest = Vec::new();
        let _end = idle.read_to_end(&mut rest).await;
        assert!(rest.is_empty());
    }

    /// Clients that read nothing keep nobody out, and lose their own places.
    #[tokio::test]
    async fn who_does_not_read_keeps_nobody_out() {
        let tasks = Tasks::new();
        let (listener, address) = loopback().await;
        let owner = tasks.clone();
        let bounds = Bounds {
            connections: 2,
            life: None,
        };
        // More than sockets hold.
        let large = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
        let answer: Answer = Arc::new(move |head| match head.uri.path() {
            "/large" => Response::new(Full::new(large.clone())),
            _ => Response::default(),
        });
        tasks.spawn("server", async move {
            run(listener, "connection", bounds, answer, &owner).await;
        });
        let mut deaf = Vec::new();
        for _ in 0..2 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut io = socket.connect(address).await.unwrap();
            let head = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
            io.write_all(head).await.unwrap();
            io.readable().await.unwrap();
            deaf.push(io);
        }
        for _ in 0..3 {
            assert!(get(address, "/").await.starts_with("HTTP/1.1 200"));
        }
        // The younger one is still there, and gets all.
        let mut read = [0; 64 * 1024];
        let (mut first, mut second) = (0, 0);
        let mut whole = async |io: &mut TcpStream, count: &mut usize| {
            while let Ok(some @ 1..) = io.read(&mut read).await {
                *count += some;
                if *count > 64 * 1024 * 1024 {
                    break;
                }
            }
        };
        let both = async {
            whole(&mut deaf[0], &mut first).await;
            whole(&mut deaf[1], &mut second).await;
        };
        let read = tokio::time::timeout(Duration::from_secs(60), both).await;
        assert!(read.is_ok() && first < 64 * 1024 * 1024 && second > 64 * 1024 * 1024);
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
    }
}
