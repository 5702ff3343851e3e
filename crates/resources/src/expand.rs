//! `$VAR` and `${VAR}` in a text, as configuration files use them.
//!
//! The rules are those of Go's `os.Expand`: a dollar before anything but a
//! name stays, `${}` and an unclosed `${` vanish, there is no escape. The
//! environment comes in as a closure. Source: process-interface 6.1.

/// Replaces every variable in `text` by what `lookup` returns; nothing for an unset one.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        rest = match reference(after) {
            Reference::Name(name, after) => {
                expanded.push_str(&lookup(name).unwrap_or_default());
                after
            }
            Reference::Eaten(after) => after,
            Reference::Dollar => {
                expanded.push('$');
                after
            }
        };
    }
    expanded.push_str(rest);
    expanded
}

/// What a dollar sign introduces, and the text after it.
enum Reference<'a> {
    Name(&'a str, &'a str),
    Eaten(&'a str),
    Dollar,
}

fn reference(after: &str) -> Reference<'_> {
    if let Some(braced) = after.strip_prefix('{') {
        return match braced.split_once('}') {
            Some(("", rest)) => Reference::Eaten(rest),
            Some((name, rest)) => Reference::Name(name, rest),
            None => Reference::Eaten(braced),
        };
    }
    let end = match after.as_bytes().first() {
        Some(first) if is_special(*first) => 1,
        Some(_) | None => after
            .find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
            .unwrap_or(after.len()),
    };
    match after.split_at(end) {
        ("", _) => Reference::Dollar,
        (name, rest) => Reference::Name(name, rest),
    }
}

/// One-character names of the shell, which no environment holds.
fn is_special(byte: u8) -> bool {
    byte.is_ascii_digit() || b"*#$@!?-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "APP_ID" => Some("web".into()),
            "A" => Some("a".into()),
            "odd name" => Some("odd".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_as_go_replaces_them() {
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("$APP_ID", "web"),
            ("${APP_ID}", "web"),
            ("x-${APP_ID}-y", "x-web-y"),
            ("$APP_ID.x $A/$A", "web.x a/a"),
            ("$APP_IDX", ""),
            ("[$UNSET]", "[]"),
            ("[${UNSET}]", "[]"),
            ("${odd name}", "odd"),
            ("$", "$"),
            ("5$ a", "5$ a"),
            ("$ {A}", "$ {A}"),
            ("[${}]", "[]"),
            ("[${A", "[A"),
            ("$$A", "A"),
            ("$1x", "x"),
            ("ü$Aü", "üaü"),
            ("$ü", "$ü"),
        ];
        for (text, want) in table {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_expanded(text in "\\PC*|[${}A_ ]*") {
            let _no_panic = expand(&text, lookup);
        }

        #[test]
        fn a_text_without_dollars_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, lookup), text);
        }
    }
}
