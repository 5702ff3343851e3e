//! Rules of the configuration that change label values.
//!
//! A rule names a metric, with or without prefix, and a label; every match of its expression in a value becomes its
//! replacement. Unlike the reference, rules reach the families of gRPC too, and those of one label apply in a fixed
//! order. Refused: the label `app_id` of the own app, which is of all series. Source: resiliency-observability 3.1.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;
use thiserror::Error;

/// Rules of all metrics.
#[derive(Clone, Debug, Default)]
pub struct Rules(HashMap<Box<str>, Vec<Rule>>);

/// Why a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("metric rule {metric:?}, label {label:?}: {cause}")]
pub struct RuleError {
    /// The metric as written.
    pub metric: Box<str>,
    /// The label.
    pub label: Box<str>,
    /// What is wrong with the expression.
    pub cause: Box<str>,
}

/// Rules of one family.
#[derive(Clone, Debug, Default)]
pub(super) struct FamilyRules(Option<Arc<[Rule]>>);

#[derive(Clone, Debug)]
struct Rule {
    label: Box<str>,
    expression: Regex,
    replacement: Box<str>,
}

// === impl Rules ===

impl Rules {
    /// Adds a rule: matches of `expression` in the values of `label` become `replacement`.
    ///
    /// # Errors
    /// [`RuleError`] if the expression is none.
    pub fn add(
        &mut self,
        metric: &str,
        label: &str,
        expression: &str,
        replacement: &str,
    ) -> Result<(), RuleError> {
        let expression = Regex::new(expression).map_err(|error| RuleError {
            metric: metric.into(),
            label: label.into(),
            cause: error.to_string().into(),
        })?;
        let rule = Rule {
            label: label.into(),
            expression,
            replacement: replacement.into(),
        };
        self.0.entry(normal(metric)).or_default().push(rule);
        Ok(())
    }

    /// The rules of a family, named without prefix.
    pub(super) fn of(&self, family: &str) -> FamilyRules {
        FamilyRules(self.0.get(family).map(|rules| rules.as_slice().into()))
    }
}

/// A metric's name as families here are named.
fn normal(metric: &str) -> Box<str> {
    let name = metric.replace(['/', '.'], "_");
    name.strip_prefix("dapr_").unwrap_or(&name).into()
}

// === impl FamilyRules ===

impl FamilyRules {
    /// What a label value becomes.
    pub(super) fn apply<'a>(&self, label: &str, value: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(value);
        for rule in self.0.iter().flat_map(|rules| rules.iter()) {
            if *rule.label != *label {
                continue;
            }
            let changed = rule.expression.replace_all(&text, &*rule.replacement);
            if let Cow::Owned(changed) = changed {
                text = Cow::Owned(changed);
            }
        }
        text
    }

    /// Whether the label may have other values than it is given.
    pub(super) fn changes(&self, label: &str) -> bool {
        let mut rules = self.0.iter().flat_map(|rules| rules.iter());
        rules.any(|rule| *rule.label == *label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(all: &[[&str; 4]]) -> Rules {
        let mut rules = Rules::default();
        for [metric, label, expression, replacement] in all {
            rules.add(metric, label, expression, replacement).unwrap();
        }
        rules
    }

    /// M-21; resiliency-observability 3.1.
    #[test]
    fn every_match_becomes_the_replacement() {
        for metric in [
            "dapr_http_server_request_count",
            "http_server_request_count",
            "http/server/request_count",
        ] {
            let rules = rules(&[[metric, "path", "/v1.0/invoke/.+", "/x"]]);
            let family = rules.of("http_server_request_count");
            assert_eq!(family.apply("path", "/v1.0/invoke/b/method/hi"), "/x");
            assert_eq!(family.apply("method", "/v1.0/invoke/b"), "/v1.0/invoke/b");
            assert!(family.changes("path") && !family.changes("method"));
            assert_eq!(rules.of("http_server_latency").apply("path", "/a"), "/a");
        }
        let both = rules(&[["m", "l", "[0-9]+", "n"], ["m", "l", "(a)(b)", "$2$1"]]);
        assert_eq!(both.of("m").apply("l", "1-22-ab"), "n-n-ba");
    }

    #[test]
    fn a_bad_expression_is_named() {
        let mut rules = Rules::default();
        let error = rules.add("m", "path", "(", "x").unwrap_err().to_string();
        assert!(
            error.starts_with("metric rule \"m\", label \"path\": "),
            "{error}"
        );
    }
}
