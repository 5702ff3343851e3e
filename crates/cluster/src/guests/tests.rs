//! What one address and all of them may have.

use super::*;

const LIMITS: Limits = Limits {
    connections: 3,
    connections_each: 2,
    bytes: 100,
    bytes_each: 60,
    bytes_least: 5,
};

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

#[test]
fn one_address_cannot_take_all_places() {
    let guests = Guests::new(LIMITS);
    let first = guests.connect(address(1)).unwrap();
    let second = guests.connect(address(1)).unwrap();
    assert!(guests.connect(address(1)).is_none());
    let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 0x0001]);
    assert!(guests.connect(mapped).is_none(), "the same, as IPv6 has it");
    let other = guests.connect(address(2)).unwrap();
    assert!(guests.connect(address(2)).is_none(), "there are three");
    drop((first, other));
    assert!(guests.connect(address(1)).is_some());
    drop(second);
    assert!(guests.0.book().each.is_empty());
    assert!(guests.0.book().seats.is_empty());
    assert_eq!(guests.0.book().all.connections, 0);
}

/// Whether a guest was told to go.
fn is_lost(guest: &Guest) -> bool {
    *guest.seat.is_lost.borrow()
}

/// Many addresses together do not keep another one out: the one with the most makes room.
#[tokio::test(start_paused = true)]
async fn many_addresses_cannot_take_all_places() {
    let limits = Limits {
        connections: 8,
        connections_each: 4,
        ..LIMITS
    };
    let guests = Guests::new(limits);
    let mut crowd: Vec<_> = [1, 1, 1, 1, 2, 2, 2, 2]
        .map(|last| guests.connect(address(last)).unwrap())
        .into();
    // The second one was asked last, and something is under way on the third.
    drop(crowd[1].visit());
    let visit = crowd[2].visit();
    drop([4, 5, 6, 7].map(|at| crowd[at].visit()));
    let ours = guests.connect(address(9)).unwrap();
    assert!(is_lost(&crowd[0]), "nothing was ever asked on it");
    crowd[0].lost().await;
    crowd[0].over().await;
    let further = guests.connect(address(9)).unwrap();
    assert!(is_lost(&crowd[4]), "now the second address has the most");
    assert!(guests.connect(address(9)).is_none(), "two are leaving");
    drop(crowd.remove(4));
    drop(crowd.remove(0));
    assert_eq!(guests.0.book().leaving, 0);
    // Three, three and two: who has two does not get a third.
    assert!(guests.connect(address(9)).is_none());
    // Who has none gets one, and it is not the connection with a request under way.
    let third = guests.connect(address(3)).unwrap();
    assert_eq!(crowd.iter().filter(|one| is_lost(one)).count(), 1);
    assert!(!is_lost(&crowd[1]), "a request is under way");
    assert!(
        ![&ours, &further, &third]
            .into_iter()
            .any(|one| is_lost(one))
    );
    assert_eq!(guests.0.book().all.connections, 8);
    drop((visit, crowd, ours, further, third));
    let book = guests.0.book();
    assert_eq!((book.all.connections, book.leaving), (0, 0));
    assert!(book.each.is_empty() && book.seats.is_empty());
}

/// Where everybody has one, a newcomer gets the place of who has been silent for longest.
#[test]
fn a_newcomer_is_always_let_in() {
    let guests = Guests::new(LIMITS);
    let crowd = [1, 2, 3].map(|last| guests.connect(address(last)).unwrap());
    drop(crowd[0].visit());
    let newcomer = guests.connect(address(4)).unwrap();
    assert!(is_lost(&crowd[1]) && !is_lost(&crowd[0]) && !is_lost(&crowd[2]));
    assert!(guests.connect(address(5)).is_none(), "one is leaving");
    drop(crowd);
    drop(newcomer);
    assert_eq!(guests.0.book().leaving, 0);
}

#[test]
fn bytes_are_bounded_and_come_back() {
    let guests = Guests::new(LIMITS);
    let first = guests.connect(address(1)).unwrap();
    let second = guests.connect(address(2)).unwrap();
    let mut large = first.visit();
    assert!(large.hold(40) && large.hold(20));
    assert!(!large.hold(1), "of one address");
    assert!(!first.visit().hold(1));
    assert!(!large.hold(usize::MAX));
    // Beyond the least of each, 80 are for all: three connections and one that leaves have 5 each.
    let mut other = second.visit();
    assert!(other.hold(30));
    assert!(!other.hold(1), "of all");
    let third = guests.connect(address(3)).unwrap();
    let mut little = third.visit();
    assert!(little.hold(5), "everybody has that much");
    assert!(!little.hold(1));
    drop((little, third));
    drop(large);
    assert!(other.hold(30));
    drop((other, first, second));
    let book = guests.0.book();
    assert!(book.each.is_empty());
    assert_eq!((book.all.bytes, book.shared), (0, 0));
}

/// However many come, no more is held than the one number says.
#[test]
fn all_together_hold_no_more_than_the_number_of_all() {
    let guests = Guests::new(LIMITS);
    let mut visits = Vec::new();
    // The fourth one takes the place of the first, which goes on with its request.
    for last in 1..=4 {
        let mut visit = guests.connect(address(last)).unwrap().visit();
        while visit.hold(1) {}
        visits.push(visit);
    }
    assert!(guests.connect(address(5)).is_none());
    assert_eq!(guests.0.book().all.bytes, LIMITS.bytes);
    drop(visits);
    let book = guests.0.book();
    assert_eq!((book.all.bytes, book.shared), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_is_let_go() {
    let guests = Guests::new(LIMITS);
    let silent = guests.connect(address(1)).unwrap();
    silent.over().await;
    let busy = guests.connect(address(1)).unwrap();
    let visit = busy.visit();
    let long = Duration::from_secs(600);
    let waited = tokio::time::timeout(long, busy.over()).await;
    assert!(waited.is_err(), "a request is under way");
    drop(visit);
    let waited = tokio::time::timeout(long, busy.over()).await;
    assert!(waited.is_ok());
}
