//! URLs without their user and password, as labels, lines and spans may show them.
//!
//! A client may write the target of an invocation as a URL, in the path of the request too, as it is or
//! percent-encoded. Only what is shown is changed; where a call goes is decided by the text as written.

use std::borrow::Cow;

/// Leaves user and password out of the first URL in a text; a text that holds none is returned as it is.
#[must_use]
pub fn without_user(text: &str) -> Cow<'_, str> {
    if !text.contains('@') && !text.contains("%40") {
        return Cow::Borrowed(text);
    }
    // Of the same length, byte by byte.
    let low = text.to_ascii_lowercase();
    let Some((start, end)) = authority(&low) else {
        return Cow::Borrowed(text);
    };
    let ends = [("@", 1_usize), ("%40", 3)];
    let last = ends.iter().filter_map(|(mark, length)| {
        let at = low.get(start..end)?.rfind(mark)?;
        start.checked_add(at)?.checked_add(*length)
    });
    match last.max() {
        Some(host) => Cow::Owned(
            [text.get(..start), text.get(host..)]
                .into_iter()
                .flatten()
                .collect(),
        ),
        None => Cow::Borrowed(text),
    }
}

/// Where the authority of a URL begins and ends: after a colon and slashes, up to the next slash.
fn authority(low: &str) -> Option<(usize, usize)> {
    let colons = low.char_indices().filter_map(|(at, _)| {
        let rest = low.get(at..)?;
        let rest = rest
            .strip_prefix(':')
            .or_else(|| rest.strip_prefix("%3a"))?;
        let mut after = rest;
        while let Some(more) = after
            .strip_prefix('/')
            .or_else(|| after.strip_prefix("%2f"))
        {
            after = more;
        }
        (after.len() < rest.len()).then_some(after)
    });
    let after = colons.into_iter().next()?;
    let start = low.len().checked_sub(after.len())?;
    let length = after.find(['/', '?']).unwrap_or(after.len());
    Some((start, start.checked_add(length)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn users_and_passwords_are_left_out() {
        for (text, want) in [
            ("http://u:p@h:8080/a?b=c@d", "http://h:8080/a?b=c@d"),
            (
                "/v1.0/invoke/https://u:p@h/method/m@n",
                "/v1.0/invoke/https://h/method/m@n",
            ),
            (
                "/v1.0/invoke/https:/u:p@h/method/m",
                "/v1.0/invoke/https:/h/method/m",
            ),
            (
                "/v1.0/invoke/http:%2F%2Fu%3Ap@h/method/m",
                "/v1.0/invoke/http:%2F%2Fh/method/m",
            ),
            (
                "/v1.0/invoke/http%3a%2f%2fu%3Ap%2F%40h/method/m",
                "/v1.0/invoke/http%3a%2f%2fh/method/m",
            ),
            ("http://a@b@h", "http://h"),
        ] {
            assert_eq!(without_user(text), want, "{text}");
        }
        for same in [
            "b",
            "/v1.0/invoke/b/method/m@n",
            "/v1.0/invoke/b/method/a:b@c",
            "http://h/a@b",
            "é@é",
            "",
        ] {
            assert_eq!(without_user(same), same);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in "\\PC*", user in "[a-z%:]{1,8}") {
            let _shown = without_user(&text);
            let text = format!("https://{user}@host/x");
            prop_assert_eq!(without_user(&text), "https://host/x");
        }
    }
}
