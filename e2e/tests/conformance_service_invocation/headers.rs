//! Headers both ways: SI-024 to SI-043, SI-156 is with the gRPC apps.

use ironside_e2e::{Rows, Spec, sidecar::HOST_IP};
use ironside_testkit::http::{End, Request};

use crate::rig::{Rig, contains, invoke, same};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const HOP: [&str; 10] = [
    "Connection",
    "Keep-Alive",
    "Proxy-Connection",
    "Transfer-Encoding",
    "Upgrade",
    "HTTP2-Settings",
    "TE",
    "Trailer",
    "Proxy-Authorization",
    "Proxy-Authenticate",
];

#[tokio::test]
async fn headers_both_ways() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    answers(&rig, &mut rows).await;
    hop_by_hop(&rig, &mut rows).await;
    identity(&rig, &mut rows).await;
    forwarded(&rig, &mut rows).await;
    trace(&rig, &mut rows).await;
    rows.close();
}

async fn answers(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-024",
        "error answers of the app keep body, type and length",
        async {
            for code in [404, 409, 502] {
                let (reply, _) = rig
                    .through(&invoke("GET", "appB", &format!("status/{code}")))
                    .await?;
                let body = format!("body of {code}");
                same(
                    "status and type",
                    (code, Some("text/plain")),
                    (reply.status(), reply.header("content-type")),
                )?;
                same(
                    "length",
                    Some(body.len().to_string().as_str()),
                    reply.header("content-length"),
                )?;
                same("body", (body, End::Whole), (reply.text(), reply.end))?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SI-025", "an error answer without type is JSON", async {
        let (reply, _) = rig.through(&invoke("GET", "appB", "bare/503")).await?;
        same(
            "answer",
            (503, Some("application/json")),
            (reply.status(), reply.header("content-type")),
        )?;
        same("body", "bare", &reply.text())
    })
    .await;
    rows.row("SI-026", "a redirect is passed on, not followed", async {
        let (reply, _) = rig.through(&invoke("GET", "appB", "redirect")).await?;
        same(
            "answer",
            (301, Some("/elsewhere")),
            (reply.status(), reply.header("location")),
        )
    })
    .await;
    rows.row("SI-055", "a successful body has no length", async {
        let (reply, _) = rig.through(&invoke("GET", "appB", "foo")).await?;
        same("length", None, reply.header("content-length"))?;
        same(
            "encoding",
            Some("chunked"),
            reply.header("transfer-encoding"),
        )
    })
    .await;
}

async fn hop_by_hop(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-027 SI-028",
        "hop-by-hop headers do not reach the app",
        async {
            let mut request = invoke("POST", "appB", "foo")
                .header("Connection", "x-foo, keep-alive")
                .header("X-Foo", "1");
            for name in HOP
                .iter()
                .filter(|name| !["Connection", "Transfer-Encoding"].contains(name))
            {
                request = request.header(name, "x");
            }
            let (_, seen) = rig.through(&request.chunked(["body"])).await?;
            for name in HOP.iter().filter(|name| **name != "Transfer-Encoding") {
                same(name, None, seen.header(name))?;
            }
            same("named by Connection", None, seen.header("x-foo"))?;
            same("body", "body", &seen.text())
        },
    )
    .await;
    rows.row(
        "SI-029",
        "hop-by-hop headers of the app do not reach the client",
        async {
            let (reply, _) = rig.through(&invoke("GET", "appB", "hop")).await?;
            for name in HOP
                .iter()
                .filter(|name| !["Transfer-Encoding", "Connection"].contains(name))
            {
                same(name, None, reply.header(name))?;
            }
            same(
                "named by Connection, binary",
                (None, None),
                (reply.header("x-foo"), reply.header("x-data-bin")),
            )?;
            same("custom", Some("c"), reply.header("x-custom"))?;
            same("cookies", vec!["a=1", "b=2"], reply.head.all("set-cookie"))
        },
    )
    .await;
    rows.row(
        "SI-030",
        "other headers arrive intact, all values in order",
        async {
            let request = invoke("GET", "appB", "foo")
                .header("Authorization", "Bearer t")
                .header("Cookie", "c=1");
            let (_, seen) = rig
                .through(&request.header("X-A", "1").header("x-a", "2"))
                .await?;
            same(
                "values",
                (Some("Bearer t"), Some("c=1")),
                (seen.header("authorization"), seen.header("cookie")),
            )?;
            same("repeated", vec!["1", "2"], seen.head.all("x-a"))
        },
    )
    .await;
    rows.row(
        "SI-031",
        "a binary header does not reach an HTTP app",
        async {
            let (_, seen) = rig
                .through(&invoke("GET", "appB", "foo").header("X-Data-Bin", "abc"))
                .await?;
            same("header", None, seen.header("x-data-bin"))
        },
    )
    .await;
}

async fn identity(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-032",
        "a remote call carries caller, namespace and callee",
        async {
            let (_, seen) = rig.through(&invoke("GET", "appB", "foo")).await?;
            same("caller", vec!["appA"], seen.head.all("dapr-caller-app-id"))?;
            same(
                "namespace",
                vec!["default"],
                seen.head.all("dapr-caller-namespace"),
            )?;
            same("callee", vec!["appB"], seen.head.all("dapr-callee-app-id"))?;
            same("hop", None, seen.header("destination-app-id"))
        },
    )
    .await;
    rows.row(
        "SI-035",
        "forged identity of a remote call is replaced",
        async {
            let (_, seen) = rig.through(&forge(invoke("GET", "appB", "foo"))).await?;
            same("caller", vec!["appA"], seen.head.all("dapr-caller-app-id"))?;
            same(
                "namespace",
                vec!["default"],
                seen.head.all("dapr-caller-namespace"),
            )?;
            same("callee", vec!["appB"], seen.head.all("dapr-callee-app-id"))
        },
    )
    .await;
    rows.row(
        "SI-033 SI-034",
        "a self-invocation carries genuine identity and is not forwarded",
        async {
            for request in [
                invoke("GET", "appA", "foo"),
                forge(invoke("GET", "appA", "foo")),
            ] {
                drop(rig.app_a.take());
                same("status", 200, rig.a.send(&request).await?.status())?;
                let seen = rig.app_a.take().remove(0);
                same("caller", vec!["appA"], seen.head.all("dapr-caller-app-id"))?;
                same(
                    "namespace",
                    vec!["default"],
                    seen.head.all("dapr-caller-namespace"),
                )?;
                same("callee", vec!["appA"], seen.head.all("dapr-callee-app-id"))?;
                same(
                    "forwarded",
                    (None, None),
                    (seen.header("x-forwarded-for"), seen.header("forwarded")),
                )?;
            }
            Ok(())
        },
    )
    .await;
}

fn forge(request: Request) -> Request {
    let request = request
        .header("dapr-caller-app-id", "evil")
        .header("DAPR-CALLER-NAMESPACE", "evil");
    request.header("Dapr-Callee-App-Id", "evil")
}

async fn forwarded(rig: &Rig, rows: &mut Rows) {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap()
        .trim()
        .to_owned();
    rows.row("SI-036", "a remote call says where it came from", async {
        let (_, seen) = rig.through(&invoke("GET", "appB", "foo")).await?;
        same("for", vec![HOST_IP], seen.head.all("x-forwarded-for"))?;
        same(
            "host",
            vec![host.as_str()],
            seen.head.all("x-forwarded-host"),
        )?;
        let both = format!("for={HOST_IP};by={HOST_IP};host={host}");
        same("forwarded", vec![both.as_str()], seen.head.all("forwarded"))
    })
    .await;
    rows.row(
        "SI-037",
        "what the client forwarded stays in front",
        async {
            let (_, seen) = rig
                .through(&invoke("GET", "appB", "foo").header("X-Forwarded-For", "1.2.3.4"))
                .await?;
            same(
                "for",
                vec!["1.2.3.4", HOST_IP],
                seen.head.all("x-forwarded-for"),
            )
        },
    )
    .await;
    rows.row("SI-038", "an IPv6 address is bracketed and quoted", async {
        let six = Spec::new("six")
            .env("DAPR_HOST_IP", "fd00::1")
            .start(&rig.world)
            .await?;
        drop(rig.app_b.take());
        six.send(&invoke("GET", "appB", "foo")).await?;
        let seen = rig.app_b.take().remove(0);
        contains(
            "forwarded",
            seen.header("forwarded").unwrap_or_default(),
            "for=\"[fd00::1]\"",
        )
    })
    .await;
}

async fn trace(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-039",
        "a sampled trace goes on: same trace, other parent",
        async {
            let sampled =
                |id: &str| Spec::new(id).configure("  tracing:\n    samplingRate: \"1\"\n");
            let caller = sampled("sampledCaller").start(&rig.world).await?;
            let callee = sampled("sampledCallee")
                .app(rig.app_b.port())
                .start(&rig.world)
                .await?;
            drop(rig.app_b.take());
            let reply = caller
                .send(&invoke("GET", callee.app_id(), "foo").header("traceparent", TRACE))
                .await?;
            let seen = rig.app_b.take().remove(0);
            let at_app = seen.head.all("traceparent");
            same("one value", 1, at_app.len())?;
            same("trace", Some(&TRACE[..36]), at_app[0].get(..36))?;
            anyhow::ensure!(at_app[0] != TRACE, "the parent is still the client's");
            same(
                "response",
                Some(&TRACE[..36]),
                reply
                    .header("traceparent")
                    .and_then(|value| value.get(..36)),
            )
        },
    )
    .await;
    rows.row(
        "SI-040",
        "without traceparent there is one all the same",
        async {
            let (reply, seen) = rig.through(&invoke("GET", "appB", "foo")).await?;
            same("one at the app", 1, seen.head.all("traceparent").len())?;
            same(
                "one in the response",
                1,
                reply.head.all("traceparent").len(),
            )
        },
    )
    .await;
    rows.row("SI-041", "sampling rate 0 adds none", async {
        let off = |id: &str| Spec::new(id).configure("  tracing:\n    samplingRate: \"0\"\n");
        let caller = off("offCaller").start(&rig.world).await?;
        let callee = off("offCallee")
            .app(rig.app_b.port())
            .start(&rig.world)
            .await?;
        drop(rig.app_b.take());
        let reply = caller.send(&invoke("GET", callee.app_id(), "foo")).await?;
        let seen = rig.app_b.take().remove(0);
        same(
            "traceparent",
            (None, None),
            (reply.header("traceparent"), seen.header("traceparent")),
        )
    })
    .await;
    rows.row("SI-042", "baggage arrives and is echoed", async {
        let (reply, seen) = rig
            .through(&invoke("GET", "appB", "foo").header("baggage", "k=v"))
            .await?;
        same(
            "baggage",
            (Some("k=v"), Some("k=v")),
            (seen.header("baggage"), reply.header("baggage")),
        )
    })
    .await;
    rows.row("SI-043", "bad baggage is refused", async {
        let reply = rig
            .refused(&invoke("GET", "appB", "foo").header("baggage", "invalid-baggage"))
            .await?;
        same("status", 400, reply.status())?;
        contains("text", &reply.text(), "invalid baggage header")
    })
    .await;
}
