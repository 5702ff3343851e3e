//! The one file that names the YAML parser.
//!
//! Owns the split of a file into documents and the options under which one is
//! decoded, so that manifests mean what they mean to Go's parsers: unquoted
//! scalars may stand where text is expected, `null` is an absent value, old
//! booleans and octals are understood.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde_yaml::Spanned;
use thiserror::Error;

/// Why a document cannot be decoded: the parser's words, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct YamlError(Box<str>);

impl YamlError {
    /// The error of a document that was to be JSON.
    pub(crate) fn of_json(error: &serde_json::Error) -> Self {
        Self(one_line(&error.to_string()))
    }
}

/// The error of a document that no reading fits.
pub(crate) fn unreadable() -> YamlError {
    YamlError("the document cannot be read".into())
}

/// Nodes that aliases may add to a document: people repeat a block or two, a bomb grows without end.
const ALIASED: usize = 50_000;

/// Mark at the start of a line that ends a document.
const SEPARATOR: &str = "---";

/// Returns the documents of a file that hold more than space and comments.
///
/// The rest of a separator line belongs to no document.
pub fn documents(text: &str) -> impl Iterator<Item = &str> {
    numbered_documents(text).map(|(_, document)| document)
}

/// As [`documents`], each with the number of lines before it.
pub(crate) fn numbered_documents(text: &str) -> impl Iterator<Item = (u64, &str)> {
    let mut rest = Some(text.trim_start_matches('\u{feff}'));
    let mut line = 0;
    let parts = std::iter::from_fn(move || {
        let (document, after) = first_part(rest?);
        rest = after;
        let start = line;
        // The separator is a line as well.
        line += line_count(document) + 1;
        Some((start, document))
    });
    parts.filter(|(_, document)| has_content(document))
}

fn line_count(text: &str) -> u64 {
    text.bytes().map(|byte| u64::from(byte == b'\n')).sum()
}

/// Splits at the first separator line.
fn first_part(text: &str) -> (&str, Option<&str>) {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let next = offset + line.len();
        if line.starts_with(SEPARATOR) {
            return (text.get(..offset).unwrap_or_default(), text.get(next..));
        }
        offset = next;
    }
    (text, None)
}

fn has_content(document: &str) -> bool {
    let idle = |line: &str| line.is_empty() || line.starts_with(['#', '%']);
    !document.lines().all(|line| idle(line.trim()))
}

/// Decodes a text that holds one document, like a setting written in YAML or JSON.
///
/// # Errors
/// [`YamlError`] when it is no YAML, of another shape, or empty.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    decode(text)?.ok_or_else(|| YamlError("the document is empty".into()))
}

/// Decodes one document; one without content is `None`.
///
/// # Errors
/// [`YamlError`] when it is no YAML or of another shape.
pub fn decode<T: DeserializeOwned>(document: &str) -> Result<Option<T>, YamlError> {
    let options = serde_yaml::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: ALIASED },
    };
    let decoded = serde_yaml::from_str_with_options::<Option<T>>(document, options);
    decoded.map_err(|error| YamlError(one_line(&error.to_string())))
}

/// Where the entries and rules of a document's `spec.policies` stand.
#[derive(Debug, Default)]
pub(crate) struct PolicyLines {
    /// Line of each entry, and of each of its rules.
    policies: Vec<(u64, Vec<u64>)>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DocumentLines {
    spec: SpecLines,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpecLines {
    policies: Vec<Spanned<EntryLines>>,
    /// The block of a Configuration.
    access_control: BlockLines,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct BlockLines {
    policies: Vec<Spanned<EntryLines>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EntryLines {
    operations: Vec<Spanned<IgnoredAny>>,
}

/// Returns where rules stand; nothing is known of a document of another shape.
pub(crate) fn policy_lines(document: &str) -> PolicyLines {
    let lines = decode::<DocumentLines>(document).ok().flatten();
    let entry = |entry: Spanned<EntryLines>| {
        let operations = entry.value.operations.iter();
        let operations = operations.map(|rule| rule.referenced.line()).collect();
        (entry.referenced.line(), operations)
    };
    let spec = lines.unwrap_or_default().spec;
    let policies = spec.policies.into_iter();
    let block = spec.access_control.policies;
    PolicyLines {
        policies: policies.chain(block).map(entry).collect(),
    }
}

impl PolicyLines {
    /// Returns the line of the rule or entry that a JSON pointer goes into.
    pub(crate) fn line_of(&self, pointer: &str) -> Option<u64> {
        let rest = pointer.strip_prefix("/spec/policies/");
        let rest = rest.or_else(|| pointer.strip_prefix("/spec/accessControl/policies/"));
        let mut parts = rest?.split('/');
        let (line, operations) = self.policies.get(parts.next()?.parse::<usize>().ok()?)?;
        let rule = match (parts.next(), parts.next()) {
            (Some("operations"), Some(index)) => index.parse::<usize>().ok(),
            _ => None,
        };
        rule.and_then(|rule| operations.get(rule))
            .or(Some(line))
            .copied()
    }
}

fn one_line(text: &str) -> Box<str> {
    text.split_whitespace().collect::<Vec<_>>().join(" ").into()
}

/// Decodes `null` as the default; for use with `#[serde(default, deserialize_with)]`.
pub(crate) fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Decodes a list, `null` as an empty one, without its `null` entries.
pub(crate) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(some_list(deserializer)?.unwrap_or_default())
}

/// Decodes a list that may be absent, without its `null` entries.
pub(crate) fn some_list<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let entries: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(entries.map(|entries| entries.into_iter().flatten().collect()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Sample {
        #[serde(default, deserialize_with = "null_default")]
        text: String,
        flag: Option<bool>,
        number: Option<u16>,
        #[serde(default, deserialize_with = "list")]
        list: Vec<String>,
        any: Option<Value>,
    }

    fn sample(document: &str) -> Result<Sample, YamlError> {
        decode(document).map(Option::unwrap)
    }

    #[test]
    fn files_are_split_at_lines_that_start_with_three_dashes() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a: 1", &["a: 1"]),
            ("---\na: 1\n", &["a: 1\n"]),
            ("a: 1\n---\nb: 2\n", &["a: 1\n", "b: 2\n"]),
            ("a: 1\n--- # next\nb: 2", &["a: 1\n", "b: 2"]),
            ("a: 1\n---", &["a: 1\n"]),
            ("# head\n---\n---\n\na: 1", &["\na: 1"]),
            ("%YAML 1.2\n---\na: 1", &["a: 1"]),
            ("a: |\n  x\n  ---\n  y\n", &["a: |\n  x\n  ---\n  y\n"]),
            ("a: 1\r\n---\r\nb: 2\r\n", &["a: 1\r\n", "b: 2\r\n"]),
            ("\u{feff}a: 1", &["a: 1"]),
        ];
        for (text, want) in table {
            assert_eq!(documents(text).collect::<Vec<_>>(), *want, "{text:?}");
        }
    }

    #[test]
    fn unquoted_scalars_are_text_where_text_is_expected() {
        for (yaml, want) in [
            ("text: 5", "5"),
            ("text: 0.50", "0.50"),
            ("text: 1e3", "1e3"),
            ("text: true", "true"),
            ("text: no", "no"),
            ("text: 010", "010"),
            ("text: '5'", "5"),
            ("text:", ""),
            ("text: null", ""),
            ("text: ''", ""),
            ("flag: true", ""),
        ] {
            assert_eq!(sample(yaml).unwrap().text, want, "{yaml}");
        }
    }

    /// House style 10: measured differences this file must own.
    #[test]
    fn old_booleans_and_octals_are_understood() {
        for (yaml, want) in [
            ("yes", true),
            ("on", true),
            ("\"true\"", true),
            ("off", false),
        ] {
            assert_eq!(sample(&format!("flag: {yaml}")).unwrap().flag, Some(want));
        }
        for (yaml, want) in [
            ("NO", json!(false)),
            ("010", json!(8)),
            ("0x10", json!(16)),
            ("1.5", json!(1.5)),
            ("'010'", json!("010")),
            (
                "12345678901234567890",
                json!(12_345_678_901_234_567_890_u64),
            ),
            ("{a: [1, x]}", json!({"a": [1, "x"]})),
        ] {
            assert_eq!(
                sample(&format!("any: {yaml}")).unwrap().any,
                Some(want),
                "{yaml}"
            );
        }
    }

    #[test]
    fn lists_may_be_absent_and_have_holes() {
        assert!(sample("list:").unwrap().list.is_empty());
        assert_eq!(sample("list: [a, null, 5]").unwrap().list, ["a", "5"]);
    }

    #[test]
    fn bad_documents_are_refused_on_one_line() {
        for yaml in [
            "a: [",
            "flag: maybe",
            "list: 5",
            "x: 1\nx: 2\nflag: true\nflag: true",
            "- a",
            "number: 70000",
            "text: [a]",
        ] {
            let error = sample(yaml).unwrap_err().to_string();
            assert!(
                !error.contains('\n') && !error.is_empty(),
                "{yaml}: {error}"
            );
        }
    }

    #[test]
    fn no_content_is_no_value() {
        assert_eq!(decode::<Sample>("").unwrap(), None);
        assert_eq!(decode::<Sample>("# only words\n").unwrap(), None);
        assert_eq!(decode::<Sample>("null").unwrap(), None);
    }

    #[test]
    fn a_setting_is_one_document_with_content() {
        let routes: std::collections::BTreeMap<String, String> =
            from_str(r#"{"/a": "/b", "/c": 5}"#).unwrap();
        assert_eq!((routes["/a"].as_str(), routes["/c"].as_str()), ("/b", "5"));
        assert!(from_str::<Value>("a: 1\n---\nb: 2").is_err());
        let empty = from_str::<Sample>(" ").unwrap_err();
        assert_eq!(empty.to_string(), "the document is empty");
    }

    #[test]
    fn documents_above_64_kib_are_read() {
        let long = "x".repeat(200_000);
        assert_eq!(sample(&format!("text: {long}")).unwrap().text, long);
        let many: String = (0..20_000).map(|n| format!("- item-{n}\n")).collect();
        assert_eq!(
            sample(&format!("list:\n{many}")).unwrap().list.len(),
            20_000
        );
    }

    proptest! {
        #[test]
        fn any_text_is_split_and_decoded_or_refused(text in "\\PC*|([-a:{}\\[\\]&*!|> \n\t'\"]{0,40})") {
            for document in documents(&text) {
                let _no_panic = decode::<Value>(document);
            }
        }

        #[test]
        fn joined_documents_are_split_again(parts in prop::collection::vec("[a-z]{1,5}: [a-z]{1,5}\n", 1..6)) {
            let text = parts.join("---\n");
            prop_assert_eq!(documents(&text).collect::<Vec<_>>(), parts);
        }

        #[test]
        fn no_line_is_lost_but_separators(lines in prop::collection::vec("(---|--|a)[a-z ]{0,3}", 0..12)) {
            let text = lines.join("\n");
            let kept: Vec<&str> = documents(&text).flat_map(str::lines).collect();
            let want: Vec<&str> = text.lines().filter(|line| !line.starts_with("---")).collect();
            prop_assert_eq!(kept, want);
        }
    }
}
