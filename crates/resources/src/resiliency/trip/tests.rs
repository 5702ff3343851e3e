//! The expression language: what parses, how it groups, what is refused and what is remarked on.

use proptest::prelude::*;

use super::*;

fn shape(text: &str) -> String {
    Trip::parse(text).unwrap().expr().to_string()
}

fn refusal(text: &str) -> String {
    Trip::parse(text).unwrap_err().to_string()
}

fn remarks(text: &str) -> Vec<String> {
    let remarks = Trip::parse(text).unwrap().remarks();
    remarks.iter().map(ToString::to_string).collect()
}

#[test]
fn operators_bind_as_in_cel() {
    let table = [
        ("1 + 2 * 3 > 4", "((1) + ((2) * (3))) > (4)"),
        ("1 - 2 - 3 > 0", "(((1) - (2)) - (3)) > (0)"),
        (
            "requests > 1 || requests > 2 && requests > 3",
            "((requests) > (1)) || (((requests) > (2)) && ((requests) > (3)))",
        ),
        ("!(requests > 1)", "!((requests) > (1))"),
        ("!!true", "true"),
        ("!!!true", "!(true)"),
        ("-requests < 0", "(-(requests)) < (0)"),
        ("--5 > 0", "(5) > (0)"),
        ("-9223372036854775808 < 0", "(-9223372036854775808) < (0)"),
        ("0x1F == 31", "(31) == (31)"),
        ("5u == 0x5u", "(5u) == (5u)"),
        (".5 < 1e3", "(0.5) < (1000.0)"),
        ("1.5e-2 < 1.0", "(0.015) < (1.0)"),
        (
            "true ? false : true ? false : true",
            "(true) ? (false) : ((true) ? (false) : (true))",
        ),
        (
            "double(totalFailures) / double(requests) >= 0.5",
            "((double(totalFailures)) / (double(requests))) >= (0.5)",
        ),
        (
            "// half of them\ntotalFailures*2>requests // yes",
            "((totalFailures) * (2)) > (requests)",
        ),
    ];
    for (text, want) in table {
        assert_eq!(shape(text), want, "{text}");
    }
}

///
#[test]
fn other_texts_are_refused_with_a_place() {
    let table = [
        (
            "((",
            "expected a count, a number or `(` at position 2, found the end",
        ),
        (
            "",
            "expected a count, a number or `(` at position 0, found the end",
        ),
        (
            "requests >",
            "expected a count, a number or `(` at position 10, found the end",
        ),
        (
            "requests > 5)",
            "expected an operator or the end at position 12, found \")\"",
        ),
        (
            "requests 5",
            "expected an operator or the end at position 9, found \"5\"",
        ),
        (
            "(requests > 5",
            "expected `)` at position 13, found the end",
        ),
        (
            "true ? 1",
            "expected `:` and what holds otherwise at position 8, found the end",
        ),
        (
            "!-1 > 0",
            "expected a count, a number or `(` at position 1, found \"-\"",
        ),
        (
            "requests > 'a'",
            "'\\'' at position 11 has no meaning: compare counts and numbers, like consecutiveFailures >= 5",
        ),
        (
            "requests = 5",
            "'=' at position 9 has no meaning: compare counts and numbers, like consecutiveFailures >= 5",
        ),
        (
            "size(requests) > 1",
            "function size at position 0 is not offered: there are double, int and uint",
        ),
        (
            "requests in [1]",
            "expected an operator or the end at position 9, found \"in\"",
        ),
        ("if > 1", "if at position 0 is a reserved word"),
        (
            "9223372036854775808 > 1",
            "number 9223372036854775808 at position 0 is too large",
        ),
        ("1e999 > 1.0", "number 1e999 at position 0 is too large"),
        (
            "1 + true > 0",
            "`+` cannot take an int and a bool: convert one of them, like double(requests)",
        ),
        (
            "(totalFailures + 1) * 1.5 > 2.0",
            "`*` cannot take an int and a double: convert one of them, like double(requests)",
        ),
        (
            "1 < 2.0",
            "`<` cannot take an int and a double: convert one of them, like double(requests)",
        ),
        ("!5", "`!` cannot take an int"),
        ("-(5u) > 1", "`-` cannot take a uint"),
        (
            "requests % 1.5 > 0",
            "`%` cannot take any value and a double: convert one of them, like double(requests)",
        ),
        ("1 ? true : false", "`?` cannot take an int"),
        ("double(true) > 0.0", "`double` cannot take a bool"),
    ];
    for (text, want) in table {
        assert_eq!(refusal(text), want, "{text}");
    }
}

#[test]
fn size_is_bounded() {
    let deep = "(".repeat(100) + "1" + &")".repeat(100);
    let wide = vec!["requests > 1"; 200].join(" && ");
    let long = " ".repeat(5000);
    let chain = "true ? true : ".repeat(100) + "true";
    for text in [deep, wide, long, chain] {
        assert_eq!(Trip::parse(&text), Err(TripError::TooLarge(TRIP_BOUNDS)));
    }
    let side_by_side = vec!["(true)"; 80].join(" && ");
    assert!(Trip::parse(&side_by_side).is_ok());
    let signs = "-".repeat(2000) + "1 > 0";
    assert_eq!(shape(&signs), "(1) > (0)");
}

/// it loads; the remark says that it never trips.
#[test]
fn expressions_that_cannot_trip_are_remarked_on() {
    assert_eq!(remarks("consecutiveFailures >= 5"), [""; 0]);
    assert_eq!(remarks("totalFailures > 2 && requests > 5"), [""; 0]);
    assert_eq!(remarks("100 * totalFailures / requests > 50"), [""; 0]);
    assert_eq!(remarks("totalFailures > 2.5"), [""; 0]);
    let table = [
        ("nosuch > 1", "nosuch is no variable"),
        ("requests", "it never trips: its result is a number"),
        (
            "requests * 1.5 > 3.0",
            "it never trips: `*` cannot take an int and a double",
        ),
        (
            "requests && true",
            "it never trips: `&&` cannot take an int and a bool",
        ),
        (
            "totalFailures / requests > 0.5",
            "a quotient of whole numbers is cut",
        ),
    ];
    for (text, want) in table {
        let remarks = remarks(text);
        assert!(
            remarks.len() == 1 && remarks[0].starts_with(want),
            "{text}: {remarks:?}"
        );
    }
}

#[test]
fn the_default_is_what_its_text_says() {
    assert_eq!(Trip::parse(DEFAULT).unwrap(), Trip::default());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let _no_panic = Trip::parse(&text);
    }

    #[test]
    fn near_expressions_are_read_or_refused_and_read_back(
        text in "((requests|totalFailures|nosuch|[0-9]{1,20}u?|0x[0-9a-f]{0,3}|[0-9]?\\.[0-9]e?-?[0-9]?|true|double\\(|int\\(|\\(|\\)|!|-|\\+|\\*|/|%|<=?|>|==|&&|\\|\\||\\?|:) ?){0,14}"
    ) {
        if let Ok(trip) = Trip::parse(&text) {
            let written = trip.expr().to_string();
            // Parentheses nest deeper than what they were written for; only that may be refused.
            match Trip::parse(&written) {
                Ok(again) => prop_assert_eq!(again.expr(), trip.expr()),
                Err(error) => prop_assert_eq!(error, TripError::TooLarge(TRIP_BOUNDS)),
            }
        }
    }
}
