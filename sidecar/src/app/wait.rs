//! `--wait`: waits for another sidecar, as scripts do before they start an app.
//!
//! Owns one loop: `GET /v1.0/healthz/outbound` every 100 ms, half a second each, a minute in all; exit 0 in
//! every case (process-interface 2.1). Blocking, because nothing else runs in this process.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, ToSocketAddrs as _},
    process::ExitCode,
    time::Duration,
};

use ironside_chassis::Clock;

const PAUSE: Duration = Duration::from_millis(100);
const TRY_LIMIT: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for the sidecar whose HTTP API listens on `port` of this machine.
pub(super) fn until_up(port: &str) -> ExitCode {
    let clock = Clock::system();
    let began = clock.monotonic();
    eprintln!("waiting for the sidecar at http://localhost:{port}/v1.0/healthz/outbound");
    while clock.monotonic() - began < LIMIT {
        if is_up(port).unwrap_or(false) {
            eprintln!("the sidecar is up");
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(PAUSE);
    }
    eprintln!("the sidecar is not up after {LIMIT:?}");
    ExitCode::SUCCESS
}

fn is_up(port: &str) -> std::io::Result<bool> {
    for address in format!("localhost:{port}").to_socket_addrs()? {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, TRY_LIMIT) else {
            continue;
        };
        stream.set_read_timeout(Some(TRY_LIMIT))?;
        stream.set_write_timeout(Some(TRY_LIMIT))?;
        write!(
            stream,
            "GET /v1.0/healthz/outbound HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n"
        )?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        return Ok(status.starts_with(b"HTTP/1.1 2"));
    }
    Ok(false)
}
