//! The way in: connections to a loopback port of the host, carried to the API server in its own namespace.
//!
//! A listening socket belongs to the network namespace it was made in. The keeper makes it outside and hands it to
//! the machine as stdin; the machine accepts there and dials here. So tests, helm and kubectl stay in the host's
//! namespaces, need no privileges, and nothing of the cluster's network is visible there but this one port.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    thread,
};

use anyhow::{Context as _, Result};

/// The API server, seen from inside.
const API_SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6443);

/// Serves connections of the listener on stdin for ever.
///
/// # Errors
/// If stdin is no socket.
pub(crate) fn serve_stdin() -> Result<()> {
    let socket = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("the listener on stdin")?;
    let listener = TcpListener::from(socket);
    listener.local_addr().context("the listener on stdin")?;
    thread::Builder::new()
        .name("forward".to_owned())
        .spawn(move || {
            for outside in listener.incoming().flatten() {
                // A connection that cannot be carried is closed: its caller sees that and tries again.
                drop(carry(outside));
            }
        })
        .context("starting the forwarder")?;
    Ok(())
}

fn carry(outside: TcpStream) -> io::Result<()> {
    let inside = TcpStream::connect(API_SERVER)?;
    let halves = [
        (outside.try_clone()?, inside.try_clone()?),
        (inside, outside),
    ];
    for (mut from, mut to) in halves {
        thread::Builder::new().spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        })?;
    }
    Ok(())
}
