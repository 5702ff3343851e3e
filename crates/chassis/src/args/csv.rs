//! Lists in one word: the first record of comma-separated values.
//!
//! Quoting follows Go's `encoding/csv`, which the flag library of the
//! reference uses: a field may be wrapped in `"`, inside which `""` is one
//! quote and commas are plain; a quote elsewhere is an error.

use thiserror::Error;

/// Why a text is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CsvError {
    /// A quote inside a field that does not start with one.
    #[error("bare \" in non-quoted field")]
    BareQuote,
    /// A quoted field that does not end, or ends before its comma.
    #[error("extraneous or missing \" in quoted field")]
    Quote,
}

/// Splits `text`; an empty text is an empty list.
///
/// # Errors
/// [`CsvError`] for a misplaced quote.
pub fn split_csv(text: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    if text.is_empty() {
        return Ok(fields);
    }
    let mut rest = Some(text);
    while let Some(open) = rest {
        let (field, after) = match open.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => plain_field(open)?,
        };
        fields.push(field);
        rest = after;
    }
    Ok(fields)
}

fn plain_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let (field, after) = match text.split_once(',') {
        Some((field, after)) => (field, Some(after)),
        None => (text, None),
    };
    if field.contains('"') {
        return Err(CsvError::BareQuote);
    }
    Ok((field.to_owned(), after))
}

fn quoted_field(text: &str) -> Result<(String, Option<&str>), CsvError> {
    let (mut field, mut rest) = (String::new(), text);
    loop {
        let (part, after) = rest.split_once('"').ok_or(CsvError::Quote)?;
        field.push_str(part);
        match after.chars().next() {
            None => return Ok((field, None)),
            Some(',') => return Ok((field, after.get(1..))),
            Some('"') => field.push('"'),
            Some(_) => return Err(CsvError::Quote),
        }
        rest = after.get(1..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_split_at_commas() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            ("[::1],127.0.0.1", &["[::1]", "127.0.0.1"]),
            (" a , b ", &[" a ", " b "]),
            ("a,", &["a", ""]),
            (",", &["", ""]),
            ("\"a,b\",c", &["a,b", "c"]),
            ("\"a\"\"b\"", &["a\"b"]),
            ("\"\"", &[""]),
        ];
        for (text, want) in table {
            assert_eq!(split_csv(text).unwrap(), *want, "{text}");
        }
    }

    #[test]
    fn misplaced_quotes_are_refused() {
        assert_eq!(split_csv("a\"b"), Err(CsvError::BareQuote));
        assert_eq!(split_csv("\"a"), Err(CsvError::Quote));
        assert_eq!(split_csv("\"a\"b"), Err(CsvError::Quote));
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(text in "\\PC*") {
            let _no_panic = split_csv(&text);
        }

        #[test]
        fn quoted_lists_are_read_back(fields in prop::collection::vec("[a-z\", ]{0,8}", 1..5)) {
            let quote = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let text = fields.iter().map(quote).collect::<Vec<_>>().join(",");
            prop_assert_eq!(split_csv(&text), Ok(fields));
        }
    }
}
