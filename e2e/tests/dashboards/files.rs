//! The files in `dashboards/` and their form; what their queries ask for is asked elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::binaries;
use ironside_resources::yaml;
use serde_json::Value;

use crate::{
    query,
    series::{Labels, Page, Rare, Series},
};

const DATA_PLANE: &str = "data-plane.json";
const CONTROL_PLANE: &str = "control-plane.json";
const BOARDS: [&str; 2] = [DATA_PLANE, CONTROL_PLANE];
const RULES: &str = "ironside.rules.yaml";
/// Rules that others use.
const RECORDED: &str = "ironside-recorded";

/// A query of a board or a rule.
#[derive(Debug)]
struct Query {
    place: String,
    text: String,
    /// Labels that texts beside it name.
    told: BTreeSet<String>,
}

/// A rule as Prometheus reads it.
#[derive(Debug)]
struct Rule {
    group: String,
    record: Option<String>,
    alert: Option<String>,
    query: Query,
    whole: Value,
}

fn read(file: &str) -> String {
    let path = binaries::root().join("dashboards").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn board(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no text at {pointer} of {value}"))
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.unwrap_or_else(|| panic!("no list at {pointer} of {value}"))
}

/// The panels of a board that show something.
fn panels(board: &Value) -> impl Iterator<Item = &Value> {
    list(board, "/panels")
        .iter()
        .filter(|panel| panel["type"] != "row")
}

/// A query as Grafana sends it with everything chosen.
fn filled(text: &str) -> String {
    let text = text.replace("$__rate_interval", "5m");
    text.replace("$namespace", ".*").replace("$app_id", ".*")
}

/// The labels between `{{` and `}}`, which Prometheus' templates call `$labels.<name>`.
fn told(text: &str) -> BTreeSet<String> {
    let inner = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next());
    let word = |inner: &str| {
        let word = inner.split_whitespace().next()?.to_owned();
        match word.strip_prefix('$') {
            None => Some(word),
            Some(word) => word.strip_prefix("labels.").map(str::to_owned),
        }
    };
    inner.filter_map(word).collect()
}

fn queries(file: &str) -> Vec<Query> {
    let board = board(file);
    let mut found = Vec::new();
    for panel in panels(&board) {
        for target in list(panel, "/targets") {
            found.push(Query {
                place: format!("{file}: {}", text(panel, "/title")),
                text: filled(text(target, "/expr")),
                told: told(text(target, "/legendFormat")),
            });
        }
    }
    for variable in list(&board, "/templating/list") {
        let Some(inner) = variable["query"]["query"].as_str() else {
            continue;
        };
        let inner = inner
            .strip_prefix("label_values(")
            .and_then(|rest| rest.strip_suffix(')'));
        let (selector, label) = inner.and_then(|inner| inner.rsplit_once(", ")).unwrap();
        found.push(Query {
            place: format!("{file}: the variable {}", text(variable, "/name")),
            text: filled(selector),
            told: BTreeSet::from([label.to_owned()]),
        });
    }
    found
}

fn rules() -> Vec<Rule> {
    let file: Value = yaml::decode(&read(RULES)).unwrap().unwrap();
    let mut found = Vec::new();
    for group in list(&file, "/groups") {
        for rule in list(group, "/rules") {
            let name = |key: &str| rule[key].as_str().map(str::to_owned);
            let (record, alert) = (name("record"), name("alert"));
            let notes = rule["annotations"].as_object().into_iter().flatten();
            found.push(Rule {
                group: text(group, "/name").to_owned(),
                query: Query {
                    place: format!("{RULES}: {:?}", record.as_ref().or(alert.as_ref())),
                    text: text(rule, "/expr").to_owned(),
                    told: notes
                        .flat_map(|(_, note)| told(note.as_str().unwrap_or_default()))
                        .collect(),
                },
                record,
                alert,
                whole: rule.clone(),
            });
        }
    }
    found
}

/// Asks every query of the boards, and every rule, of these pages.
pub(crate) fn ask_all(pages: &[Page], rare: &[Rare]) {
    let bare: Vec<Page> = pages.iter().map(Page::bare).collect();
    let mut wrong = Vec::new();
    for (pages, is_bare) in [(pages, false), (&bare, true)] {
        let mut series = Series::of(pages).unwrap();
        for rare in rare {
            series.imagine(rare).unwrap();
        }
        let boards = BOARDS.into_iter().flat_map(queries);
        let boards = boards.map(|query| (query, None));
        let rules = rules().into_iter().map(|rule| (rule.query, rule.record));
        for (query, record) in boards.chain(rules) {
            let answer = query.holds(&series, is_bare);
            let answer = answer.with_context(|| query.place.clone());
            match (answer, record) {
                (Ok(vector), Some(name)) => series.record(&name, vector),
                (Ok(_), None) => {}
                (Err(error), _) => wrong.push(format!("{error:#}")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} queries:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Asks these queries of these pages.
pub(crate) fn ask_these(queries: &[&str], pages: &[Page], rare: &[Rare]) {
    let mut series = Series::of(pages).unwrap();
    for rare in rare {
        series.imagine(rare).unwrap();
    }
    for text in queries {
        query::ask(text, &series).unwrap();
    }
}

impl Query {
    /// What it gives, if that has all that is told of it.
    fn holds(&self, series: &Series, is_bare: bool) -> Result<BTreeSet<Labels>> {
        let vector = query::ask(&self.text, series)?.vector()?;
        for label in &self.told {
            let is_there = vector.iter().any(|labels| labels.contains_key(label));
            ensure!(
                is_there || is_bare,
                "{}: no series has the label {label} that is told",
                self.text
            );
        }
        Ok(vector)
    }
}

#[test]
fn boards_are_whole() {
    let mut identities = BTreeSet::new();
    for file in BOARDS {
        let board = board(file);
        assert!(identities.insert(text(&board, "/uid").to_owned()));
        assert!(!text(&board, "/title").is_empty());
        let variables = list(&board, "/templating/list")
            .iter()
            .map(|one| text(one, "/name"));
        let variables: BTreeSet<&str> = variables.chain(["__rate_interval"]).collect();
        let (mut numbers, mut titles) = (BTreeSet::new(), BTreeSet::new());
        let mut cells = BTreeSet::new();
        for panel in list(&board, "/panels") {
            assert!(
                numbers.insert(panel["id"].as_u64().unwrap()),
                "{file}: {panel}"
            );
            let side = |key: &str| panel["gridPos"][key].as_u64().unwrap();
            assert!(side("x") + side("w") <= 24, "{file}: {panel} is too wide");
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    assert!(
                        cells.insert((x, y)),
                        "{file}: {} lies over another",
                        text(panel, "/title")
                    );
                }
            }
        }
        for panel in panels(&board) {
            let title = text(panel, "/title");
            titles.insert(title);
            assert!(!text(panel, "/description").is_empty(), "{file}: {title}");
            assert_eq!(
                text(panel, "/datasource/uid"),
                "${datasource}",
                "{file}: {title}"
            );
            for target in list(panel, "/targets") {
                assert_eq!(
                    text(target, "/datasource/uid"),
                    "${datasource}",
                    "{file}: {title}"
                );
                for used in text(target, "/expr").split('$').skip(1) {
                    let end = used.find(|c: char| !c.is_alphanumeric() && c != '_');
                    let used = &used[..end.unwrap_or(used.len())];
                    assert!(
                        variables.contains(used),
                        "{file}: {title}: no variable {used}"
                    );
                }
            }
        }
        assert!(titles.len() > 10, "{file}");
        for query in queries(file) {
            query::parse(&query.text).unwrap_or_else(|error| panic!("{}: {error:#}", query.place));
        }
    }
}

/// D-01, D-02: the questions that the published boards of the reference answer, and failure rates.
#[test]
fn boards_answer_what_people_look_for() {
    for (file, wanted) in [
        (
            DATA_PLANE,
            &[
                "process_start_time_seconds",
                "process_cpu_seconds_total",
                "process_resident_memory_bytes",
                "process_virtual_memory_bytes",
                "dapr_http_server_latency_bucket",
                "dapr_http_server_response_count",
                "dapr_grpc_io_server_server_latency_bucket",
                "dapr_grpc_io_server_completed_rpcs",
                "dapr_runtime_mtls_init_total",
                "dapr_runtime_mtls_workload_cert_rotated_total",
                "dapr_runtime_mtls_workload_cert_rotated_fail_total",
                "dapr_runtime_service_invocation_res_recv_total",
                "dapr_runtime_accesscontrol_decisions_total",
                "dapr_resiliency_cb_state",
                "dapr_resiliency_retries_total",
                "dapr_runtime_trace_spans_exported_total",
                "dapr_runtime_trace_spans_dropped_total",
            ][..],
        ),
        (
            CONTROL_PLANE,
            &[
                "process_start_time_seconds",
                "process_cpu_seconds_total",
                "process_resident_memory_bytes",
                "dapr_injector_sidecar_injection_requests_total",
                "dapr_injector_sidecar_injection_succeeded_total",
                "dapr_sentry_issuercert_expiry_timestamp",
                "dapr_sentry_cert_sign_request_received_total",
                "dapr_sentry_cert_sign_success_total",
                "dapr_sentry_cert_sign_failure_total",
                "dapr_sentry_issuercert_changed_total",
                "dapr_sentry_servercert_issue_failed_total",
            ][..],
        ),
    ] {
        let all: String = queries(file)
            .iter()
            .map(|query| format!("{} ", query.text))
            .collect();
        for name in wanted {
            assert!(all.contains(name), "{file} has no panel with {name}");
        }
    }
}

/// The chart has the same files.
#[test]
fn the_chart_ships_what_is_here() {
    for file in BOARDS.into_iter().chain([RULES]) {
        let copy = binaries::root()
            .join("charts/ironside/dashboards")
            .join(file);
        let copy = fs::read_to_string(&copy).unwrap_or_default();
        assert!(
            copy == read(file),
            "cp dashboards/{file} charts/ironside/dashboards/"
        );
    }
}

#[test]
fn rules_are_whole() {
    let mut names = BTreeMap::new();
    for rule in rules() {
        let name = rule.record.as_ref().or(rule.alert.as_ref()).unwrap();
        assert!(rule.record.is_some() != rule.alert.is_some(), "{name}");
        assert_eq!(
            names.insert(name.clone(), ()),
            None,
            "{name} is there twice"
        );
        query::parse(&rule.query.text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let is_recorded = rule.group == RECORDED;
        assert_eq!(rule.record.is_some(), is_recorded, "{name}");
        if is_recorded {
            assert_eq!(name.split(':').count(), 3, "{name}: level:metric:operation");
            continue;
        }
        let keys: BTreeSet<&str> = rule
            .whole
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let wanted = ["alert", "annotations", "expr", "for", "labels"];
        assert_eq!(keys, BTreeSet::from(wanted), "{name}");
        let severity = text(&rule.whole, "/labels/severity");
        assert!(
            ["info", "warning", "critical"].contains(&severity),
            "{name}"
        );
        let hold = text(&rule.whole, "/for");
        let number = hold
            .strip_suffix(['m', 'h'])
            .and_then(|number| number.parse::<u32>().ok());
        assert!(number.is_some(), "{name}: for: {hold}");
        for note in ["/annotations/summary", "/annotations/description"] {
            assert!(!text(&rule.whole, note).is_empty(), "{name}");
        }
    }
}

/// Every alert has a run book, which names it, and every page of an alert has one.
#[test]
fn every_alert_has_its_run_book() {
    let folder = binaries::root().join("docs/runbooks");
    let mut pages = BTreeMap::new();
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let page = text(&rule.whole, "/annotations/runbook");
        assert_eq!(pages.insert(page.to_owned(), alert.clone()), None, "{page}");
        let body = fs::read_to_string(binaries::root().join(page))
            .with_context(|| format!("{alert}: {page}"))
            .unwrap();
        assert!(body.starts_with(&format!("# {alert}\n")), "{page}");
        for part in ["## What it means", "## How to confirm", "## What to do"] {
            assert!(body.contains(&format!("\n{part}\n")), "{page}: {part}");
        }
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let body = fs::read_to_string(&path).unwrap();
        let page = path
            .strip_prefix(binaries::root())
            .unwrap()
            .to_str()
            .unwrap();
        assert_eq!(
            body.starts_with("# Ironside"),
            pages.contains_key(page),
            "{page}: is there an alert for it?"
        );
    }
}
