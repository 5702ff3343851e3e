//! Ports and socket files on loopback.

use std::os::unix::net::UnixListener;

use super::*;

const LOOPBACK: &str = "127.0.0.1";

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn address_texts() {
    let table: &[(&str, &[&str])] = &[
        ("", &["[::]:80", "0.0.0.0:80"]),
        ("127.0.0.1", &["127.0.0.1:80"]),
        ("[::1]", &["[::1]:80"]),
        ("::1", &["[::1]:80"]),
        ("0.0.0.0", &["0.0.0.0:80"]),
    ];
    for (text, want) in table {
        let found: Vec<String> = candidates(text, 80)
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, *want, "{text}");
    }
    let local = candidates("localhost", 80).unwrap();
    assert!(local.iter().all(|address| address.ip().is_loopback()));
}

#[tokio::test]
async fn what_can_be_bound_is_and_the_rest_is_named() {
    // A documentation address, which no machine has.
    let addresses = texts(&[LOOPBACK, "192.0.2.77"]);
    let bound = bind(&Binding::new(&addresses, 0)).await.unwrap();
    assert_eq!(bound.local.len(), 1);
    assert_ne!(bound.local[0].port(), 0);
    assert_eq!(bound.refused.len(), 1);
    assert_eq!(bound.refused[0].address, "192.0.2.77:0");
}

#[tokio::test]
async fn nothing_bound_is_an_error() {
    let addresses = texts(&["192.0.2.77"]);
    let error = bind(&Binding::new(&addresses, 0)).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("could not listen on any endpoint: "),
        "{text}"
    );
    assert!(text.contains("192.0.2.77:0"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_port_in_use_is_tried_again_for_ten_seconds() {
    let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let addresses = texts(&[LOOPBACK]);
    let clock = crate::Clock::system();
    let start = clock.monotonic();
    bind(&Binding::new(&addresses, port)).await.unwrap_err();
    assert_eq!(clock.monotonic() - start, PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_port_that_becomes_free_is_taken() {
    let holder = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = holder.local_addr().unwrap().port();
    let addresses = texts(&[LOOPBACK]);
    let binding = Binding::new(&addresses, port);
    let release = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(holder);
    };
    let (bound, ()) = tokio::join!(bind(&binding), release);
    assert_eq!(bound.unwrap().local[0].port(), port);
}

#[tokio::test]
async fn workers_share_the_port_but_not_with_strangers() {
    let addresses = texts(&[LOOPBACK]);
    let two = NonZeroUsize::new(2).unwrap();
    let bound = bind(&Binding::new(&addresses, 0).workers(two))
        .await
        .unwrap();
    let port = bound.local[0].port();
    assert_eq!(bound.workers.len(), 2);
    for worker in &bound.workers {
        assert_eq!(worker.len(), 1);
        assert_eq!(worker[0].local_addr().unwrap().port(), port);
    }
    let again = Binding::new(&addresses, port).workers(two);
    let again = bind(&again.patience(Duration::ZERO)).await;
    assert!(again.is_err(), "a second process must not join");
}

#[test]
fn a_socket_file_lives_as_long_as_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dapr-a-http.socket");
    let socket = UnixSocket::bind(&path).unwrap();
    assert!(path.exists());
    assert!(socket.listener().is_ok());
    let error = UnixSocket::bind(&path).unwrap_err();
    assert_eq!(error.cause.kind(), io::ErrorKind::AddrInUse);
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn a_dead_socket_file_is_replaced_and_others_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.socket");
    // The standard library leaves the file behind.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    drop(UnixSocket::bind(&path).unwrap());
    std::fs::write(&path, "mine").unwrap();
    assert!(UnixSocket::bind(&path).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}
