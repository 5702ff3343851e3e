//! Target, method, query and verb: SI-001 to SI-019, SI-155, SI-161.

use ironside_e2e::Rows;
use ironside_testkit::http::{Framing, Request};

use crate::rig::{Rig, invoke, no_target, not_invoked, same};

#[tokio::test]
async fn target_and_method() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    forms(&rig, &mut rows).await;
    no_target_at_all(&rig, &mut rows).await;
    paths(&rig, &mut rows).await;
    verbs(&rig, &mut rows).await;
    rows.close();
}

async fn forms(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-001", "a POST is delivered and answered", async {
        let (reply, seen) = rig
            .through(&Request::post("/v1.0/invoke/appB/method/status/201", "in"))
            .await?;
        same(
            "at the app",
            ("POST /status/201 HTTP/1.1", "in"),
            (&seen.head.line, &seen.text()),
        )?;
        same(
            "to the client",
            (201, Some("1"), "body of 201"),
            (reply.status(), reply.header("x-app"), &reply.text()),
        )
    })
    .await;
    rows.row("SI-004", "the header dapr-app-id names the target", async {
        let (reply, seen) = rig
            .through(&Request::get("///foo").header("dapr-app-id", "appB"))
            .await?;
        same(
            "status, path, header",
            (200, "/foo", None),
            (reply.status(), seen.path(), seen.header("dapr-app-id")),
        )
    })
    .await;
    rows.row("SI-005", "basic auth names the target and stays", async {
        // dapr-app-id:appB
        let basic = "Basic ZGFwci1hcHAtaWQ6YXBwQg==";
        let (_, seen) = rig
            .through(&Request::get("/foo").header("Authorization", basic))
            .await?;
        same(
            "path and header",
            ("/foo", Some(basic)),
            (seen.path(), seen.header("authorization")),
        )
    })
    .await;
    rows.row("SI-006", "the header wins over basic auth", async {
        // dapr-app-id:appC
        let both = Request::get("/foo").header("Authorization", "Basic ZGFwci1hcHAtaWQ6YXBwQw==");
        let (reply, seen) = rig.through(&both.header("dapr-app-id", "appB")).await?;
        same(
            "status and path",
            (200, "/foo"),
            (reply.status(), seen.path()),
        )
    })
    .await;
    rows.row(
        "SI-007",
        "with the header, an invoke path is a method",
        async {
            let (_, seen) = rig
                .through(&invoke("GET", "appC", "x").header("dapr-app-id", "appB"))
                .await?;
            same("path", "/v1.0/invoke/appC/method/x", seen.path())
        },
    )
    .await;
    rows.row("SI-008", "double slashes in the invoke path", async {
        let (reply, seen) = rig
            .through(&Request::get("/v1.0//invoke//appB/method//foo"))
            .await?;
        same(
            "status and path",
            (200, "/foo"),
            (reply.status(), seen.path()),
        )
    })
    .await;
}

async fn no_target_at_all(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-009",
        "an invoke path without method has no target",
        async {
            no_target(&rig.refused(&Request::get("/v1.0/invoke/appB")).await?)?;
            no_target(
                &rig.refused(&Request::get("/v1.0/invoke/appB/method"))
                    .await?,
            )
        },
    )
    .await;
    rows.row("SI-011", "an unknown path has no target", async {
        no_target(&rig.refused(&Request::get("/unknown")).await?)
    })
    .await;
    rows.row(
        "SI-012",
        "a wrong method on an API route is never 405",
        async {
            no_target(&rig.refused(&Request::post("/v1.0/metadata", "")).await?)?;
            let head = rig.refused(&Request::new("HEAD", "/v1.0/healthz")).await?;
            same("status of HEAD", 404, head.status())
        },
    )
    .await;
    rows.row("SI-019", "an id with two dots", async {
        not_invoked(
            &rig.refused(&invoke("GET", "a.b.c", "x")).await?,
            "invalid app id a.b.c",
        )
    })
    .await;
}

/// What a client writes after `/method/`, and the path that the app sees.
const PATHS: [(&str, &str); 8] = [
    ("", "/"),
    ("a/b/c?x=1&y=%20z", "/a/b/c?x=1&y=%20z"),
    ("foo/", "/foo"),
    ("admin%2F..%2Fpublic", "/public"),
    ("..%2Fpublic", "/public"),
    ("admin/../public", "/public"),
    ("a//b/../c/", "/a/c"),
    ("public%23%2F..%2Fadmin", "/admin"),
];

async fn paths(rig: &Rig, rows: &mut Rows) {
    rows.row(
        "SI-010 SI-013 SI-014 SI-015",
        "paths are decoded once and cleaned, the query stays",
        async {
            for (written, delivered) in PATHS {
                let (reply, seen) = rig.through(&invoke("GET", "appB", written)).await?;
                same(written, (200, delivered), (reply.status(), seen.path()))?;
            }
            Ok(())
        },
    )
    .await;
    rows.row(
        "SI-016",
        "forbidden characters never reach the callee",
        async {
            for (written, why) in [
                (
                    "test%23x",
                    "method contains forbidden character: \"test#x\"",
                ),
                (
                    "test%3Fx",
                    "method contains forbidden character: \"test?x\"",
                ),
                (
                    "test%00x",
                    "method contains forbidden character: \"test\\x00x\"",
                ),
                (
                    "test%0Dx",
                    "method contains control character at position 4: \"test\\rx\"",
                ),
                (
                    "test%7Fx",
                    "method contains control character at position 4: \"test\\x7fx\"",
                ),
            ] {
                not_invoked(&rig.refused(&invoke("GET", "appB", written)).await?, why)?;
            }
            Ok(())
        },
    )
    .await;
    rows.row(
        "SI-017",
        "a bare percent sign: no URL for an HTTP app, a method for a gRPC app",
        async {
            let reply = rig.refused(&invoke("GET", "appB", "test%25stream")).await?;
            not_invoked(
                &reply,
                "error invoking app channel: parse \"http://127.0.0.1:",
            )?;
            drop(rig.app_g.take());
            let reply = rig.a.send(&invoke("GET", "appG", "test%25stream")).await?;
            same("status", 200, reply.status())?;
            same(
                "method",
                "test%stream",
                &crate::to_grpc::invoked(&rig.app_g.take())?.method,
            )
        },
    )
    .await;
    rows.row("SI-018", "other characters arrive decoded", async {
        for (written, decoded) in [("test%22x", "\""), ("test%2Ax", "*"), ("test%5Cx", "\\")] {
            let (reply, seen) = rig.through(&invoke("GET", "appB", written)).await?;
            let path = seen
                .path()
                .replace("%22", "\"")
                .replace("%2A", "*")
                .replace("%5C", "\\");
            same(
                written,
                (200, format!("/test{decoded}x")),
                (reply.status(), path),
            )?;
        }
        Ok(())
    })
    .await;
}

async fn verbs(rig: &Rig, rows: &mut Rows) {
    rows.row("SI-002", "verbs are delivered unchanged", async {
        for verb in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"] {
            let (reply, seen) = rig.through(&invoke(verb, "appB", "foo")).await?;
            same(verb, (200, verb), (reply.status(), seen.method()))?;
        }
        Ok(())
    })
    .await;
    rows.row("SI-003", "an unknown verb becomes POST", async {
        let (_, seen) = rig.through(&invoke("PROPFIND", "appB", "foo")).await?;
        same(
            "verb and framing",
            ("POST", Framing::Chunked),
            (seen.method(), seen.framing),
        )
    })
    .await;
    rows.row(
        "SI-155",
        "no body: POST is chunked and empty, the others bare",
        async {
            for (verb, framing) in [
                ("POST", Framing::Chunked),
                ("PATCH", Framing::Chunked),
                ("GET", Framing::Empty),
                ("HEAD", Framing::Empty),
                ("DELETE", Framing::Empty),
                ("OPTIONS", Framing::Empty),
            ] {
                let (_, seen) = rig.through(&invoke(verb, "appB", "foo")).await?;
                same(verb, (framing, 0), (seen.framing, seen.length))?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SI-161", "codes up to 999 pass", async {
        for code in [600, 999] {
            let (reply, _) = rig
                .through(&invoke("GET", "appB", &format!("status/{code}")))
                .await?;
            same("status", code, reply.status())?;
        }
        Ok(())
    })
    .await;
}
