//! Which series a query gives, whatever their values.
//!
//! Comparisons hold, rates are there: what is judged is names and labels. A selector that selects nothing, a label
//! that no series has, and sides that never meet are errors.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use promql_parser::label::Matcher;
use promql_parser::parser::{
    self, AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality,
    VectorSelector,
};

use crate::series::{Labels, NAME, Series};

/// Labels that a scrape configuration may set, and need not.
const OPTIONAL: [&str; 3] = ["namespace", "app", "pod"];

/// What a query gives.
#[derive(Debug)]
pub(crate) enum Answer {
    Number,
    Vector(BTreeSet<Labels>),
}

/// Parses a query.
pub(crate) fn parse(text: &str) -> Result<Expr> {
    parser::parse(text).map_err(|error| anyhow!("{error}: {text}"))
}

/// Asks a query.
pub(crate) fn ask(text: &str, series: &Series) -> Result<Answer> {
    eval(&parse(text)?, series).with_context(|| text.to_owned())
}

// === impl Answer ===

impl Answer {
    /// The label sets of a vector.
    pub(crate) fn vector(self) -> Result<BTreeSet<Labels>> {
        match self {
            Self::Vector(vector) => Ok(vector),
            Self::Number => bail!("a number, where series are expected"),
        }
    }
}

fn eval(expr: &Expr, series: &Series) -> Result<Answer> {
    match expr {
        Expr::Aggregate(aggregate) => aggregated(aggregate, series).map(Answer::Vector),
        Expr::Unary(unary) => eval(&unary.expr, series),
        Expr::Binary(binary) => joined(binary, series),
        Expr::Paren(paren) => eval(&paren.expr, series),
        Expr::Subquery(sub) => eval(&sub.expr, series),
        Expr::NumberLiteral(_) => Ok(Answer::Number),
        Expr::StringLiteral(_) => bail!("a text is no query"),
        Expr::VectorSelector(selector) => selected(selector, series).map(Answer::Vector),
        Expr::MatrixSelector(matrix) => selected(&matrix.vs, series).map(Answer::Vector),
        Expr::Call(call) => called(call, series),
        Expr::Extension(_) => bail!("no PromQL"),
    }
}

fn selected(selector: &VectorSelector, series: &Series) -> Result<BTreeSet<Labels>> {
    ensure!(selector.matchers.or_matchers.is_empty(), "no PromQL: or");
    let matchers: &[Matcher] = &selector.matchers.matchers;
    let is_it = |labels: &&Labels| {
        let name = selector.name.as_ref();
        name.is_none_or(|name| labels[NAME] == *name)
            && matchers.iter().all(|matcher| {
                let value = labels.get(&matcher.name).map_or("", String::as_str);
                matcher.is_match(value)
            })
    };
    let found: BTreeSet<Labels> = series.all.iter().filter(is_it).cloned().collect();
    ensure!(!found.is_empty(), "no series is {selector}");
    Ok(found)
}

fn nameless(vector: BTreeSet<Labels>) -> BTreeSet<Labels> {
    let without = |mut labels: Labels| {
        labels.remove(NAME);
        labels
    };
    vector.into_iter().map(without).collect()
}

/// The part of the labels that `by` or `on` names, or that `without` or `ignoring` leaves.
fn part(labels: &Labels, modifier: Option<&LabelModifier>) -> Labels {
    let named = |name: &String| match modifier {
        None => false,
        Some(modifier) => modifier.labels().labels.contains(name) == modifier.is_include(),
    };
    let kept = labels
        .iter()
        .filter(|(name, _)| *name != NAME && named(name));
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Each of the labels stands in one of the series at least.
fn known<'a>(names: impl IntoIterator<Item = &'a String>, vector: &BTreeSet<Labels>) -> Result<()> {
    for name in names {
        let is_there = vector.iter().any(|labels| labels.contains_key(name));
        ensure!(
            is_there || OPTIONAL.contains(&name.as_str()),
            "no series has the label {name}"
        );
    }
    Ok(())
}

fn aggregated(aggregate: &AggregateExpr, series: &Series) -> Result<BTreeSet<Labels>> {
    let vector = eval(&aggregate.expr, series)?.vector()?;
    let modifier = aggregate.modifier.as_ref();
    if let Some(modifier) = modifier {
        known(&modifier.labels().labels, &vector)?;
    }
    Ok(vector.iter().map(|labels| part(labels, modifier)).collect())
}

fn called(call: &Call, series: &Series) -> Result<Answer> {
    let args = &call.args.args;
    let mut vectors = Vec::new();
    match call.func.name {
        "time" => return Ok(Answer::Number),
        "vector" => return Ok(Answer::Vector(BTreeSet::from([Labels::new()]))),
        // It is there when what it asks for is not; that the name is right is still to be seen.
        "absent" => {
            let [arg] = args.as_slice() else {
                bail!("absent takes one argument")
            };
            let _there = eval(arg, series)?.vector()?;
            return Ok(Answer::Vector(BTreeSet::from([Labels::new()])));
        }
        _ => {}
    }
    for arg in args {
        if let Answer::Vector(vector) = eval(arg, series)? {
            vectors.push(vector);
        }
    }
    let mut vectors = vectors.into_iter();
    let (Some(vector), None) = (vectors.next(), vectors.next()) else {
        bail!("{}: one vector is expected", call.func.name);
    };
    let mut vector = nameless(vector);
    if call.func.name == "histogram_quantile" {
        let le = "le".to_owned();
        known([&le], &vector)?;
        vector = vector
            .into_iter()
            .map(|mut labels| {
                labels.remove(&le);
                labels
            })
            .collect();
    }
    Ok(Answer::Vector(vector))
}

fn joined(binary: &BinaryExpr, series: &Series) -> Result<Answer> {
    let (left, right) = (eval(&binary.lhs, series)?, eval(&binary.rhs, series)?);
    let (left, right) = match (left, right) {
        (Answer::Number, Answer::Number) => return Ok(Answer::Number),
        (Answer::Vector(vector), Answer::Number) | (Answer::Number, Answer::Vector(vector)) => {
            return Ok(Answer::Vector(match binary.op.is_comparison_operator() {
                true => vector,
                false => nameless(vector),
            }));
        }
        (Answer::Vector(left), Answer::Vector(right)) => (left, right),
    };
    let matching = binary
        .modifier
        .as_ref()
        .and_then(|modifier| modifier.matching.as_ref());
    if let Some(matching) = matching {
        known(&matching.labels().labels, &left)?;
        known(&matching.labels().labels, &right)?;
    }
    // Without `on` or `ignoring` all labels have to agree.
    let all = LabelModifier::exclude(Vec::new());
    let key = |labels: &Labels| part(labels, Some(matching.unwrap_or(&all)));
    let op = binary.op.to_string();
    if op == "or" {
        return Ok(Answer::Vector(left.into_iter().chain(right).collect()));
    }
    let mut by_key: BTreeMap<Labels, Vec<&Labels>> = BTreeMap::new();
    for labels in &right {
        by_key.entry(key(labels)).or_default().push(labels);
    }
    if op == "unless" {
        return Ok(Answer::Vector(left));
    }
    let card = binary.modifier.as_ref().map(|modifier| &modifier.card);
    let is_logical = binary.op.is_set_operator();
    let mut found = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for labels in &left {
        let Some(others) = by_key.get(&key(labels)) else {
            continue;
        };
        if is_logical {
            found.insert(labels.clone());
            continue;
        }
        let [other] = others.as_slice() else {
            bail!("several series on the right side are {:?}", key(labels));
        };
        let mut result = match card {
            Some(VectorMatchCardinality::ManyToOne(more)) => {
                known(&more.labels, &right)?;
                let mut result = labels.clone();
                for name in &more.labels {
                    match other.get(name) {
                        Some(value) => drop(result.insert(name.clone(), value.clone())),
                        None => drop(result.remove(name)),
                    }
                }
                result
            }
            Some(VectorMatchCardinality::OneToMany(_)) => bail!("group_right is not read here"),
            _ => {
                ensure!(
                    seen.insert(key(labels)),
                    "several series on the left side are {:?}",
                    key(labels)
                );
                match matching {
                    Some(matching) if matching.is_include() => key(labels),
                    _ => labels.clone(),
                }
            }
        };
        if !binary.op.is_comparison_operator() {
            result.remove(NAME);
        }
        found.insert(result);
    }
    ensure!(
        !found.is_empty(),
        "the two sides of {op} never meet: {:?} and {:?}",
        left.first(),
        right.first()
    );
    Ok(Answer::Vector(found))
}

#[test]
fn a_query_that_cannot_be_answered_is_found() {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        let pairs = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        pairs.collect()
    };
    let mut series = Series::default();
    for (name, more) in [
        ("a", ("x", "1")),
        ("a", ("x", "2")),
        ("b", ("y", "1")),
        ("c_bucket", ("le", "1")),
    ] {
        series
            .all
            .insert(labels(&[(NAME, name), ("job", "j"), more]));
    }
    for good in [
        "a",
        "sum by (x) (rate(a[5m]))",
        "sum by (namespace) (a)",
        "a{x=\"1\"} or b",
        "a * on (job) group_left (y) b",
        "a and on (job) b > 3",
        "sum(a) / sum(b)",
        "absent(a) and on () count(b) > 0",
        "histogram_quantile(0.9, rate(c_bucket[5m]))",
        "time() - max(a)",
    ] {
        ask(good, &series).unwrap();
    }
    for bad in [
        "d",
        "a{x=\"3\"}",
        "a{x=~\"[3-9]\"}",
        "sum by (y) (a)",
        "a and b",
        "a * on (job) b",
        "b * on (job) a",
        "a / b",
        "a * on (job) group_left (z) b",
        "absent(d)",
        "histogram_quantile(0.9, a)",
        "sum(a",
        "rate(a)",
    ] {
        assert!(ask(bad, &series).is_err(), "{bad}");
    }
    let found = ask("sum by (x) (a)", &series).unwrap().vector().unwrap();
    assert_eq!(
        found,
        BTreeSet::from([labels(&[("x", "1")]), labels(&[("x", "2")])])
    );
}
