//! Transcripts 26 to 28: what the reference's sidecars expose after a known sequence of calls.
//!
//! The same calls are made here, and the families compared by name, type and labels, the series by their label
//! values. What is missing or wrong fails; what is additional is printed and must be one of those that are listed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::GrpcApp,
    http::{Answer, HttpApp, Request, send},
};

use crate::{
    messages,
    rig::{by_path, grpc_app},
    transcript::Transcript,
};

/// Families that the reference does not have, by their beginning; the fact sheet's 6.3 and ours.
const OURS: [&str; 6] = [
    "dapr_resiliency_attempts",
    "dapr_resiliency_retry_budget_balance",
    "dapr_runtime_component_loaded",
    "dapr_runtime_accesscontrol_",
    "dapr_runtime_service_invocation_errors_total",
    // The rig asks each sidecar for its health; in the transcripts only the caller was.
    "dapr_http_server_",
];
/// Families of which ours has more series: names, and why.
const MORE_SERIES: [(&str, &str); 2] = [
    (
        "dapr_runtime_service_invocation_req_recv_total",
        "proxied calls are counted by the callee as well",
    ),
    (
        "dapr_runtime_service_invocation_res_sent_total",
        "proxied calls are counted by the callee as well",
    ),
];

/// A family: its type, and its series without the labels of buckets.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    series: BTreeSet<BTreeMap<String, String>>,
}

/// Reads an exposition; `process_*` has no labels and is not of interest but for its names.
fn parse(text: &str) -> Result<BTreeMap<String, Family>> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a type")?;
            families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            continue;
        }
        if line.starts_with('#') || line.starts_with('=') {
            continue;
        }
        let (series, _value) = line.rsplit_once(' ').context("a value")?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut labels = read_labels(labels).with_context(|| line.to_owned())?;
        labels.remove("le");
        let is_part = |family: &str| {
            let is_histogram = families.get(family).is_some_and(|f| f.kind == "histogram");
            is_histogram.then(|| family.to_owned())
        };
        let part = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| is_part(name.strip_suffix(end)?));
        let family = part.unwrap_or_else(|| name.to_owned());
        families.entry(family).or_default().series.insert(labels);
    }
    Ok(families)
}

fn read_labels(text: &str) -> Result<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text.strip_suffix('}').context("a closing brace")?;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").context("a label")?;
        let (value, after) = after.split_once('"').context("a value of a label")?;
        labels.insert(name.to_owned(), value.to_owned());
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Ok(labels)
}

/// What a comparison found.
#[derive(Debug, Default)]
struct Found {
    missing: Vec<String>,
    wrong: Vec<String>,
    additional: Vec<String>,
}

fn compare(golden: &str, ours: &str) -> Result<Found> {
    let (golden, ours) = (parse(golden)?, parse(ours)?);
    let mut found = Found::default();
    for (name, theirs) in &golden {
        let Some(ours) = ours.get(name) else {
            found.missing.push(name.clone());
            continue;
        };
        // The values of `process_*` are left out of the transcripts, and their types with them.
        if !theirs.kind.is_empty() && theirs.kind != ours.kind {
            found
                .wrong
                .push(format!("{name}: {} for {}", ours.kind, theirs.kind));
        }
        let names = |family: &Family| -> BTreeSet<Vec<String>> {
            let names = family.series.iter();
            names
                .map(|labels| labels.keys().cloned().collect())
                .collect()
        };
        if names(theirs) != names(ours) {
            let (ours, theirs) = (names(ours), names(theirs));
            found
                .wrong
                .push(format!("{name}: labels {ours:?} for {theirs:?}"));
            continue;
        }
        for series in theirs.series.difference(&ours.series) {
            found.missing.push(format!("{name}{series:?}"));
        }
        for series in ours.series.difference(&theirs.series) {
            let why = MORE_SERIES.iter().find(|(family, _)| family == name);
            let text = format!("{name}{series:?}");
            match why {
                Some((_, why)) => found.additional.push(format!("{text}: {why}")),
                None => found.wrong.push(format!("{text} is not the reference's")),
            }
        }
    }
    let shown = ours.iter().filter(|(_, family)| !family.series.is_empty());
    for (name, _) in shown.filter(|(name, _)| !golden.contains_key(*name)) {
        match OURS.iter().any(|known| name.starts_with(known)) {
            true => found.additional.push(name.clone()),
            false => found
                .wrong
                .push(format!("{name} is additional and not listed")),
        }
    }
    Ok(found)
}

/// The set-up of the transcripts, with apps that do not know `/dapr/config`.
struct Set {
    a: Sidecar,
    b: Sidecar,
    g: Sidecar,
    _apps: (HttpApp, HttpApp, GrpcApp),
    _world: World,
}

impl Set {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = || {
            HttpApp::start(|seen| match seen.path() {
                "/dapr/config" => Answer::status(404),
                _ => by_path(seen),
            })
        };
        let apps = (app().await?, app().await?, GrpcApp::start(grpc_app).await?);
        let spec = |id: &str, port: u16| Spec::new(id).app(port).init_endpoints();
        let a = spec("appa", apps.0.port()).ready(&world).await?;
        let b = spec("appb", apps.1.port()).ready(&world).await?;
        let g = spec("appg", apps.2.port()).protocol("grpc");
        let g = g.ready(&world).await?;
        Ok(Self {
            a,
            b,
            g,
            _apps: apps,
            _world: world,
        })
    }

    /// The calls, in the order of the transcripts.
    async fn call(&self) -> Result<()> {
        let http = [
            ("GET", "/v1.0/invoke/appb/method/hi", "", 200),
            ("GET", "/v1.0/invoke/appb/method/hi", "", 200),
            ("POST", "/v1.0/invoke/appb/method/nf", "", 404),
            ("GET", "/orders", "appb", 200),
            ("GET", "/unknown", "", 404),
            ("GET", "/v1.0/invoke/appa/method/self", "", 200),
            ("GET", "/v1.0/invoke/appg/method/foo", "", 200),
        ];
        for (verb, path, app, want) in http {
            let mut request = Request::new(verb, path);
            if !app.is_empty() {
                request = request.header("dapr-app-id", app);
            }
            let status = self.a.send(&request).await?.status();
            ensure!(status == want, "{verb} {path}: {status}");
        }
        let client = self.a.client().await?;
        let method = "/dapr.proto.runtime.v1.Dapr/InvokeService";
        let hi = "id: \"appb\" message { method: \"hi\" http_extension { verb: GET } }";
        let nf = "id: \"appg\" message { method: \"nf\" }";
        for (message, want) in [(hi, 0), (nf, 5)] {
            let message = messages::encode(INVOKE_SERVICE, message);
            let reply = client.call(method, &[], &[&message]).await?;
            ensure!(reply.code() == Some(want), "{reply:?}");
        }
        let to = ("dapr-app-id", "appg");
        for (path, metadata, want) in [
            ("/greet.G/Hi", &[to][..], 0),
            ("/greet.G/Fail", &[to], 9),
            ("/greet.G/Hi", &[to, ("dapr-stream", "true")], 0),
        ] {
            let reply = client.call(path, metadata, &[b"m"]).await?;
            ensure!(reply.code() == Some(want), "{path}: {reply:?}");
        }
        Ok(())
    }
}

const INVOKE_SERVICE: &str = "dapr.proto.runtime.v1.InvokeServiceRequest";

async fn exposition(sidecar: &Sidecar) -> Result<String> {
    Ok(send(sidecar.metrics(), &Request::get("/metrics"))
        .await?
        .text())
}

/// Compares until nothing is missing: what ends with a body is counted a moment after the client has it.
async fn settled(golden: &str, sidecar: &Sidecar) -> Result<Found> {
    let compared = || async {
        let found = compare(golden, &exposition(sidecar).await.ok()?).ok()?;
        found.missing.is_empty().then_some(found)
    };
    match wait::until("all series", wait::LONG, compared).await {
        Ok(found) => Ok(found),
        Err(_late) => compare(golden, &exposition(sidecar).await?),
    }
}

/// M-05 to M-09, M-17, M-22, M-39: golden 26 to 28.
#[tokio::test]
async fn series_are_the_references() {
    let set = Set::start().await.unwrap();
    set.call().await.unwrap();
    let mut rows = Rows::of("golden");
    for (number, sidecar) in [("26", &set.a), ("27", &set.b), ("28", &set.g)] {
        let fact = "missing 0, wrong 0";
        rows.row(number, fact, async {
            let golden = Transcript::read(number);
            let golden = golden.sections.iter().find(|s| s.title == "exposition");
            let golden = &golden.context("an exposition")?.text;
            let found = settled(golden, sidecar).await?;
            let Found {
                missing,
                wrong,
                additional,
            } = &found;
            eprintln!(
                "golden {number}: missing {}, wrong {}, additional {}",
                missing.len(),
                wrong.len(),
                additional.len()
            );
            additional
                .iter()
                .for_each(|name| eprintln!("  additional: {name}"));
            ensure!(
                missing.is_empty() && wrong.is_empty(),
                "missing {missing:#?} wrong {wrong:#?}"
            );
            Ok(())
        })
        .await;
    }
    rows.close();
}

#[test]
fn a_difference_is_found() {
    let golden = "# TYPE a counter\na{x=\"1\"} 1\n# TYPE h histogram\nh_sum{} 1\nh_count 1\n";
    let same = compare(golden, golden).unwrap();
    assert!(same.missing.is_empty() && same.wrong.is_empty());
    for (ours, missing, wrong) in [
        ("# TYPE a counter\na{x=\"1\"} 1\n", 1, 0),
        (
            "# TYPE a gauge\na{x=\"1\"} 1\n# TYPE h histogram\nh_sum 1\n",
            0,
            1,
        ),
        (
            "# TYPE a counter\na{y=\"1\"} 1\n# TYPE h histogram\nh_sum 1\n",
            0,
            1,
        ),
        (
            "# TYPE a counter\na{x=\"2\"} 1\n# TYPE h histogram\nh_sum 1\n",
            1,
            1,
        ),
    ] {
        let found = compare(golden, ours).unwrap();
        assert_eq!(
            (found.missing.len(), found.wrong.len()),
            (missing, wrong),
            "{ours}"
        );
    }
}
