//! The network interfaces over which multicast DNS can be spoken.
//!
//! Owns the choice (up, multicast-capable, one entry per interface and family, bounded) and what
//! counts as a neighbour on each. Refuses to open sockets: `endpoint.rs` does.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use if_addrs::{IfAddr, Interface};

/// More interfaces than this are left out; a host full of containers has hundreds.
const MAX_LINKS: usize = 32;
/// Flags of `linux/if.h`.
const IFF_UP: u32 = 0x1;
const IFF_MULTICAST: u32 = 0x1000;

/// One family of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// The interface's name.
    pub(super) name: String,
    /// The interface's number.
    pub(super) index: u32,
    /// Its addresses of one family, never empty.
    pub(super) subnets: Vec<Subnet>,
}

/// An address and the part of it that its neighbours share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// The links of this machine, and all its own addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Links {
    /// Where multicast can be spoken.
    pub(super) usable: Vec<Link>,
    /// Every address of the machine.
    pub(super) own: Vec<IpAddr>,
}

// === impl Links ===

impl Links {
    /// Asks the kernel. No interface at all is an answer, not an error.
    pub(super) fn read() -> Self {
        let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
        Self::choose(&interfaces, speaks_multicast)
    }

    fn choose(interfaces: &[Interface], speaks: impl Fn(&Interface) -> bool) -> Self {
        let mut links = BTreeMap::<(u32, bool), Link>::new();
        for interface in interfaces {
            let Some(index) = interface.index else {
                continue;
            };
            if !speaks(interface) {
                continue;
            }
            let link = links
                .entry((index, interface.ip().is_ipv6()))
                .or_insert(Link {
                    name: interface.name.clone(),
                    index,
                    subnets: Vec::new(),
                });
            link.subnets.push(Subnet::of(&interface.addr));
        }
        Self {
            usable: links.into_values().take(MAX_LINKS).collect(),
            own: interfaces.iter().map(Interface::ip).collect(),
        }
    }
}

// === impl Link ===

impl Link {
    /// The first address: the one that names the interface to the kernel for IPv4.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.subnets.first().map(|subnet| subnet.address)
    }

    /// Whether the address belongs to a machine on this link (RFC 6762 11).
    pub(super) fn is_neighbour(&self, address: IpAddr) -> bool {
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        link_local || self.subnets.iter().any(|subnet| subnet.contains(address))
    }
}

// === impl Subnet ===

impl Subnet {
    fn of(address: &IfAddr) -> Self {
        match address {
            IfAddr::V4(v4) => Self {
                address: v4.ip.into(),
                prefix: v4.prefixlen,
            },
            IfAddr::V6(v6) => Self {
                address: v6.ip.into(),
                prefix: v6.prefixlen,
            },
        }
    }

    fn contains(self, other: IpAddr) -> bool {
        let equal_from = |width: u8, difference: u128| {
            let host_bits = u32::from(width.saturating_sub(self.prefix));
            difference.checked_shr(host_bits).unwrap_or(0) == 0
        };
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                equal_from(32, u128::from(own.to_bits() ^ other.to_bits()))
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                equal_from(128, own.to_bits() ^ other.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Whether the interface is up and takes multicast.
///
/// Where the kernel's list of flags shows another network than this process's (a network namespace
/// under the outer `/sys`), every real interface that is up is tried.
fn speaks_multicast(interface: &Interface) -> bool {
    let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", interface.name));
    match flags {
        Ok(flags) => has_flags(&flags),
        Err(_) => interface.is_oper_up() && !interface.is_loopback(),
    }
}

fn has_flags(text: &str) -> bool {
    let digits = text.trim().trim_start_matches("0x");
    let wanted = IFF_UP | IFF_MULTICAST;
    u32::from_str_radix(digits, 16).is_ok_and(|flags| flags & wanted == wanted)
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, index: u32, address: &str, prefixlen: u8) -> Interface {
        let addr = match address.parse().expect("address") {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: [0, 0, 0, 0].into(),
                prefixlen,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: ip,
                prefixlen,
                broadcast: None,
            }),
        };
        Interface {
            name: name.to_owned(),
            addr,
            index: Some(index),
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    fn links(interfaces: &[Interface]) -> Links {
        Links::choose(interfaces, |interface| interface.name != "lo")
    }

    #[test]
    fn families_of_an_interface_are_separate_links() {
        let found = links(&[
            interface("lo", 1, "127.0.0.1", 8),
            interface("eth0", 2, "10.0.0.5", 24),
            interface("eth0", 2, "10.1.0.5", 16),
            interface("eth0", 2, "fd00::2", 64),
            interface("wlan0", 3, "192.168.7.5", 24),
        ]);
        let names: Vec<_> = found
            .usable
            .iter()
            .map(|link| (link.name.as_str(), link.subnets.len()))
            .collect();
        assert_eq!(names, [("eth0", 2), ("eth0", 1), ("wlan0", 1)]);
        assert_eq!(found.own.len(), 5);
        assert_eq!(links(&[]), Links::default());
    }

    #[test]
    fn only_neighbours_are_listened_to() {
        let found = links(&[
            interface("eth0", 2, "10.0.0.5", 24),
            interface("eth0", 2, "fd00::2", 64),
        ]);
        for (link, address, expected) in [
            (0, "10.0.0.77", true),
            (0, "10.0.1.77", false),
            (0, "8.8.8.8", false),
            (0, "169.254.1.1", true),
            (0, "fd00::3", false),
            (1, "fd00::3", true),
            (1, "fd00:0:0:1::3", false),
            (1, "fe80::9", true),
        ] {
            let address = address.parse().expect("address");
            assert_eq!(
                found.usable[link].is_neighbour(address),
                expected,
                "{address}"
            );
        }
        let any = Subnet {
            address: [10, 0, 0, 1].into(),
            prefix: 0,
        };
        assert!(any.contains([8, 8, 8, 8].into()));
    }

    #[test]
    fn number_of_links_is_bounded() {
        let many: Vec<_> = (1..100)
            .map(|index| interface(&format!("veth{index}"), index, "10.0.0.5", 24))
            .collect();
        assert_eq!(links(&many).usable.len(), MAX_LINKS);
    }

    #[test]
    fn flags_are_read_as_the_kernel_writes_them() {
        assert!(has_flags("0x1003\n"));
        assert!(!has_flags("0x9\n"));
        assert!(!has_flags("0x1002\n"));
        assert!(!has_flags(""));
        let unlisted = interface("no-such-link", 9, "10.0.0.5", 24);
        assert!(speaks_multicast(&unlisted));
        let loopback = interface("no-such-link", 9, "127.0.0.1", 8);
        assert!(!speaks_multicast(&loopback));
    }
}
