//! Calls and streams beside the edits: each call is kept with its time and outcome, to be judged at the end.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs, io,
    rc::Rc,
    time::Duration,
};

use anyhow::{Result, ensure};
use ironside_e2e::wait::{self, Stopwatch};
use ironside_testkit::{
    grpc::{GrpcClient, GrpcReply},
    http::{Connection, Reply, Request},
};

use super::edits::{Dice, KEYS, method_of, path_of};

/// The callee that has an HTTP app.
pub(crate) const SHOP: usize = 0;
/// The callee that has a gRPC app.
pub(crate) const GREETER: usize = 1;

/// A call that was answered by the app or by policy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) target: (usize, usize),
    pub(crate) span: (Duration, Duration),
    pub(crate) allowed: bool,
}

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Load {
    clock: Stopwatch,
    stop: Cell<bool>,
    period: Duration,
    pub(crate) calls: RefCell<Vec<Call>>,
    pub(crate) failures: RefCell<Vec<String>>,
}

impl Load {
    /// `period` passes between two calls of one worker.
    pub(crate) fn new(period: Duration) -> Rc<Self> {
        Rc::new(Self {
            clock: Stopwatch::start(),
            stop: Cell::new(false),
            period,
            calls: RefCell::default(),
            failures: RefCell::default(),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    pub(crate) fn stop(&self) {
        self.stop.set(true);
    }

    fn keep(&self, target: (usize, usize), start: Duration, outcome: Result<bool>) {
        let span = (start, self.now());
        match outcome {
            Ok(allowed) => self.calls.borrow_mut().push(Call {
                target,
                span,
                allowed,
            }),
            Err(error) => self.failures.borrow_mut().push(format!("{error:#}")),
        }
    }
}

/// A caller with a connection of its own.
pub(crate) enum Caller {
    Http(Connection),
    Grpc(GrpcClient),
}

impl Caller {
    pub(crate) async fn http(port: u16) -> io::Result<Self> {
        Ok(Self::Http(Connection::tcp(port).await?))
    }

    pub(crate) async fn grpc(port: u16) -> io::Result<Self> {
        Ok(Self::Grpc(GrpcClient::connect(port).await?))
    }

    pub(crate) fn callee(&self) -> usize {
        match self {
            Self::Http(_) => SHOP,
            Self::Grpc(_) => GREETER,
        }
    }

    /// Whether a call for a key is allowed; everything but the app's answer and policy's is an error.
    pub(crate) async fn ask(&mut self, key: usize) -> Result<bool> {
        match self {
            Self::Http(connection) => {
                let line = format!("/v1.0/invoke/shop/method/{}", path_of(key));
                http(&connection.send(&Request::get(&line)).await?)
            }
            Self::Grpc(client) => {
                let to = [("dapr-app-id", "greeter")];
                grpc(&client.call(&method_of(key), &to, &[b"hello"]).await?)
            }
        }
    }
}

const DENIED: &str = "access control policy has denied access";

fn http(reply: &Reply) -> Result<bool> {
    let text = reply.text();
    match reply.status() {
        200 if text == "ok" => Ok(true),
        403 if text.contains(DENIED) => Ok(false),
        status => anyhow::bail!("HTTP {status} {text}"),
    }
}

fn grpc(reply: &GrpcReply) -> Result<bool> {
    match reply.code() {
        Some(0) if reply.messages == [b"hello"] => Ok(true),
        Some(7) if reply.message().contains(DENIED) => Ok(false),
        code => anyhow::bail!("gRPC {code:?} {} {:?}", reply.message(), reply.broken),
    }
}

/// Calls for random keys until told to stop.
pub(crate) async fn work(load: Rc<Load>, mut caller: Caller, seed: u64) {
    let mut dice = Dice::new(seed);
    let mut ticks = tokio::time::interval(load.period);
    while !load.stop.get() {
        ticks.tick().await;
        let key = dice.roll(KEYS);
        let start = load.now();
        let outcome = caller.ask(key).await;
        load.keep((key, caller.callee()), start, outcome);
    }
}

/// An open stream that is never denied: each message comes back, and it ends when its caller says so.
pub(crate) async fn stream(load: Rc<Load>, client: Rc<GrpcClient>) {
    let outcome = echo(&load, &client).await;
    if let Err(error) = outcome {
        load.failures
            .borrow_mut()
            .push(format!("stream: {error:#}"));
    }
}

async fn echo(load: &Load, client: &GrpcClient) -> Result<()> {
    let mut call = client
        .open("/k.S/stream", &[("dapr-app-id", "greeter")])
        .await?;
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let mut number = 0_u32;
    while !load.stop.get() {
        ticks.tick().await;
        number += 1;
        call.send(&number.to_be_bytes());
        let echoed = wait::within("echo", wait::LONG, call.message()).await?;
        ensure!(
            echoed.as_deref() == Some(&number.to_be_bytes()[..]),
            "message {number} did not come back: {:?}",
            call.finish().await
        );
    }
    call.half_close();
    let end = call.finish().await;
    ensure!(end.code() == Some(0), "it ended with {end:?}");
    Ok(())
}

/// The 4-tuples of all established connections to these ports of this machine.
pub(crate) fn connections(ports: &[u16]) -> Result<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/net/tcp")?;
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (words.next()?, words.next()?, words.next()?);
        let port = u16::from_str_radix(remote.rsplit(':').next()?, 16).ok()?;
        (state == "01" && ports.contains(&port))
            .then(|| format!("{} -> {}", address(local), address(remote)))
    });
    Ok(rows.collect())
}

/// `0100007F:1F90` as the kernel writes it is 127.0.0.1:8080.
fn address(text: &str) -> String {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let host = u32::from_str_radix(host, 16).unwrap_or(0).to_le_bytes();
    let port = u16::from_str_radix(port, 16).unwrap_or(0);
    format!("{}:{port}", host.map(|byte| byte.to_string()).join("."))
}
