//! The two sample apps of the demo: an HTTP app that takes orders and a gRPC Greeter.
//!
//! They are ordinary programs that know nothing of sidecars; the hidden `sample` subcommand runs them.

mod greeter;
mod orders;

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use ironside_chassis::tasks::Tasks;
use tokio::net::TcpListener;

use crate::process::Interrupts;

/// How long requests may take to finish once the app was asked to end.
const GRACE: Duration = Duration::from_secs(3);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Which app.
#[derive(Debug, Clone, Copy)]
enum Which {
    Orders,
    Greeter,
}

/// Runs a sample app: its name and its port.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let which = match words.first().and_then(|word| word.to_str()) {
        Some("orders") => Some(Which::Orders),
        Some("greeter") => Some(Which::Greeter),
        Some(_) | None => None,
    };
    let port = words
        .get(1)
        .and_then(|word| word.to_str())
        .and_then(|port| port.parse().ok());
    let (Some(which), Some(port)) = (which, port) else {
        crate::output::err(b"usage: sample (orders|greeter) <port>\n");
        return ExitCode::FAILURE;
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(serve(which, port)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::output::err(format!("sample app: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

async fn serve(which: Which, port: u16) -> std::io::Result<()> {
    let mut interrupts = Interrupts::install()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let tasks = Tasks::new();
    let stop = tasks.token();
    loop {
        let stream = tokio::select! {
            () = interrupts.next() => break,
            accepted = listener.accept() => accepted?.0,
        };
        stream.set_nodelay(true)?;
        let stop = stop.clone();
        tasks.spawn("connection", async move {
            let server = auto::Builder::new(TokioExecutor::new());
            let connection = server.serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| answer(which, request)),
            );
            tokio::pin!(connection);
            tokio::select! {
                // The client has left; nobody is there to be told.
                _broken = connection.as_mut() => return,
                () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _broken = connection.await;
        });
    }
    let _unfinished = tasks.shutdown(GRACE).await;
    Ok(())
}

async fn answer(which: Which, request: Request<Incoming>) -> Result<Answer, Infallible> {
    Ok(match which {
        Which::Orders => orders::answer(request).await,
        Which::Greeter => greeter::answer(request).await,
    })
}
