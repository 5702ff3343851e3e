//! Laying one configuration over another.
//!
//! Later scalars win, sections merge key by key, lists are replaced; an absent
//! or null key changes nothing. Each section is taken apart in full, so that a
//! new key cannot be forgotten here.

use super::inbound::{Inbound, InboundQueue, InboundRate};
use super::metric::{Metric, MetricHttp};
use super::spec::{
    AccessControl, Api, ApiLogging, Components, Logging, Mtls, NameResolution, Otel, Pipeline,
    Secrets, Spec, Tracing, Zipkin,
};

/// A section of keys.
pub(super) trait Merge {
    /// Takes over what `later` says.
    fn merge(&mut self, later: Self);
}

impl<T: Merge> Merge for Option<T> {
    fn merge(&mut self, later: Self) {
        match (self.as_mut(), later) {
            (Some(earlier), Some(later)) => earlier.merge(later),
            (None, Some(later)) => *self = Some(later),
            (_, None) => {}
        }
    }
}

fn replace<T>(earlier: &mut Option<T>, later: Option<T>) {
    if later.is_some() {
        *earlier = later;
    }
}

/// `sections` merge, `values` (scalars and lists) are replaced.
macro_rules! merge {
    ($type:ident { sections: $($section:ident),*; values: $($value:ident),* }) => {
        impl Merge for $type {
            fn merge(&mut self, later: Self) {
                let Self { $($section,)* $($value),* } = later;
                $(self.$section.merge($section);)*
                $(replace(&mut self.$value, $value);)*
            }
        }
    };
}

merge!(Spec {
    sections: http_pipeline, app_http_pipeline, tracing, metric, metrics, mtls, access_control,
        name_resolution, api, logging, components, secrets, inbound;
    values: features
});
merge!(Pipeline { sections: ; values: handlers });
merge!(Tracing { sections: zipkin, otel; values: sampling_rate, stdout });
merge!(Zipkin { sections: ; values: endpoint_address });
merge!(Otel { sections: ; values: protocol, endpoint_address, is_secure, headers, timeout });
merge!(Metric {
    sections: http;
    values: enabled, record_error_codes, latency_distribution_buckets, rules
});
merge!(MetricHttp { sections: ; values: increased_cardinality, path_matching, exclude_verbs });
merge!(Mtls {
    sections: ;
    values: enabled, workload_cert_ttl, allowed_clock_skew, sentry_address,
        control_plane_trust_domain, token_validators
});
merge!(AccessControl { sections: ; values: default_action, trust_domain, policies });
merge!(NameResolution { sections: ; values: component, version, configuration });
merge!(Api { sections: ; values: allowed, denied });
merge!(Logging { sections: api_logging; values: });
merge!(ApiLogging { sections: ; values: enabled, obfuscate_urls, omit_health_checks });
merge!(Components { sections: ; values: deny });
merge!(Secrets { sections: ; values: scopes });
merge!(Inbound { sections: rate_limit, queue; values: deadline_header });
merge!(InboundRate { sections: ; values: requests_per_second, burst });
merge!(InboundQueue { sections: ; values: size, max_wait });
