//! What is recorded and where it is sent: `spec.tracing` and the variables of OpenTelemetry, as settings.
//!
//! Owns the precedence of both and the texts of what cannot be used (resiliency-observability 2.1, 2.6). The
//! variables name an exporter only where the Configuration names no OTLP endpoint. Pure: the environment comes as
//! a function.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use ironside_resources::{
    Configuration, EnvAccess, GoDuration,
    configuration::{self as spec, OtelHeader},
};
use ironside_telemetry::{
    sampling::{Exporter, Sampling},
    span::Resource,
};
use percent_encoding::percent_decode_str;

use crate::traces::settings::{Export, Otlp, TIMEOUT, Wire};

#[cfg(test)]
mod tests;

/// Path of OTLP over HTTP.
const HTTP_PATH: &str = "/v1/traces";
/// Path of OTLP over gRPC.
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// What is recorded, and where it is sent.
#[derive(Debug)]
pub(super) struct Traces {
    /// What is recorded.
    pub(super) sampling: Sampling,
    /// Where it is sent; `None` for nowhere.
    pub(super) export: Option<Arc<Export>>,
}

/// Why traces cannot be exported as written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TraceError {
    /// Zipkin's address is no URL.
    #[error(
        "spec.tracing.zipkin.endpointAddress {0:?} is no URL of a Zipkin server: write it whole, such as http://localhost:9411/api/v2/spans"
    )]
    Zipkin(Box<str>),
    /// The collector's address is none.
    #[error("{place} {address:?} is no address of an OTLP collector: write host:port")]
    Otlp {
        /// Where it is written.
        place: Box<str>,
        /// What.
        address: Box<str>,
    },
    /// A header that no request can carry.
    #[error("{place} has an entry that is no header {name:?}: write name=value")]
    Header {
        /// Where it is written.
        place: Box<str>,
        /// The name of the header; its value may be a secret.
        name: Box<str>,
    },
    /// A timeout that is none.
    #[error("{place} {value:?} is no time: write {form}")]
    Timeout {
        /// Where it is written.
        place: Box<str>,
        /// What.
        value: Box<str>,
        /// What would be one.
        form: &'static str,
    },
}

/// Reads both.
///
/// # Errors
/// [`TraceError`] for the first thing that cannot be used.
pub(super) fn compile(
    configuration: &Configuration,
    app_id: &str,
    env: &EnvAccess<'_>,
    warnings: &mut Vec<String>,
) -> Result<Traces, TraceError> {
    let none = spec::Tracing::default();
    let tracing = configuration.spec.tracing.as_ref().unwrap_or(&none);
    let rate = tracing.sampling_rate.as_deref();
    let rate = rate.filter(|rate| !rate.is_empty());
    let vars = Vars(env);
    let zipkin = tracing.zipkin.as_ref();
    let zipkin = zipkin.and_then(|zipkin| zipkin.endpoint_address.as_deref());
    let zipkin = zipkin.filter(|address| !address.is_empty());
    let zipkin = zipkin.map(zipkin_uri).transpose()?;
    let otel = tracing.otel.as_ref();
    let address = otel.and_then(|otel| otel.endpoint_address.as_deref());
    let named = otel.zip(address.filter(|address| !address.is_empty()));
    let (otlp, rate) = match named {
        Some((otel, address)) => (configured(otel, address, env, warnings)?, rate),
        // The environment asks for all traces where nobody says how many.
        None => match vars.otlp()? {
            Some(otlp) => (Some(otlp), rate.or(Some("1"))),
            None => (None, rate),
        },
    };
    let stdout = tracing.stdout == Some(true);
    let is_any = zipkin.is_some() || otlp.is_some() || stdout;
    let exporter = if is_any {
        Exporter::Configured
    } else {
        Exporter::Absent
    };
    let sampling = Sampling::new(rate, exporter);
    let export = (is_any && sampling.is_installed()).then(|| {
        Arc::new(Export {
            resource: vars.resource(app_id),
            zipkin,
            otlp,
            stdout,
        })
    });
    Ok(Traces { sampling, export })
}

fn zipkin_uri(address: &str) -> Result<Uri, TraceError> {
    let uri = address.parse::<Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()
    });
    uri.ok_or_else(|| TraceError::Zipkin(address.into()))
}

/// The collector of the Configuration; one without protocol is none.
fn configured(
    otel: &spec::Otel,
    address: &str,
    env: &EnvAccess<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<Otlp>, TraceError> {
    const PLACE: &str = "spec.tracing.otel";
    let wire = match otel.protocol.as_deref() {
        Some("grpc") => Wire::Grpc,
        Some("http") => Wire::Http,
        // Any other one is refused with the Configuration.
        Some(_) | None => {
            warnings.push(format!(
                "{PLACE} has an endpointAddress and no protocol: no spans are sent there; set protocol to grpc or http"
            ));
            return Ok(None);
        }
    };
    let place = format!("{PLACE}.endpointAddress");
    let scheme = if otel.is_secure() { "https" } else { "http" };
    let path = match wire {
        Wire::Grpc => GRPC_PATH,
        Wire::Http => HTTP_PATH,
    };
    let uri = otlp_uri(&place, scheme, address, path)?;
    let mut headers = Vec::new();
    for (at, item) in otel.headers.iter().flatten().enumerate() {
        let (name, value) = match item {
            OtelHeader::Text(text) => match text.split_once('=') {
                Some((name, value)) => (name.trim().to_owned(), value.trim().to_owned()),
                None => {
                    let name = entry(at);
                    let place = format!("{PLACE}.headers").into();
                    return Err(TraceError::Header { place, name });
                }
            },
            OtelHeader::Named(item) => {
                let value = item.resolve(env).unwrap_or_else(|cause| {
                    warnings.push(format!("{PLACE}.headers: {}: {cause}", item.name));
                    String::new()
                });
                (item.name.clone(), value)
            }
        };
        headers.push(header(&format!("{PLACE}.headers"), &name, &value)?);
    }
    let timeout = otel.timeout.as_deref().filter(|text| !text.is_empty());
    let timeout = timeout.map(|text| {
        let parsed = text.parse::<GoDuration>().ok().and_then(GoDuration::to_std);
        let refused = || TraceError::Timeout {
            place: format!("{PLACE}.timeout").into(),
            value: text.into(),
            form: "a duration, such as 10s",
        };
        parsed.filter(|limit| !limit.is_zero()).ok_or_else(refused)
    });
    Ok(Some(Otlp {
        uri,
        wire,
        headers,
        timeout: timeout.transpose()?.unwrap_or(TIMEOUT),
    }))
}

/// The URL of a collector; a path of its own stays before `path`.
fn otlp_uri(place: &str, scheme: &str, address: &str, path: &str) -> Result<Uri, TraceError> {
    let text = format!("{scheme}://{}{path}", address.trim_end_matches('/'));
    let uri = text.parse::<Uri>().ok();
    let has_host = |uri: &Uri| uri.host().is_some_and(|host| !host.is_empty());
    // A scheme within the address would be its host.
    let uri = uri.filter(|uri| has_host(uri) && !address.contains("://"));
    uri.ok_or_else(|| TraceError::Otlp {
        place: place.into(),
        address: address.into(),
    })
}

/// Names an entry that has no name: what is written there may be a secret whole.
fn entry(at: usize) -> Box<str> {
    format!("entry {}", at.saturating_add(1)).into()
}

fn header(place: &str, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), TraceError> {
    let refused = || TraceError::Header {
        place: place.into(),
        name: name.into(),
    };
    let mut value = HeaderValue::from_str(value).map_err(|_invalid| refused())?;
    value.set_sensitive(true);
    let parsed = name.parse::<HeaderName>();
    Ok((parsed.map_err(|_invalid| refused())?, value))
}

/// The variables of OpenTelemetry.
struct Vars<'a>(&'a EnvAccess<'a>);

// === impl Vars ===

impl Vars<'_> {
    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Option<String> {
        (self.0.lookup)(name).filter(|value| !value.is_empty())
    }

    /// `OTEL_EXPORTER_OTLP_TRACES_<name>`, else `OTEL_EXPORTER_OTLP_<name>`: which, and its value.
    fn otlp_var(&self, name: &str) -> Option<(String, String)> {
        let names = ["_TRACES_", "_"].map(|part| format!("OTEL_EXPORTER_OTLP{part}{name}"));
        let mut names = names.into_iter();
        names.find_map(|name| Some((self.get(&name)?, name)).map(|(value, name)| (name, value)))
    }

    fn otlp(&self) -> Result<Option<Otlp>, TraceError> {
        let Some((place, endpoint)) = self.otlp_var("ENDPOINT") else {
            return Ok(None);
        };
        let (is_plain, address) = match endpoint.split_once("://") {
            Some(("http", rest)) => (true, rest),
            Some(("https", rest)) => (false, rest),
            Some(_) | None => (false, &*endpoint),
        };
        let insecure = self.get("OTEL_EXPORTER_OTLP_INSECURE");
        let is_plain = is_plain || insecure.as_deref() == Some("true");
        let wire = match self.otlp_var("PROTOCOL") {
            Some((_, protocol)) if protocol.starts_with("http") => Wire::Http,
            Some(_) | None => Wire::Grpc,
        };
        // The variable for traces alone may hold the path of traces.
        let address = match (wire, address.split_once('/')) {
            (Wire::Grpc, Some((authority, _))) => authority,
            (Wire::Http, _) => address.strip_suffix(HTTP_PATH).unwrap_or(address),
            (Wire::Grpc, None) => address,
        };
        let path = match wire {
            Wire::Grpc => GRPC_PATH,
            Wire::Http => HTTP_PATH,
        };
        let scheme = if is_plain { "http" } else { "https" };
        let uri = otlp_uri(&place, scheme, address, path)?;
        Ok(Some(Otlp {
            uri,
            wire,
            headers: self.headers()?,
            timeout: self.timeout()?,
        }))
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, TraceError> {
        let Some((place, list)) = self.otlp_var("HEADERS") else {
            return Ok(Vec::new());
        };
        let entries = list.split(',').filter(|entry| !entry.trim().is_empty());
        let read = |(at, text): (usize, &str)| {
            let refused = |name: &str| TraceError::Header {
                place: place.as_str().into(),
                name: name.into(),
            };
            let (name, value) = text.split_once('=').ok_or_else(|| refused(&entry(at)))?;
            let (name, value) = (name.trim(), value.trim());
            let is_whole = !has_bad_escape(value);
            let value = percent_decode_str(value).decode_utf8().ok();
            let value = value.filter(|_| is_whole).ok_or_else(|| refused(name))?;
            header(&place, name, &value)
        };
        entries.enumerate().map(read).collect()
    }

    fn timeout(&self) -> Result<Duration, TraceError> {
        let Some((place, text)) = self.otlp_var("TIMEOUT") else {
            return Ok(TIMEOUT);
        };
        let limit = text.trim().parse().ok().map(Duration::from_millis);
        let limit = limit.filter(|limit| !limit.is_zero());
        limit.ok_or_else(|| TraceError::Timeout {
            place: place.into(),
            value: text.into(),
            form: "milliseconds, such as 10000",
        })
    }

    fn resource(&self, app_id: &str) -> Resource {
        let list = self.get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let decoded = |text: &str| -> Box<str> {
            let text = percent_decode_str(text.trim()).decode_utf8_lossy();
            text.into()
        };
        let pairs = list.split(',').filter_map(|pair| pair.split_once('='));
        let mut attributes: Vec<(Box<str>, Box<str>)> = pairs
            .map(|(key, value)| (key.trim().into(), decoded(value)))
            .collect();
        // The app ID names the service, unless a variable of its own does.
        attributes.retain(|(key, _)| !key.is_empty() && &**key != "service.name");
        Resource {
            service: self
                .get("OTEL_SERVICE_NAME")
                .unwrap_or_else(|| app_id.to_owned())
                .into(),
            attributes,
        }
    }
}

/// True for a percent sign that is not followed by two digits.
fn has_bad_escape(text: &str) -> bool {
    let mut parts = text.split('%');
    let _before = parts.next();
    parts.any(|after| {
        let digits = after.as_bytes().get(..2);
        !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}
