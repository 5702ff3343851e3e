//! The metrics port: Prometheus text at every path.
//!
//! The families of the program come from a closure; those of the process
//! (`process_*`) are added here. Refused: registering or naming metrics.
//! Source: process-interface 2.3, resiliency-observability 3.1.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use tokio::net::TcpListener;

use crate::Tasks;
use crate::http_serve::{self, Answer, Bounds};
use crate::process_stats;

/// A scraper that does not read holds a whole text: few may, and not for long. None of them keeps another one out.
const BOUNDS: Bounds = Bounds {
    connections: 8,
    life: Some(Duration::from_secs(30)),
};
/// Media type of the Prometheus text format.
const TEXT_FORMAT: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Answers every request with `exposition` and the process families; until `tasks` is cancelled.
pub async fn serve(
    listener: TcpListener,
    exposition: impl Fn() -> String + Send + Sync + 'static,
    tasks: &Tasks,
) {
    let answer: Answer = Arc::new(move |_head| {
        let text = process_stats::exposition() + &exposition();
        let mut response = Response::new(Full::new(Bytes::from(text)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, TEXT_FORMAT);
        response
    });
    http_serve::run(listener, "metrics-connection", BOUNDS, answer, tasks).await;
}

/// Turns the text of OpenMetrics into Prometheus' own.
///
/// The one names a counter without `_total` where it tells its type and has a last line; the other names it in
/// full and has none.
#[must_use]
pub fn prometheus_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let counters: Vec<&str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    for line in open_metrics.lines().filter(|line| *line != "# EOF") {
        let mut words = line.splitn(4, ' ');
        let head = (words.next(), words.next(), words.next(), words.next());
        match head {
            (Some("#"), Some(what), Some(name), Some(rest)) if counters.contains(&name) => {
                text.push_str(&format!("# {what} {name}_total {rest}"));
            }
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_serve::tests::{get, loopback};

    #[tokio::test]
    async fn every_path_answers_the_exposition() {
        let tasks = Tasks::new();
        let (listener, address) = loopback().await;
        let owner = tasks.clone();
        tasks.spawn("metrics", async move {
            serve(listener, || "dapr_x 1\n".into(), &owner).await;
        });
        for path in ["/", "/metrics", "/x?y=1"] {
            let answer = get(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
            assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
            assert!(answer.ends_with("dapr_x 1\n"), "{answer}");
        }
        assert!(tasks.shutdown(Duration::from_secs(10)).await.is_empty());
    }

    #[test]
    fn counters_are_named_in_full() {
        let open = "# HELP a A.\n# TYPE a counter\na_total 1\n# TYPE b gauge\nb 2\n# EOF\n";
        let want = "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n";
        assert_eq!(prometheus_text(open), want);
    }
}
