//! What one address and all of them may have.

use super::*;

const LIMITS: Limits = Limits {
    connections: 3,
    connections_each: 2,
    bytes: 100,
    bytes_each: 60,
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
    assert!(guests.connect(address(3)).is_none(), "there are three");
    drop((first, other));
    assert!(guests.connect(address(1)).is_some());
    drop(second);
    assert!(guests.0.book().each.is_empty());
    assert_eq!(guests.0.book().all.connections, 0);
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
    let mut other = second.visit();
    assert!(other.hold(40));
    assert!(!other.hold(1), "of all");
    drop(large);
    assert!(other.hold(20));
    drop((other, first, second));
    assert!(guests.0.book().each.is_empty());
    assert_eq!(guests.0.book().all.bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn who_asks_nothing_is_let_go() {
    let guests = Guests::new(LIMITS);
    let silent = guests.connect(address(1)).unwrap();
    silent.idle().await;
    let busy = guests.connect(address(1)).unwrap();
    let visit = busy.visit();
    let long = Duration::from_secs(600);
    let waited = tokio::time::timeout(long, busy.idle()).await;
    assert!(waited.is_err(), "a request is under way");
    drop(visit);
    let waited = tokio::time::timeout(long, busy.idle()).await;
    assert!(waited.is_ok());
}
