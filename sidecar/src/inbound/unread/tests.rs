//! Time and room of unary calls, with a clock that does not wait.

use futures_util::FutureExt as _;
use tonic::Code;

use super::*;
use crate::inbound::in_flight::tests::body;

/// The prefix of a message of so many bytes.
fn prefix(size: u32) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(size.to_be_bytes());
    bytes.into()
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_given_up() {
    let unread = Unread::new(1024);
    let (feed, body) = body();
    feed.try_send(prefix(9)).unwrap();
    let status = unread.read(body, 1024).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert_eq!(unread.room.available_permits(), unread.total);
}

/// Twice the time of a silent peer, and no byte too few for that.
#[tokio::test(start_paused = true)]
async fn a_large_message_over_a_slow_link_arrives() {
    let unread = Unread::new(1024);
    let (feed, body) = body();
    let size = 60 * RATE;
    let sending = async {
        feed.send(prefix(size)).await.unwrap();
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(1010)).await;
            feed.send(vec![7; RATE as usize].into()).await.unwrap();
        }
        drop(feed);
    };
    let (_, read) = tokio::join!(sending, unread.read(body, size as usize));
    assert_eq!(read.unwrap().0.len(), size as usize);
}

#[tokio::test]
async fn calls_that_are_not_decided_share_the_room() {
    let unread = Unread::of(1000);
    let (slow_feed, slow) = body();
    slow_feed.try_send(prefix(800)).unwrap();
    slow_feed.try_send(vec![1; 700].into()).unwrap();
    let mut first = Box::pin(unread.read(slow, 1000));
    assert!(first.as_mut().now_or_never().is_none());

    let message = |size: u32| {
        let whole = [&prefix(size)[..], &vec![2; size as usize]].concat();
        crate::body::full(whole)
    };
    let status = unread.read(message(200), 1000).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let (small, room) = unread.read(message(10), 1000).await.unwrap();
    assert_eq!(small.len(), 10);
    drop(room);
    drop(first);
    let (large, room) = unread.read(message(900), 1000).await.unwrap();
    assert_eq!(large.len(), 900);
    assert!(unread.room.available_permits() < 100, "until it is decided");
    drop(room);
    assert_eq!(unread.room.available_permits(), 1000);
}

/// Single bytes cost more than they weigh.
#[tokio::test]
async fn tiny_frames_are_counted_as_what_they_take() {
    let unread = Unread::of(1000);
    let (feed, body) = body();
    feed.try_send(prefix(500)).unwrap();
    let sending = async {
        for _ in 0..100 {
            if feed.send(Bytes::from_static(b"x")).await.is_err() {
                return;
            }
        }
        panic!("it takes them all");
    };
    let (_, read) = tokio::join!(sending, unread.read(body, 1000));
    assert_eq!(read.unwrap_err().code(), Code::ResourceExhausted);
}
