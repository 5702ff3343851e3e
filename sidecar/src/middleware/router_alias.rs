//! `middleware.http.routeralias`: other names for API paths.
//!
//! Setting `routes`: a JSON or YAML map from path patterns to targets. `{name}` in a pattern stands for one
//! segment; what it matched joins the query. The first pattern in alphabetical order that matches wins, a
//! pattern without `{…}` before all others. The rewrite changes what the invocation reads, never the API
//! route (service-invocation 1.2).

use std::collections::BTreeMap;

use http::{Uri, request::Parts, uri::PathAndQuery};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{HandlerError, Settings};

/// What a query value may hold as it is (RFC 3986 unreserved).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A compiled route table.
#[derive(Debug)]
pub(crate) struct RouterAlias {
    exact: BTreeMap<Box<str>, Target>,
    patterns: Vec<(Vec<Segment>, Target)>,
}

#[derive(Debug)]
enum Segment {
    Literal(Box<str>),
    Variable(Box<str>),
}

#[derive(Debug)]
struct Target {
    path: Box<str>,
    query: Option<Box<str>>,
}

// === impl RouterAlias ===

impl RouterAlias {
    pub(super) fn build(settings: &Settings) -> Result<Self, HandlerError> {
        let text = settings
            .text(&["routes"])
            .ok_or(HandlerError::Missing("routes"))?;
        let routes: BTreeMap<String, String> = match ironside_resources::yaml::from_str(text) {
            Ok(routes) => routes,
            Err(err) => return Err(invalid(err.to_string())),
        };
        let mut alias = Self {
            exact: BTreeMap::new(),
            patterns: Vec::new(),
        };
        for (from, to) in routes {
            let target = Target::parse(&to)?;
            if from.contains('{') {
                alias.patterns.push((segments(&from), target));
            } else {
                alias.exact.insert(from.into(), target);
            }
        }
        Ok(alias)
    }

    /// Rewrites path and query if a route matches.
    pub(super) fn rewrite(&self, head: &mut Parts) {
        let Some((target, variables)) = self.find(head.uri.path()) else {
            return;
        };
        let own_query = head.uri.query().map(Into::into);
        let queries = [
            own_query,
            target.query.as_deref().map(Into::into),
            variables,
        ];
        let query: Vec<String> = queries
            .into_iter()
            .flatten()
            .filter(|q: &String| !q.is_empty())
            .collect();
        let text = match query.as_slice() {
            [] => target.path.to_string(),
            some => format!("{}?{}", target.path, some.join("&")),
        };
        // Both halves were valid before: the target when it was compiled, the query in its request.
        let Ok(path_and_query) = PathAndQuery::try_from(text) else {
            return;
        };
        let mut uri = std::mem::take(&mut head.uri).into_parts();
        uri.path_and_query = Some(path_and_query);
        head.uri = Uri::from_parts(uri).unwrap_or_default();
    }

    fn find(&self, path: &str) -> Option<(&Target, Option<String>)> {
        if let Some(target) = self.exact.get(path) {
            return Some((target, None));
        }
        let given: Vec<&str> = path.split('/').collect();
        self.patterns
            .iter()
            .find_map(|(pattern, target)| Some((target, Some(matched(pattern, &given)?))))
    }
}

// === impl Target ===

impl Target {
    fn parse(text: &str) -> Result<Self, HandlerError> {
        let parsed: PathAndQuery = match text.parse() {
            Ok(parsed) => parsed,
            Err(err) => return Err(invalid(format!("route target {text:?}: {err}"))),
        };
        Ok(Self {
            path: parsed.path().into(),
            query: parsed.query().map(Into::into),
        })
    }
}

fn invalid(reason: String) -> HandlerError {
    HandlerError::Invalid {
        name: "routes",
        reason: reason.into(),
    }
}

fn segments(pattern: &str) -> Vec<Segment> {
    let variable = |s: &str| Some(s.strip_prefix('{')?.strip_suffix('}')?.into());
    let segment =
        |s: &str| variable(s).map_or_else(|| Segment::Literal(s.into()), Segment::Variable);
    pattern.split('/').map(segment).collect()
}

/// What the variables of `pattern` stand for in `given`, as a query; `None` if it does not match.
fn matched(pattern: &[Segment], given: &[&str]) -> Option<String> {
    if pattern.len() != given.len() {
        return None;
    }
    let mut query = Vec::new();
    for (segment, text) in pattern.iter().zip(given) {
        match segment {
            Segment::Literal(literal) if **literal == **text => {}
            Segment::Variable(name) if !text.is_empty() => {
                let value = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
                query.push(format!(
                    "{}={}",
                    utf8_percent_encode(name, QUERY),
                    utf8_percent_encode(&value, QUERY)
                ));
            }
            Segment::Literal(_) | Segment::Variable(_) => return None,
        }
    }
    Some(query.join("&"))
}
