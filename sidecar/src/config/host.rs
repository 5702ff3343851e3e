//! The address and the name under which other machines know this one.
//!
//! Owns the choice of process-interface 2.2 (`DAPR_HOST_IP`): the override, else the source address that the
//! kernel picks for a documentation address, else the best interface by `resolution::host`. Asks the
//! kernel through UDP sockets that never send. Refuses to own what peers are told when the internal
//! listener is bound to loopback only: `validate.rs` decides that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ironside_resolution::host::{best, is_protocol_assignment};

/// Documentation addresses (RFC 5737, RFC 3849): routable by shape, owned by nobody.
const PROBES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The address of this machine: loopback if it has no other.
pub(crate) fn address() -> IpAddr {
    PROBES
        .into_iter()
        .find_map(route_source)
        .or_else(best_interface)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The name of this machine, empty if the kernel knows none.
pub(crate) fn name() -> Box<str> {
    rustix::system::uname().nodename().to_string_lossy().into()
}

/// The address from which the kernel would send to `target`.
fn route_source(target: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if target.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(target, 80)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified() && !is_protocol_assignment(ip)).then_some(ip)
}

fn best_interface() -> Option<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    best(interfaces.into_iter().map(|interface| interface.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_address_is_always_found() {
        assert!(!address().is_unspecified());
        assert!(!name().is_empty());
    }
}
