//! Which of a machine's addresses a sidecar announces, when its routes do not tell.
//!
//! Owns the ranking (process-interface 2.2, `DAPR_HOST_IP`): public IPv4, global IPv6, private or
//! carrier-grade IPv4, unique local IPv6, link-local. Refuses to ask the machine:
//! `sidecar/src/config/host.rs` does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How good an address is to announce; the smallest is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// IPv4 that the whole internet could route.
    PublicV4,
    /// IPv6 that the whole internet could route.
    GlobalV6,
    /// RFC 1918 and RFC 6598 (carrier-grade NAT).
    PrivateV4,
    /// RFC 4193.
    UniqueLocalV6,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
}

/// The rank of an address; `None` if it must not be announced at all.
#[must_use]
pub fn rank(address: IpAddr) -> Option<Rank> {
    let unusable = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    if unusable || is_protocol_assignment(address) {
        return None;
    }
    Some(match address {
        IpAddr::V4(v4) if v4.is_broadcast() => return None,
        IpAddr::V4(v4) if v4.is_link_local() => Rank::LinkLocal,
        IpAddr::V4(v4) if v4.is_private() || is_carrier_grade(v4) => Rank::PrivateV4,
        IpAddr::V4(_) => Rank::PublicV4,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Rank::LinkLocal,
        IpAddr::V6(v6) if is_unique_local(v6) => Rank::UniqueLocalV6,
        IpAddr::V6(_) => Rank::GlobalV6,
    })
}

/// The best address to announce; of equals, the first.
pub fn best(addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
    addresses
        .into_iter()
        .filter_map(|address| Some((rank(address)?, address)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, address)| address)
}

/// 192.0.0.0/29: the inner addresses of an IPv4 translator, which no other machine can reach.
#[must_use]
pub fn is_protocol_assignment(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.to_bits() >> 3 == Ipv4Addr::new(192, 0, 0, 0).to_bits() >> 3,
        IpAddr::V6(_) => false,
    }
}

/// RFC 6598, 100.64.0.0/10.
fn is_carrier_grade(address: Ipv4Addr) -> bool {
    address.to_bits() >> 22 == Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 22
}

/// RFC 4193, fc00::/7.
fn is_unique_local(address: Ipv6Addr) -> bool {
    address.to_bits() >> 121 == 0xfc00_u128 >> 9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, expected: Option<Rank>) {
        assert_eq!(
            rank(address.parse().expect("address")),
            expected,
            "{address}"
        );
    }

    #[test]
    fn addresses_are_ranked_by_their_reach() {
        check("8.8.8.8", Some(Rank::PublicV4));
        check("100.63.255.255", Some(Rank::PublicV4));
        check("2001:db8::1", Some(Rank::GlobalV6));
        check("10.0.0.1", Some(Rank::PrivateV4));
        check("172.16.0.1", Some(Rank::PrivateV4));
        check("192.168.1.1", Some(Rank::PrivateV4));
        check("100.64.0.1", Some(Rank::PrivateV4));
        check("100.127.255.255", Some(Rank::PrivateV4));
        check("fc00::1", Some(Rank::UniqueLocalV6));
        check("fd00::2", Some(Rank::UniqueLocalV6));
        check("169.254.3.4", Some(Rank::LinkLocal));
        check("fe80::1", Some(Rank::LinkLocal));
    }

    #[test]
    fn addresses_of_no_use_to_others_are_refused() {
        for address in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "::",
            "224.0.0.251",
            "ff02::fb",
            "255.255.255.255",
            "192.0.0.0",
            "192.0.0.7",
        ] {
            check(address, None);
        }
        check("192.0.0.8", Some(Rank::PublicV4));
        check("192.0.1.1", Some(Rank::PublicV4));
    }

    #[test]
    fn best_address_wins_and_the_first_of_equals() {
        let pick = |list: &[&str]| {
            best(list.iter().map(|a| a.parse().expect("address"))).map(|a: IpAddr| a.to_string())
        };
        assert_eq!(
            pick(&["fe80::1", "fd00::2", "10.0.0.1", "10.0.0.2"]).as_deref(),
            Some("10.0.0.1")
        );
        assert_eq!(
            pick(&["10.0.0.1", "2001:db8::5"]).as_deref(),
            Some("2001:db8::5")
        );
        assert_eq!(pick(&["127.0.0.1", "192.0.0.2"]), None);
        assert_eq!(pick(&[]), None);
    }
}
