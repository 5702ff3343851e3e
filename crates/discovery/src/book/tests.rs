//! Sessions, answers and counts as tables.

use super::*;
use crate::world::{
    StoredObject,
    tests::{app, object, world},
};
use ironside_proto::discovery::{ObjectError, ObjectStats};

const BOUNDS: Bounds = Bounds {
    sessions: 100,
    of_one_app: 3,
};
const S: fn(u64) -> Duration = Duration::from_secs;

fn indexed(objects: &[StoredObject], before: &Indexed, now: Duration) -> Indexed {
    Indexed::new(world(objects), before, now)
}

fn accepted(snapshot: u64) -> Ack {
    Ack {
        snapshot,
        accepted: true,
        errors: Vec::new(),
    }
}

fn refused(snapshot: u64, uid: &str, code: &str) -> Ack {
    Ack {
        snapshot,
        accepted: false,
        errors: vec![ObjectError {
            uid: uid.to_owned(),
            generation: 1,
            code: code.to_owned(),
            message: "a\u{1b}[31mb".to_owned(),
        }],
    }
}

/// `connected/applied/rejected/outdated` of an object.
fn counts(book: &Book, world: &Indexed, uid: &str, now: Duration) -> [usize; 4] {
    let status = book.status(world, now);
    let status = status.iter().find(|status| &*status.uid == uid).unwrap();
    [
        status.connected,
        status.applied,
        status.rejected,
        status.outdated,
    ]
}

/// Security 4.8: unanswered for five seconds is outdated, from the later of change and connection.
#[test]
fn a_sidecar_is_pending_then_applied_or_outdated() {
    let first = indexed(&[object("a", "u", 1, &[])], &Indexed::default(), S(0));
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "pod", S(100)).unwrap();
    assert_eq!(
        counts(&book, &first, "u", S(105)),
        [1, 0, 0, 0],
        "just connected"
    );
    assert_eq!(counts(&book, &first, "u", S(106)), [1, 0, 0, 1]);
    book.sent(seat, 1, &first.view(&app("a", "x")));
    book.acked(seat, accepted(1));
    assert_eq!(counts(&book, &first, "u", S(106)), [1, 1, 0, 0]);

    let second = indexed(&[object("a", "u", 2, &[])], &first, S(200));
    assert_eq!(
        counts(&book, &second, "u", S(203)),
        [1, 0, 0, 0],
        "just changed"
    );
    assert_eq!(counts(&book, &second, "u", S(206)), [1, 0, 0, 1]);
    let status = &book.status(&second, S(206))[0];
    assert_eq!(*status.outdated_instances, ["pod".into()]);
    book.sent(seat, 2, &second.view(&app("a", "x")));
    book.acked(seat, accepted(2));
    assert_eq!(counts(&book, &second, "u", S(206)), [1, 1, 0, 0]);
    book.leave(seat);
    assert_eq!(counts(&book, &second, "u", S(206)), [0, 0, 0, 0]);
}

/// Fact K203: one object is refused, the others run.
#[test]
fn a_refusal_of_one_object_leaves_the_others() {
    let objects = [object("a", "bad", 1, &[]), object("a", "good", 1, &[])];
    let world = indexed(&objects, &Indexed::default(), S(0));
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "pod", S(0)).unwrap();
    book.sent(seat, 1, &world.view(&app("a", "x")));
    book.acked(seat, refused(1, "bad", "InvalidPattern"));
    assert_eq!(counts(&book, &world, "bad", S(1)), [1, 0, 1, 0]);
    assert_eq!(counts(&book, &world, "good", S(1)), [1, 1, 0, 0]);
    let status = book.status(&world, S(1));
    let bad = status.iter().find(|status| &*status.uid == "bad").unwrap();
    let want = Rejection {
        instance: "pod".into(),
        code: "InvalidPattern".into(),
        message: "a[31mb".into(),
    };
    assert_eq!(bad.rejections, [want], "fit to be shown");
    let totals = Totals {
        connected: 1,
        rejected: 1,
        ..Totals::default()
    };
    assert_eq!(book.totals(&world, S(1)), totals);
}

/// Facts K208, K212: refused as a whole, and what ran before still does.
#[test]
fn a_refusal_as_a_whole_keeps_what_ran() {
    let first = indexed(&[object("a", "old", 1, &[])], &Indexed::default(), S(0));
    let both = [object("a", "new", 1, &[]), object("a", "old", 1, &[])];
    let second = indexed(&both, &first, S(50));
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "pod", S(0)).unwrap();
    book.sent(seat, 1, &first.view(&app("a", "x")));
    book.acked(seat, accepted(1));
    book.sent(seat, 2, &second.view(&app("a", "x")));
    book.acked(seat, refused(2, "", crate::TOO_LARGE));
    assert_eq!(counts(&book, &second, "old", S(51)), [1, 1, 0, 0]);
    assert_eq!(counts(&book, &second, "new", S(51)), [1, 0, 1, 0]);
}

#[test]
fn answers_to_what_was_never_asked_mean_nothing() {
    let world = indexed(&[object("a", "u", 1, &[])], &Indexed::default(), S(0));
    let view = world.view(&app("a", "x"));
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "pod", S(0)).unwrap();
    book.acked(seat, accepted(1));
    book.acked(seat + 1, accepted(1));
    for number in 1..=20 {
        book.sent(seat, number, &view);
    }
    book.acked(seat, accepted(3));
    assert_eq!(
        counts(&book, &world, "u", S(1)),
        [1, 0, 0, 0],
        "given up long ago"
    );
    book.acked(seat, accepted(20));
    book.acked(seat, refused(19, "u", "late"));
    assert_eq!(counts(&book, &world, "u", S(1)), [1, 1, 0, 0]);
}

/// Fact K207: a second instance of an identity is one more sidecar, and a crowd crowds out itself only.
#[test]
fn instances_are_counted_and_bounded() {
    let world = indexed(&[object("a", "u", 1, &[])], &Indexed::default(), S(0));
    let mut book = Book::new(BOUNDS);
    for _ in 0..3 {
        book.enter(app("a", "x"), "pod", S(0)).unwrap();
    }
    assert_eq!(book.enter(app("a", "x"), "pod", S(0)), Err(Full));
    let other = book.enter(app("a", "y"), "pod", S(0)).unwrap();
    assert_eq!(counts(&book, &world, "u", S(0)), [4, 0, 0, 0]);
    let apps = book.status(&world, S(0)).remove(0).apps;
    assert_eq!(
        apps.iter().map(AppId::as_str).collect::<Vec<_>>(),
        ["x", "y"]
    );
    book.leave(other);
    let mut small = Book::new(Bounds {
        sessions: 1,
        ..BOUNDS
    });
    small.enter(app("a", "x"), "pod", S(0)).unwrap();
    assert_eq!(small.enter(app("b", "y"), "pod", S(0)), Err(Full));
}

#[test]
fn counts_are_of_the_last_hour_and_of_objects_that_were_sent() {
    let both = [object("a", "u", 1, &[]), object("b", "foreign", 1, &[])];
    let world = indexed(&both, &Indexed::default(), S(0));
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "pod", S(0)).unwrap();
    book.sent(seat, 1, &world.view(&app("a", "x")));
    book.acked(seat, accepted(1));
    let stats = |denied, would_deny| {
        let counts = ObjectStats { denied, would_deny };
        let uids = ["u", "foreign", "unknown"].map(|uid| (uid.to_owned(), counts));
        Stats {
            objects: uids.into(),
        }
    };
    let hour = |book: &Book, uid: &str, now| {
        let status = book.status(&world, now);
        let counts = status
            .iter()
            .find(|status| &*status.uid == uid)
            .unwrap()
            .last_hour;
        (counts.denied, counts.would_deny)
    };
    for (at, denied) in [(0, 1), (60, 10), (3599, 100), (3600, 1000)] {
        book.counted(seat, stats(denied, 1), S(at));
    }
    for (at, want) in [
        (3600, (1110, 3)),
        (3659, (1110, 3)),
        (3660, (1100, 2)),
        (7139, (1100, 2)),
        (7140, (1000, 1)),
        (7200, (0, 0)),
        (90_000, (0, 0)),
    ] {
        assert_eq!(hour(&book, "u", S(at)), want, "{at}");
    }
    assert_eq!(hour(&book, "foreign", S(3600)), (0, 0));
    book.counted(seat, stats(u64::MAX, 0), S(7200));
    book.counted(seat, stats(u64::MAX, 0), S(7200));
    assert_eq!(hour(&book, "u", S(7200)), (u64::MAX, 0));
    book.forget(&Indexed::default());
    assert_eq!(hour(&book, "u", S(7200)), (0, 0));
}

/// Who left leaves nothing behind, and whoever comes counts for the own app only.
#[test]
fn places_are_those_of_the_sessions() {
    let world = indexed(
        &[object("a", "all", 1, &[]), object("a", "u", 1, &["x"])],
        &Indexed::default(),
        S(0),
    );
    let mut book = Book::new(BOUNDS);
    let mut seats = Vec::new();
    for (namespace, name) in [("a", "x"), ("a", "y"), ("b", "x"), ("a", "x")] {
        seats.push(book.enter(app(namespace, name), "pod", S(0)).unwrap());
    }
    let connected = |book: &Book| {
        let status = book.status(&world, S(1));
        let status = status.iter().map(|one| (one.connected, one.apps.len()));
        status.collect::<Vec<_>>()
    };
    assert_eq!(connected(&book), [(3, 2), (2, 1)]);
    book.leave(seats[0]);
    book.leave(seats[0]);
    assert_eq!(connected(&book), [(2, 2), (1, 1)]);
    for seat in seats {
        book.leave(seat);
    }
    assert_eq!(connected(&book), [(0, 0), (0, 0)]);
    assert!(book.places.is_empty());
}

/// A listener is told of each change once, and a new one of everything.
#[test]
fn a_cursor_is_shown_what_is_new() {
    let world = indexed(&[object("a", "u", 1, &[])], &Indexed::default(), S(0));
    let mut book = Book::new(BOUNDS);
    let mut cursor = Cursor::default();
    assert!(book.news(&mut cursor).is_empty());
    let one = book.enter(app("a", "x"), "one", S(0)).unwrap();
    let two = book.enter(app("a", "x"), "two", S(0)).unwrap();
    let told = |news: &News| -> Vec<(u64, usize)> {
        let sidecars = news.sidecars.iter();
        sidecars
            .map(|(seat, sidecar)| (*seat, sidecar.objects.len()))
            .collect()
    };
    assert_eq!(told(&book.news(&mut cursor)), [(one, 0), (two, 0)]);
    assert!(book.news(&mut cursor).is_empty());
    for seat in [one, two] {
        book.sent(seat, 1, &world.view(&app("a", "x")));
    }
    book.acked(one, accepted(1));
    book.acked(two, refused(1, "u", "InvalidPattern"));
    let revision = book.revision();
    let news = book.news(&mut cursor);
    assert_eq!(told(&news), [(one, 1), (two, 1)]);
    let refusal = news.sidecars[1].1.objects[0].refusal.clone().unwrap();
    assert_eq!(
        (&*refusal.code, &*refusal.message),
        ("InvalidPattern", "a[31mb")
    );
    // The same answer to the next snapshot is no news.
    book.sent(one, 2, &world.view(&app("a", "x")));
    book.acked(one, accepted(2));
    assert_eq!(book.revision(), revision);
    book.leave(one);
    let three = book.enter(app("a", "x"), "three", S(0)).unwrap();
    book.leave(three);
    assert_eq!(
        book.news(&mut cursor),
        News {
            sidecars: Vec::new(),
            gone: vec![one]
        },
        "who came and went between two looks is not spoken of"
    );
    assert_eq!(told(&book.news(&mut Cursor::default())), [(two, 1)]);
}

#[test]
fn the_last_hour_is_told_of_objects_that_decided() {
    let world = indexed(
        &[object("a", "u", 1, &[]), object("a", "v", 1, &[])],
        &Indexed::default(),
        S(0),
    );
    let mut book = Book::new(BOUNDS);
    let seat = book.enter(app("a", "x"), "one", S(0)).unwrap();
    book.sent(seat, 1, &world.view(&app("a", "x")));
    book.acked(seat, accepted(1));
    let counts = ObjectStats {
        denied: 3,
        would_deny: 0,
    };
    let stats = Stats {
        objects: [("u".to_owned(), counts)].into(),
    };
    book.counted(seat, stats, S(60));
    let sums = book.last_hour(S(90));
    assert_eq!((sums.len(), sums["u"].denied), (1, 3));
    assert!(book.last_hour(S(60 * 62)).is_empty());
}
