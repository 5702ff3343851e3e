//! Followers, what waits for them, and what does not.

use super::*;
use crate::index::objects::tests::endpoint;
use futures_util::FutureExt as _;
use ironside_proto::operator::ResourceEventType as Event;
use std::time::SystemTime;

fn shelf() -> (Shelf, ironside_chassis::clock::ManualClock) {
    let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH);
    let shelf = Shelf::new(Kind::HttpEndpoint, clock, Metrics::default());
    (shelf, hand)
}

fn put(shelf: &Shelf, name: &str, url: &str) {
    let object = endpoint(name, &[], url);
    shelf.take(Fact::Is(object.key(), Some(object)));
}

fn remove(shelf: &Shelf, name: &str) {
    shelf.take(Fact::Gone(("shop".into(), name.into())));
}

/// All that waits now, as (event, name, URL).
fn told(follower: &Follower) -> Vec<(Event, String, String)> {
    let mut all = Vec::new();
    while let Some(next) = follower.next().now_or_never() {
        match next {
            Next::Step(_, step, _) => {
                if let Some((event, object)) = step.event(|_| true) {
                    let json: serde_json::Value = serde_json::from_slice(&object.json).unwrap();
                    let url = json["spec"]["baseUrl"].as_str().unwrap().to_owned();
                    all.push((event, object.name.to_string(), url));
                }
            }
            Next::SnapshotEnd => all.push((Event::Unknown, String::new(), String::new())),
            Next::Overrun => panic!("overrun"),
        }
    }
    all
}

fn said(event: Event, name: &str, url: &str) -> (Event, String, String) {
    (event, name.to_owned(), url.to_owned())
}

/// KG-11, KG-12: nothing at first, then what changes.
#[test]
fn a_follower_hears_of_changes_only() {
    let (shelf, _hand) = shelf();
    put(&shelf, "a", "1");
    shelf.take(Fact::Complete);
    let follower = shelf.follow(&"shop".into(), false);
    assert!(told(&follower).is_empty());
    put(&shelf, "b", "1");
    assert_eq!(told(&follower), [said(Event::Created, "b", "1")]);
    put(&shelf, "b", "2");
    assert_eq!(told(&follower), [said(Event::Updated, "b", "2")]);
    remove(&shelf, "b");
    assert_eq!(told(&follower), [said(Event::Deleted, "b", "2")]);
    let stranger = shelf.follow(&"other".into(), true);
    put(&shelf, "c", "1");
    assert_eq!(told(&stranger), [said(Event::Unknown, "", "")]);
}

/// KG-15: an unchanged object on a new list is no news, one that went meanwhile is.
#[test]
fn a_new_list_brings_differences_only() {
    let (shelf, _hand) = shelf();
    put(&shelf, "a", "1");
    put(&shelf, "b", "1");
    shelf.take(Fact::Complete);
    let follower = shelf.follow(&"shop".into(), false);
    shelf.take(Fact::Listing);
    put(&shelf, "a", "1");
    shelf.take(Fact::Complete);
    assert_eq!(told(&follower), [said(Event::Deleted, "b", "1")]);
}

/// KG-20: what waits is one step for each object, and the newest.
#[test]
fn changes_of_one_object_are_joined() {
    let (shelf, _hand) = shelf();
    put(&shelf, "a", "0");
    let follower = shelf.follow(&"shop".into(), false);
    for edit in 1..=1000 {
        put(&shelf, "a", &edit.to_string());
    }
    put(&shelf, "short-lived", "1");
    remove(&shelf, "short-lived");
    assert_eq!(told(&follower), [said(Event::Updated, "a", "1000")]);
}

#[test]
fn a_snapshot_comes_first_and_has_an_end() {
    let (shelf, _hand) = shelf();
    put(&shelf, "a", "1");
    put(&shelf, "b", "1");
    let follower = shelf.follow(&"shop".into(), true);
    put(&shelf, "b", "2");
    put(&shelf, "c", "1");
    let want = [
        said(Event::Created, "a", "1"),
        said(Event::Created, "b", "2"),
        said(Event::Unknown, "", ""),
        said(Event::Created, "c", "1"),
    ];
    assert_eq!(told(&follower), want);
}

/// KG-22: what cannot be told comes again, as what it is by then.
#[tokio::test]
async fn a_deferred_step_comes_again() {
    let (shelf, hand) = shelf();
    let follower = shelf.follow(&"shop".into(), false);
    let defer = |follower: &Follower| {
        let Some(Next::Step(key, step, _)) = follower.next().now_or_never() else {
            panic!("a step");
        };
        follower.defer(key, step, Duration::from_secs(30));
    };
    put(&shelf, "a", "1");
    defer(&follower);
    assert!(told(&follower).is_empty());
    hand.advance(Duration::from_secs(30));
    assert_eq!(told(&follower), [said(Event::Created, "a", "1")]);
    put(&shelf, "b", "1");
    defer(&follower);
    put(&shelf, "b", "2");
    assert_eq!(told(&follower), [said(Event::Created, "b", "2")]);
    put(&shelf, "c", "1");
    defer(&follower);
    remove(&shelf, "c");
    assert!(told(&follower).is_empty(), "the client never knew it");
}

/// KG-24: memory is bounded; who falls too far behind begins anew.
#[test]
fn who_falls_too_far_behind_is_cut_off() {
    let (shelf, _hand) = shelf();
    let follower = shelf.follow(&"shop".into(), false);
    for number in 0..=MAX_WAITING {
        put(&shelf, &format!("e{number}"), "1");
    }
    let next = follower.next().now_or_never();
    assert!(matches!(next, Some(Next::Overrun)));
    assert!(follower.0.lock().steps.is_empty(), "nothing is kept for it");
}

#[test]
fn a_follower_that_went_is_forgotten() {
    let (shelf, _hand) = shelf();
    drop(shelf.follow(&"shop".into(), false));
    put(&shelf, "a", "1");
    assert!(shelf.lock().followers.is_empty());
}
