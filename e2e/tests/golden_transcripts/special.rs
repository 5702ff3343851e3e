//! The transcripts in a notation or a set-up of their own: an app that is gone, body limits, mutual TLS,
//! targets outside.

use std::fmt::Write as _;

use anyhow::Result;
use ironside_e2e::{Rows, Sentry, Sidecar, Spec, World, ports};
use ironside_testkit::{
    http::{Answer, End, HttpApp, Reply, Request, Setup, send},
    tls::SelfSigned,
};

use crate::{
    compare::{Ids, bag, equal, headers},
    judge::{at_http_app, http_reply},
    rig::{self, Rig},
    transcript::{HttpText, Transcript},
};

const LIMIT: usize = 4 << 20;

fn verdict(wrong: &[String]) -> Result<()> {
    anyhow::ensure!(wrong.is_empty(), "\n    {}", wrong.join("\n    "));
    Ok(())
}

/// Transcript 14: bodies around the limit. One byte over is an error of ours in both forms (1.11, H23).
pub(crate) async fn body_limit(rig: &Rig, rows: &mut Rows) {
    let transcript = Transcript::read("14");
    for section in &transcript.sections {
        let over: usize = section
            .title
            .split('+')
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let chunked = section.title.contains("chunked");
        let expected = match over {
            // Two bytes over is what ours says for one as well.
            1 => {
                &transcript
                    .sections
                    .iter()
                    .find(|other| other.title.contains("+2 bytes"))
                    .unwrap()
                    .text
            }
            _ => &section.text,
        };
        rows.row(
            &format!("14.{over}.{}", if chunked { "chunked" } else { "length" }),
            &section.title,
            async {
                drop(rig.app_b.take());
                let body = vec![b'z'; LIMIT + over];
                let request = Request::new("POST", "/v1.0/invoke/appb/method/big");
                let request = if chunked {
                    request.chunked(body.chunks(65_536))
                } else {
                    request.body(&body)
                };
                let reply = rig.a.send(&request).await?;
                let mut wrong = http_reply(
                    &HttpText::parse(expected),
                    str::to_owned,
                    &reply,
                    &mut Ids::default(),
                );
                let whole = rig
                    .app_b
                    .take()
                    .iter()
                    .filter(|seen| seen.end == End::Whole)
                    .count();
                wrong.extend(equal(
                    "whole requests at the app",
                    &usize::from(over == 0),
                    &whole,
                ));
                verdict(&wrong)
            },
        )
        .await;
    }
}

/// Transcript 32: identities that do not fit.
pub(crate) async fn mtls_failures(rows: &mut Rows) -> Result<()> {
    let world = World::new();
    let sentry = Sentry::start(&world).await?;
    let app = HttpApp::start(|_| Answer::text("ok")).await?;
    let plain = |id: &str| Spec::new(id).app(app.port());
    let a = plain("appa").mtls(&sentry).ready(&world).await?;
    let _b = plain("appb").mtls(&sentry).ready(&world).await?;
    let n = plain("appn").ready(&world).await?;
    let _o = plain("appo").ready(&world).await?;
    let ports = [("3001", a.http()), ("3005", n.http()), ("6002", app.port())];
    let here = |text: &str| rig::here(text, &ports);
    for (place, mut exchange) in Transcript::read("32").exchanges().into_iter().enumerate() {
        if place == 2 {
            // SI-160: the reference answers over a pooled connection of another identity; ours must not.
            let first = Transcript::read("32").exchanges().remove(0);
            (exchange.at_app, exchange.reply) = (first.at_app, first.reply);
        }
        rows.row(&format!("32.{place}"), "mTLS failures", async {
            drop(app.take());
            let port = if exchange.request.contains(":3005") {
                n.http()
            } else {
                a.http()
            };
            let request = HttpText::parse(&here(&exchange.request));
            let reply = send(port, &Request::raw(request.bytes())).await?;
            let mut ids = Ids::default();
            let seen = app.take();
            let mut wrong = match exchange
                .at_app
                .as_deref()
                .filter(|text| !text.starts_with('('))
            {
                None => equal("calls of the app", &0, &seen.len()),
                Some(text) => at_http_app(
                    &HttpText::parse(&here(text)),
                    &exchange.request,
                    &seen[0],
                    &mut ids,
                ),
            };
            let reply = if place == 3 {
                worded_like_theirs(reply)
            } else {
                reply
            };
            wrong.extend(http_reply(
                &HttpText::parse(&exchange.reply),
                here,
                &reply,
                &mut ids,
            ));
            verdict(&wrong)
        })
        .await;
    }
    Ok(())
}

/// The end of a plaintext connection to a TLS port: what the transport says of it depends on timing.
fn worded_like_theirs(mut reply: Reply) -> Reply {
    const SURE: &str = "rpc error: code = Unavailable desc = ";
    const THEIRS: &str = "connection error: desc = \\\"error reading server preface: EOF\\\"\"}";
    let text = reply.text();
    if let Some((start, _)) = text.split_once(SURE) {
        reply.body = format!("{start}{SURE}{THEIRS}").into_bytes();
        let length = reply.body.len().to_string();
        let headers = reply.head.headers.iter_mut();
        headers
            .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .for_each(|(_, value)| value.clone_from(&length));
    }
    reply
}

/// A line of transcript 37.
struct Outside {
    path: String,
    status: u16,
    body: String,
    seen: Vec<(String, Vec<(String, String)>)>,
}

impl Outside {
    /// Reads `## path status b'body' [(line, [(name, value), ...]), ...]`, Python's notation for values.
    fn parse(line: &str) -> Self {
        let (path, rest) = line.trim_start_matches("## ").split_once(' ').unwrap();
        let (status, rest) = rest.split_once(" b'").unwrap();
        let (body, list) = rest.rsplit_once("' [").unwrap();
        let (body, list) = match rest.find("' [(") {
            Some(at) => (&rest[..at], &rest[at + 3..]),
            None => (body, list),
        };
        let json = format!("[{list}")
            .replace('(', "[")
            .replace(')', "]")
            .replace('\'', "\"");
        Self {
            path: path.to_owned(),
            status: status.parse().unwrap(),
            body: body.replace("\\\\", "\\"),
            seen: serde_json::from_str(&json).unwrap(),
        }
    }
}

/// Transcript 37: URL targets and HTTPEndpoint resources. The app's token does not leave the machine (H2).
pub(crate) async fn external_targets(rows: &mut Rows) -> Result<()> {
    let world = World::new();
    let outside = HttpApp::start(|seen| match seen.path() {
        "/302" => Answer::status(302)
            .header("Location", "/landed")
            .header("Content-Type", "text/plain")
            .body("r"),
        _ => Answer::text("ok"),
    })
    .await?;
    let mut endpoint = String::from(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: ep\nspec:\n",
    );
    writeln!(
        endpoint,
        "  baseUrl: http://127.0.0.1:{}\n  headers:\n  - name: X-Ep\n    value: v1",
        outside.port()
    )?;
    let x = Spec::new("x")
        .env("APP_API_TOKEN", "appsecret")
        .resource("ep.yaml", &endpoint)
        .start(&world)
        .await?;
    let ports = [("6050", outside.port()), ("6099", ports::free())];
    let text = Transcript::read("37").sections.remove(0).text;
    for (place, line) in text
        .lines()
        .filter(|line| line.starts_with("## "))
        .enumerate()
    {
        let line = rig::here(line, &ports).replace("%3A6050", &format!("%3A{}", outside.port()));
        rows.row(
            &format!("37.{place}"),
            &line.chars().take(60).collect::<String>(),
            async { verdict(&compare_outside(&outside, &x, &Outside::parse(&line)).await?) },
        )
        .await;
    }
    Ok(())
}

async fn compare_outside(
    outside: &HttpApp,
    x: &Sidecar,
    expected: &Outside,
) -> Result<Vec<String>> {
    drop(outside.take());
    let mut request = Request::get(&expected.path);
    let forged = expected
        .seen
        .iter()
        .flat_map(|(_, headers)| headers)
        .any(|(_, value)| value == "z");
    if forged {
        request = request.header("dapr-caller-app-id", "z");
    }
    let reply = x.send(&request).await?;
    let seen = outside.take();
    let mut wrong = equal("status", &expected.status, &reply.status());
    wrong.extend(equal("body", &expected.body, &reply.text()));
    wrong.extend(equal("requests outside", &expected.seen.len(), &seen.len()));
    for ((line, wanted), found) in expected.seen.iter().zip(&seen) {
        let wanted: Vec<_> = wanted
            .iter()
            .filter(|(name, value)| !library_default(name, value))
            .cloned()
            .collect();
        wrong.extend(equal("request line outside", line, &found.head.line));
        wrong.extend(headers(
            "outside",
            &bag(&wanted),
            &bag(&found.head.headers),
            &mut Ids::default(),
        ));
    }
    Ok(wrong)
}

/// The reference's HTTP library added these, or H2 takes them away.
fn library_default(name: &str, value: &str) -> bool {
    matches!(
        (name, value),
        ("User-Agent", "Go-http-client/1.1") | ("Accept-Encoding", "gzip")
    ) || name == "Dapr-Api-Token"
}

/// Transcript 37, its last lines: a self-signed server outside is refused whatever the app's protocol is (H3).
pub(crate) async fn untrusted_outside(rows: &mut Rows) -> Result<()> {
    let world = World::new();
    let secret = SelfSigned::new();
    let outside = Setup::new(|_| Answer::text("tls"))
        .wrap(secret.wrap(&["http/1.1"], None))
        .start()
        .await?;
    for protocol in ["http", "https"] {
        let x = Spec::new("x").protocol(protocol).start(&world).await?;
        rows.row(&format!("37.tls.{protocol}"), "H3: outside certificates are verified", async {
            let target = format!("/v1.0/invoke/https://127.0.0.1:{}/method/x", outside.port());
            let reply = x.get(&target).await?;
            let start = format!(
                "{{\"errorCode\":\"ERR_DIRECT_INVOKE\",\"message\":\"failed to invoke, id: https://127.0.0.1:{0}, err: \
                 Get \\\"https://127.0.0.1:{0}/x\\\": tls: failed to verify certificate: ",
                outside.port()
            );
            let mut wrong = equal("status", &500, &reply.status());
            if !reply.text().starts_with(&start) {
                wrong.push(format!("body: {} does not start with {start}", reply.text()));
            }
            wrong.extend(equal("requests outside", &0, &outside.take().len()));
            verdict(&wrong)
        })
        .await;
    }
    Ok(())
}

#[test]
fn the_lines_of_transcript_37_are_read() {
    let text = Transcript::read("37").sections.remove(0).text;
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("## "))
        .map(Outside::parse)
        .collect();
    assert_eq!(lines.len(), 9);
    assert_eq!(
        (lines[0].status, lines[0].body.as_str(), lines[0].seen.len()),
        (200, "ok", 1)
    );
    assert_eq!(lines[4].seen[1].0, "GET /landed HTTP/1.1");
    assert!(
        lines[8]
            .body
            .contains("Get \\\"http://127.0.0.1:6099/x\\\""),
        "{}",
        lines[8].body
    );
}
