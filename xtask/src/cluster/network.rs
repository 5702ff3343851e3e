//! Addresses of a cluster and the links inside its network namespace.
//!
//! Every cluster has the same addresses: none of them leaves its namespace.

use anyhow::Result;

use super::calls::call;

/// The node's address.
pub(crate) const NODE: &str = "172.31.77.1";
/// The node's name.
pub(crate) const NODE_NAME: &str = "node1";
/// Addresses of Services.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The Service of the API server: the first of [`SERVICES`].
pub(crate) const API_SERVICE: &str = "10.96.0.1";
/// The Service of the cluster's DNS.
pub(crate) const DNS_SERVICE: &str = "10.96.0.10";
/// Addresses of pods.
pub(crate) const PODS: &str = "10.244.0.0/24";

/// Brings the namespace's links up.
///
/// # Errors
/// If a call of `ip` or `sysctl` fails.
pub(crate) fn bring_up() -> Result<()> {
    call("ip", &["link", "set", "lo", "up"])?;
    // A bridge without ports: the kubelet refuses a loopback address, and not every kernel has dummy devices.
    call("ip", &["link", "add", "node0", "type", "bridge"])?;
    call(
        "ip",
        &["address", "add", &format!("{NODE}/32"), "dev", "node0"],
    )?;
    call("ip", &["link", "set", "node0", "up"])?;
    call("ip", &["route", "add", "default", "dev", "node0"])?;
    call("sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"])
}
