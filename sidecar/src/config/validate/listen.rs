//! Ports, addresses, and how other machines reach this one.

use std::net::IpAddr;

use ironside_chassis::args::parse_decimal;

use super::{ConfigError, Machine, path, runtime};
use crate::config::{Listen, env::Environment, flags::Given};

/// Internal addresses that discovery announces as they are.
const ANNOUNCED_AS_IS: [&str; 3] = ["127.0.0.1", "localhost", "[::1]"];

pub(super) fn listen(given: &Given, env: &Environment) -> Result<Listen, ConfigError> {
    let internal = match given.text("dapr-internal-grpc-port") {
        "" => 0,
        text => port("dapr-internal-grpc-port", text)?,
    };
    let metrics_port = port("metrics-port", given.text("metrics-port"))?;
    let public = match given.text("dapr-public-port") {
        "" => None,
        text => Some((
            given.text("dapr-public-listen-address").to_owned(),
            port("dapr-public-port", text)?,
        )),
    };
    if given.bool("enable-profiling") {
        port("profile-port", given.text("profile-port"))?;
    }
    Ok(Listen {
        addresses: given
            .text("dapr-listen-addresses")
            .split(',')
            .map(str::to_owned)
            .collect(),
        http_port: port("dapr-http-port", given.text("dapr-http-port"))?,
        grpc_port: port("dapr-grpc-port", given.text("dapr-grpc-port"))?,
        unix_socket: path(given.text("unix-domain-socket")),
        internal_port: Some(internal).filter(|port| *port != 0),
        internal_address: given.text("dapr-internal-grpc-listen-address").to_owned(),
        public,
        metrics: given.bool("enable-metrics").then(|| {
            (
                given.text("metrics-listen-address").to_owned(),
                metrics_port,
            )
        }),
        h2c: !env.is_on("DAPR_HTTP_DISABLE_H2C"),
    })
}

pub(super) fn port(name: &str, text: &str) -> Result<u16, ConfigError> {
    let number = parse_decimal(text)
        .map_err(|cause| runtime(format!("error parsing {name} flag: {text:?}: {cause}")))?;
    u16::try_from(number).map_err(|_range| {
        runtime(format!(
            "error parsing {name} flag: {number} is not a port (0 to 65535)"
        ))
    })
}

pub(super) fn hosts(
    env: &Environment,
    machine: &Machine,
    listen: &Listen,
) -> Result<(IpAddr, Box<str>), ConfigError> {
    let address = match env.non_empty("DAPR_HOST_IP") {
        None => machine.address,
        Some(text) => text
            .parse()
            .map_err(|_syntax| runtime(format!("DAPR_HOST_IP {text:?} is not an IP address")))?,
    };
    let announced = match listen.internal_address.as_str() {
        own if ANNOUNCED_AS_IS.contains(&own) => own.trim_matches(['[', ']']).into(),
        _ => address.to_string().into(),
    };
    Ok((address, announced))
}
