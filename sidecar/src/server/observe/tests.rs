//! What a request costs that nobody records.

use http::Request;
use ironside_chassis::Clock;
use ironside_telemetry::{
    Sampling,
    metrics::Metrics,
    span::{Kind, Resource},
};

use super::{begin::context, *};
use crate::{
    invocation::context::{CallContext, Source},
    live::Live,
    traces::{Export, Queue, queue},
};

fn live(sampling: Sampling, is_exported: bool) -> Live {
    let export = Export {
        resource: Resource::default(),
        zipkin: None,
        otlp: None,
        stdout: true,
    };
    Live {
        trace: sampling,
        export: is_exported.then(|| Arc::new(export)),
        ..Live::default()
    }
}

fn head(traceparent: Option<&str>) -> Parts {
    let mut request = Request::post("/v1.0/invoke/b/method/m").header("dapr-foo", "x");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.body(()).unwrap().into_parts().0
}

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn begun(live: &Live, head: &Parts, spans: &Arc<Queue>) -> CallContext {
    let about = || (head.uri.path(), Kind::Client);
    context(spans, live, &head.headers, Source::Http, about).unwrap()
}

/// Resiliency-observability 2.1, T-03, T-09, T-10: a call that is not sampled, or that nobody receives, has no span
/// and allocates nothing.
#[test]
fn what_is_not_recorded_allocates_nothing() {
    let (spans, mut waiting) = queue::new(&Arc::new(Metrics::disabled()), &Clock::system());
    for (sampling, is_exported, traceparent) in [
        (Sampling::Off, true, Some(SAMPLED)),
        (Sampling::PassThrough, false, None),
        (Sampling::PassThrough, false, Some(SAMPLED)),
        (Sampling::ParentBased(0.0), true, None),
        (Sampling::ParentBased(1.0), true, Some(UNSAMPLED)),
        (Sampling::ParentBased(1.0), false, None),
        (Sampling::ParentBased(1.0), false, Some(SAMPLED)),
    ] {
        let (live, head) = (live(sampling, is_exported), head(traceparent));
        // The random numbers of a thread are set up once.
        assert!(begun(&live, &head, &spans).span.is_none());
        let calls = || (0..100).for_each(|_| drop(begun(&live, &head, &spans)));
        let counted = allocation_counter::measure(calls);
        assert_eq!(counted.count_total, 0, "{sampling:?} {traceparent:?}");
    }
    assert!(waiting.try_recv().is_err());
}

/// T-02: what is recorded names the span above.
#[test]
fn what_is_sampled_and_exported_is_recorded() {
    let (spans, mut waiting) = queue::new(&Arc::new(Metrics::disabled()), &Clock::system());
    for (traceparent, parent) in [(None, None), (Some(SAMPLED), Some("b7ad6b7169203331"))] {
        let live = live(Sampling::ParentBased(1.0), true);
        let context = begun(&live, &head(traceparent), &spans);
        assert!(waiting.try_recv().is_err());
        drop(context);
        let span = waiting.try_recv().unwrap();
        let found = span.parent.map(|id| id.to_string());
        assert_eq!(found.as_deref(), parent);
    }
}
