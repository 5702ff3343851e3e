//! What is sent again, how often, and what the caller sees then.

use std::time::Duration;

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, ports};
use ironside_testkit::http::Request;

use crate::rig::{
    Rig, contains, get, invoke_service, lines, not_invoked, post, register, resiliency, said, same,
    series, timed,
};

const SENT: &str = "dapr_runtime_service_invocation_req_sent_total";

/// R-01 to R-03, R-05 to R-07, R-11, R-69, R-70: nobody listens at the callee's address.
#[tokio::test]
async fn a_callee_that_is_down() {
    let rig = Rig::start().await.unwrap();
    let gone = ports::free();
    register(&rig.world, "gone", gone).unwrap();
    let request = Request::get("/v1.0/invoke/gone/method/x");
    let plain = Spec::new("plain").start(&rig.world).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-01", "an error of the app is passed on once", async {
        let (reply, calls) = rig.calls(&plain, &get("status/500/x")).await?;
        same("calls", (1, 500), (calls, reply.status()))?;
        same("header", Some("1"), reply.header("x-app"))?;
        same("body", "body of /status/500/x", reply.text().as_str())
    })
    .await;
    rows.row("R-02 M-26", "three retries of a second, four sends", async {
        let before = series(&plain, SENT, &["dst_app_id=\"gone\""]).await?;
        let (reply, took) = timed(plain.send(&request)).await;
        not_invoked(&reply?, "failed to invoke target gone after 3 retries. Error: rpc error: code = Unavailable")?;
        ensure!(took >= Duration::from_secs(3), "took {took:?}");
        let after = series(&plain, SENT, &["dst_app_id=\"gone\""]).await?;
        same("sent", 4, after - before)?;
        said(&plain, "Error processing operation DaprBuiltInServiceRetries. Retrying in 1s").await?;
        same("counted", 0, series(&plain, "dapr_resiliency_count", &[]).await?)
    })
    .await;
    rows.row("R-03", "the same through InvokeService", async {
        let (reply, took) = timed(invoke_service(&plain, "gone", "x")).await;
        let reply = reply?;
        same("code", Some(13), reply.code())?;
        contains("message", &reply.message(), "after 3 retries")?;
        ensure!(took >= Duration::from_secs(3), "took {took:?}");
        Ok(())
    })
    .await;
    rows.row(
        "R-06 R-07",
        "an entry switches the built-in retries off",
        async {
            for (id, entry) in [("timed", "{timeout: t}"), ("empty", "{}")] {
                let spec = format!(
                    "{{policies: {{timeouts: {{t: 60s}}}}, targets: {{apps: {{gone: {entry}}}}}}}"
                );
                let a = rig.caller(id, &spec).await?;
                let before = series(&a, SENT, &["dst_app_id=\"gone\""]).await?;
                not_invoked(&a.send(&request).await?, "code = Unavailable")?;
                same(
                    id,
                    1,
                    series(&a, SENT, &["dst_app_id=\"gone\""]).await? - before,
                )?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("R-11", "default policies multiply with the built-in retries", async {
        let spec = "{policies: {retries: {DefaultAppRetryPolicy: {duration: 10ms, maxRetries: 3}, \
                    DaprBuiltInServiceRetries: {duration: 10ms, maxRetries: 3}}}, targets: {}}";
        let a = rig.caller("many", spec).await?;
        not_invoked(&a.send(&request).await?, "after 3 retries")?;
        same("sent", 16, series(&a, SENT, &["dst_app_id=\"gone\""]).await?)
    })
    .await;
    rows.row("R-69", "the built-in retries overridden", async {
        let spec = "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 20ms, maxRetries: 5}}}, targets: {}}";
        let a = rig.caller("five", spec).await?;
        not_invoked(&a.send(&request).await?, "after 5 retries")?;
        same("sent", 6, series(&a, SENT, &["dst_app_id=\"gone\""]).await?)
    })
    .await;
    rows.row("R-70", "an override that asks for too few", async {
        let spec = "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 20ms, maxRetries: 1}}}, targets: {}}";
        let a = rig.caller("few", spec).await?;
        not_invoked(&a.send(&request).await?, "after 3 retries")?;
        let line = "Attempted override of DaprBuiltInServiceRetries did not meet minimum retry count, resetting to 3.";
        said(&a, line).await
    })
    .await;
    rows.row("R-05", "the callee comes up meanwhile", async {
        let mut app = crate::rig::http_app().await?;
        let spec = Spec::new("late").app(app.port());
        register(&rig.world, "late", ports::free())?;
        let first = Request::get("/v1.0/invoke/late/method/x");
        let (reply, started) = tokio::join!(plain.send(&first), async {
            plain.program.logged("Retrying in").await?;
            spec.ready(&rig.world).await
        });
        let _late = started?;
        same("status", 200, reply?.status())?;
        let recovered = "Recovered processing operation DaprBuiltInServiceRetries after";
        plain.program.logged(recovered).await?;
        app.stop().await;
        Ok(())
    })
    .await;
    rows.close();
}

/// R-08 to R-14, R-21 to R-24, R-26, R-31, R-32, R-61, R-66, R-71, R-72, R-78: the app answers badly.
#[tokio::test]
async fn an_app_that_fails() {
    let rig = Rig::start().await.unwrap();
    let three = "{policies: {retries: {DefaultAppRetryPolicy: {duration: 10ms, maxRetries: 3}}}, targets: {}}";
    let default = rig.caller("default", three).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-08 L-14 M-25", "every failure is retried", async {
        let (reply, calls) = rig.calls(&default, &get("status/400/x")).await?;
        same("calls", (4, 400), (calls, reply.status()))?;
        same("header", Some("1"), reply.header("x-app"))?;
        same("body", "body of /status/400/x", reply.text().as_str())?;
        said(&default, "Retrying in 10ms").await?;
        same("recovered", 0, lines(&default, "Recovered processing"))?;
        for name in ["dapr_resiliency_count", "dapr_resiliency_activations_total"] {
            let labels = [
                "policy=\"retry\"",
                "name=\"r\"",
                "target=\"app_b\"",
                "flow_direction=\"outbound\"",
            ];
            same(name, 1, series(&default, name, &labels).await?)?;
        }
        same(
            "loaded",
            1,
            series(&default, "dapr_resiliency_loaded", &["name=\"r\""]).await?,
        )
    })
    .await;
    rows.row(
        "R-09 R-10 R-23",
        "what is no failure is passed through",
        async {
            for status in [200, 301, 304] {
                let (reply, calls) = rig
                    .calls(&default, &get(&format!("status/{status}/x")))
                    .await?;
                same("calls", (1, status), (calls, reply.status()))?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("R-13 R-14 L-14", "retries without limit", async {
        for (id, most) in [("absent", ""), ("minus", ", maxRetries: -1")] {
            let spec = format!("{{policies: {{retries: {{r: {{duration: 10ms{most}}}}}}}, targets: {{apps: {{b: {{retry: r}}}}}}}}");
            let a = rig.caller(id, &spec).await?;
            let (reply, calls) = rig.calls(&a, &get(&format!("fail/20/500/{id}"))).await?;
            same(id, (21, 200), (calls, reply.status()))?;
            said(&a, "Recovered processing operation endpoint[b, b:fail/20/500/").await?;
        }
        Ok(())
    })
    .await;
    rows.row("R-12", "no retries", async {
        let spec = "{policies: {retries: {r: {maxRetries: 0}}}, targets: {apps: {b: {retry: r}}}}";
        let a = rig.caller("zero", spec).await?;
        let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
        same("calls", (1, 500), (calls, reply.status()))
    })
    .await;
    rows.row("R-21 R-22 R-24 R-26", "codes choose what is retried", async {
        for (id, codes, cases) in [
            ("one", "500", vec![(500, 3), (502, 1)]),
            ("list", "200,400-500,,501", vec![(400, 3), (420, 3), (501, 3), (502, 1), (399, 1)]),
            ("all", "", vec![(404, 3), (503, 3)]),
        ] {
            let spec = format!(
                "{{policies: {{retries: {{r: {{duration: 1ms, maxRetries: 2, matching: {{httpStatusCodes: \"{codes}\"}}}}}}}}, \
                 targets: {{apps: {{b: {{retry: r}}}}}}}}"
            );
            let a = rig.caller(id, &spec).await?;
            for (status, want) in cases {
                let (reply, calls) = rig.calls(&a, &get(&format!("status/{status}/x"))).await?;
                same(codes, (want, status), (calls, reply.status()))?;
            }
        }
        Ok(())
    })
    .await;
    rows.row("R-32", "InvokeService carries the status of the app", async {
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 2, matching: {httpStatusCodes: \"503\"}}}}, \
                    targets: {apps: {b: {retry: r}}}}";
        let a = rig.caller("grpc", spec).await?;
        for (status, want, code) in [(404, 1, 5), (503, 3, 14)] {
            drop(rig.app.take());
            let reply = invoke_service(&a, "b", &format!("status/{status}/x")).await?;
            same("calls", (want, Some(code)), (rig.app.take().len(), reply.code()))?;
        }
        Ok(())
    })
    .await;
    rows.row("R-61", "the same body with every attempt", async {
        let body = "0123456789".repeat(10_000);
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 5}}}, targets: {apps: {b: {retry: r}}}}";
        let a = rig.caller("body", spec).await?;
        drop(rig.app.take());
        let reply = a.send(&post("fail/3/500/body", &body)).await?;
        same("status", 200, reply.status())?;
        ensure!(reply.text() == body, "the echo differs");
        let seen = rig.app.take();
        same("calls", 4, seen.len())?;
        ensure!(seen.iter().all(|seen| seen.text() == body), "a body differs");
        Ok(())
    })
    .await;
    rows.row("R-71 R-72", "a namespace in the target", async {
        for (id, entry, count) in [("exact", "b.default", 2), ("general", "b", 2), ("other", "b.ns2", 1)] {
            let spec = format!(
                "{{policies: {{retries: {{r: {{duration: 1ms, maxRetries: 1}}}}}}, targets: {{apps: {{{entry}: {{retry: r}}}}}}}}"
            );
            let a = rig.caller(id, &spec).await?;
            let request = Request::get("/v1.0/invoke/b.default/method/status/500/x");
            let (_, calls) = rig.calls(&a, &request).await?;
            same(entry, count, calls)?;
        }
        Ok(())
    })
    .await;
    rows.row("R-66", "the own app: retries of a policy, no series", async {
        let spec = "{policies: {retries: {DefaultRetryPolicy: {duration: 1ms, maxRetries: 2}}}, targets: {}}";
        let own = rig.plan("own", spec).app(rig.app.port()).ready(&rig.world).await?;
        drop(rig.app.take());
        let reply = own.send(&Request::get("/v1.0/invoke/own/method/status/500/x")).await?;
        same("calls", (3, 500), (rig.app.take().len(), reply.status()))?;
        same("series", 0, series(&own, SENT, &[]).await?)
    })
    .await;
    rows.row("R-31", "a denial is final", async {
        let world = &rig.world;
        let closed = Spec::new("closed")
            .app(rig.app.port())
            .configure("  accessControl:\n    defaultAction: deny\n    trustDomain: public\n")
            .ready(world)
            .await?;
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 3}}}, targets: {apps: {closed: {retry: r}}}}";
        let a = rig.caller("denied", spec).await?;
        let reply = a.send(&Request::get("/v1.0/invoke/closed/method/x")).await?;
        same("status", 403, reply.status())?;
        let name = "dapr_runtime_service_invocation_req_sent_total";
        same("sent", 1, series(&a, name, &["dst_app_id=\"closed\""]).await?)?;
        drop(closed);
        Ok(())
    })
    .await;
    rows.row("R-67 R-68", "scopes, and several resources", async {
        let a = rig
            .plan("two", "{policies: {retries: {r: {duration: 1ms, maxRetries: 9}}}, targets: {apps: {b: {retry: r}}}}")
            .resource("s.yaml", &resiliency("s", "{policies: {retries: {r: {duration: 1ms, maxRetries: 2}}}, targets: {}}"))
            .resource(
                "t.yaml",
                "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: t}\nscopes: [other]\n\
                 spec: {policies: {retries: {r: {maxRetries: 0}}}, targets: {}}\n",
            )
            .start(&rig.world)
            .await?;
        let (_, calls) = rig.calls(&a, &get("status/500/x")).await?;
        same("the later one wins", 3, calls)?;
        let metadata = a.get("/v1.0/metadata").await?.text();
        contains("metadata", &metadata, r#""resiliencies":[{"name":"r"},{"name":"s"}]"#)
    })
    .await;
    rows.close();
}

/// R-20, R-25, R-27, R-38, R-39, R-49, R-50: what cannot be used, and what is used although it looks odd.
#[tokio::test]
async fn resources_that_cannot_be_used() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-20 R-25 R-27 R-38 R-50", "a resource that is refused has no effect", async {
        for (number, (policies, names)) in [
            ("retries: {r: {policy: linear}}", "retry: r"),
            ("retries: {r: {matching: {httpStatusCodes: \"4xx\"}}}", "retry: r"),
            ("retries: {r: {matching: {httpStatusCodes: \"500, 502\"}}}", "retry: r"),
            ("retries: {r: {matching: {gRPCStatusCodes: 400, httpStatusCodes: 11}}}", "retry: r"),
            ("timeouts: {t: abc}, retries: {r: {duration: 1ms, maxRetries: 2}}", "timeout: t, retry: r"),
            ("circuitBreakers: {c: {trip: \"((\"}}, retries: {r: {duration: 1ms, maxRetries: 2}}", "circuitBreaker: c, retry: r"),
        ]
        .into_iter()
        .enumerate()
        {
            let spec = format!("{{policies: {{{policies}}}, targets: {{apps: {{b: {{{names}}}}}}}}}");
            let a = rig.caller(&format!("bad{number}"), &spec).await?;
            let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
            same(policies, (1, 500), (calls, reply.status()))?;
            same(policies, 1, lines(&a, "Could not read resiliency policy r: "))?;
        }
        Ok(())
    })
    .await;
    rows.row(
        "R-39 R-49",
        "names that nobody defines, and an expression that never trips",
        async {
            let spec = "{policies: {circuitBreakers: {c: {trip: nosuch > 1}}}, \
                    targets: {apps: {b: {retry: nobody, timeout: nothing, circuitBreaker: c}}}}";
            let a = rig.caller("odd", spec).await?;
            for _ in 0..8 {
                let (reply, calls) = rig.calls(&a, &get("status/500/x")).await?;
                same(
                    "calls",
                    (1, "body of /status/500/x".to_owned()),
                    (calls, reply.text()),
                )?;
            }
            ensure!(
                lines(&a, "no resource defines a retry \"nobody\"") == 1,
                "nothing is said of it"
            );
            Ok(())
        },
    )
    .await;
    rows.close();
}
