//! The address and the name under which other machines know this one.
//!
//! Owns the choice of process-interface 2.2 (`DAPR_HOST_IP`): the override, else the source address that the
//! kernel picks for a documentation address, else the best interface. Asks the kernel through unconnected
//! UDP sockets, so no packet leaves. Refuses to own what peers are told when the internal listener is bound
//! to loopback only: `validate.rs` decides that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

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
    interfaces
        .into_iter()
        .map(|i| i.ip())
        .filter(|ip| rank(*ip) < UNFIT)
        .min_by_key(|ip| rank(*ip))
}

/// 192.0.0.0/29 is given to translators, not to hosts.
fn is_protocol_assignment(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if matches!(v4.octets(), [192, 0, 0, last] if last < 8))
}

/// Rank of an address that no peer can use.
const UNFIT: u8 = 5;

/// Smaller is better: public IPv4, global IPv6, private or shared IPv4, unique local IPv6, link-local.
fn rank(ip: IpAddr) -> u8 {
    match ip {
        _ if ip.is_loopback()
            || ip.is_unspecified()
            || ip.is_multicast()
            || is_protocol_assignment(ip) =>
        {
            UNFIT
        }
        IpAddr::V4(v4) if v4.is_link_local() => 4,
        IpAddr::V4(v4) if v4.is_private() || is_shared(v4) => 2,
        IpAddr::V4(_) => 0,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 4,
        IpAddr::V6(v6) if v6.is_unique_local() => 3,
        IpAddr::V6(_) => 1,
    }
}

/// 100.64.0.0/10 (RFC 6598).
fn is_shared(v4: Ipv4Addr) -> bool {
    matches!(v4.octets(), [100, second, ..] if (64..128).contains(&second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_ranked_as_the_sheet_says() {
        let order = [
            "8.8.8.8",
            "2a00::1",
            "10.0.0.1",
            "fd00::1",
            "169.254.1.1",
            "127.0.0.1",
        ];
        let ranks: Vec<u8> = order
            .iter()
            .map(|text| rank(text.parse().unwrap()))
            .collect();
        assert_eq!(ranks, [0, 1, 2, 3, 4, UNFIT]);
        assert_eq!(rank("100.64.0.1".parse().unwrap()), 2);
        assert_eq!(rank("192.0.0.2".parse().unwrap()), UNFIT);
        assert_eq!(rank("192.0.0.8".parse().unwrap()), 0);
        assert_eq!(rank("fe80::1".parse().unwrap()), 4);
    }

    #[test]
    fn some_address_is_always_found() {
        assert!(!address().is_unspecified());
        assert!(!name().is_empty());
    }
}
