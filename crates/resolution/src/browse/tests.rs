//! Scripts of (time, event) and the questions they cause.

use super::*;

fn app(id: &str) -> AppId {
    AppId::parse(id).expect("valid id")
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs the schedule for `until` and returns when questions were sent, in milliseconds.
fn questions(browse: &mut Browse, from: u64, until: u64) -> Vec<u64> {
    (from..=until)
        .step_by(100)
        .filter(|now| !browse.due(millis(*now)).is_empty())
        .collect()
}

#[test]
fn first_caller_browses_and_the_others_join() {
    let mut browse = Browse::new(8);
    assert_eq!(browse.ask(&app("a"), millis(0)), Some(Role::Browser));
    assert_eq!(browse.due(millis(0)), [app("a")]);
    assert_eq!(browse.ask(&app("a"), millis(100)), Some(Role::Joiner));
    assert_eq!(browse.ask(&app("a"), millis(999)), Some(Role::Joiner));
    assert!(browse.due(millis(999)).is_empty());
    assert_eq!(browse.ask(&app("b"), millis(999)), Some(Role::Browser));
    assert_eq!(browse.ask(&app("a"), millis(1000)), Some(Role::Browser));
    assert_eq!(browse.due(millis(1000)).len(), 2);
}

#[test]
fn caller_between_question_and_sending_joins() {
    let mut browse = Browse::new(8);
    assert_eq!(browse.ask(&app("a"), millis(0)), Some(Role::Browser));
    assert_eq!(browse.ask(&app("a"), millis(1)), Some(Role::Joiner));
    assert_eq!(browse.due(millis(2)), [app("a")]);
}

#[test]
fn unanswered_question_is_repeated_with_growing_pauses_until_forgotten() {
    let mut browse = Browse::new(8);
    browse.ask(&app("a"), millis(0));
    assert_eq!(
        questions(&mut browse, 0, 600_000),
        [0, 4_000, 12_000, 28_000]
    );
    assert!(!browse.wants(&app("a")));
    assert_eq!(browse.next(), None);
}

#[test]
fn known_app_is_refreshed_while_somebody_uses_it() {
    let mut browse = Browse::new(8);
    browse.ask(&app("a"), millis(0));
    assert_eq!(questions(&mut browse, 0, 100), [0]);
    browse.found(&app("a"), millis(200));
    // Once more right after the first hit, but never within a second of the question before.
    assert_eq!(questions(&mut browse, 200, 30_900), [1_000]);
    browse.found(&app("a"), millis(31_000));
    assert_eq!(questions(&mut browse, 31_000, 90_000), [31_000, 61_000]);
    browse.keep(&app("a"), millis(590_000));
    assert!(questions(&mut browse, 91_000, 1_200_000).len() >= 30);
    assert!(!browse.wants(&app("a")));
}

#[test]
fn app_known_from_elsewhere_is_looked_for_in_the_background() {
    let mut browse = Browse::new(8);
    browse.keep(&app("a"), millis(500));
    assert!(browse.wants(&app("a")));
    assert_eq!(browse.due(millis(500)), [app("a")]);
    browse.found(&app("b"), millis(500));
    assert!(!browse.wants(&app("b")));
}

#[test]
fn lost_app_is_sought_again_at_once() {
    let mut browse = Browse::new(8);
    browse.ask(&app("a"), millis(0));
    browse.due(millis(0));
    browse.found(&app("a"), millis(0));
    browse.due(millis(1_000));
    browse.lost_unless(|app| app.as_str() == "a", millis(4_000));
    browse.lost_unless(|_| false, millis(5_000));
    assert_eq!(questions(&mut browse, 5_000, 10_000), [5_000, 9_000]);
}

#[test]
fn number_of_apps_is_bounded() {
    let mut browse = Browse::new(2);
    browse.ask(&app("a"), millis(0));
    browse.ask(&app("b"), millis(0));
    assert_eq!(browse.ask(&app("c"), millis(0)), None);
    browse.keep(&app("c"), millis(0));
    assert!(!browse.wants(&app("c")));
    assert_eq!(browse.ask(&app("a"), millis(5_000)), Some(Role::Browser));
    assert_eq!(browse.ask(&app("c"), millis(60_000)), Some(Role::Browser));
}
