//! Two endpoints that take each other for the group, over loopback.

use std::net::IpAddr;

use ironside_identity::AppId;
use ironside_resolution::name::{Names, service};

use super::super::wire::question;
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

fn app() -> AppId {
    AppId::parse("appB").expect("valid")
}

fn duties(announced: Option<Announced>) -> Duties {
    Duties {
        announced: announced.map(Arc::new),
        search: Arc::new(Search::new(Clock::system())),
        clock: Clock::system(),
    }
}

fn announced() -> Announced {
    let names = Names::new(&app(), "rig", 4711).expect("fits");
    Announced::new(app(), &names, IpAddr::from([127, 0, 0, 1]), 50002).expect("fits")
}

fn link() -> Link {
    Link {
        name: "test".to_owned(),
        index: 1,
        subnets: Vec::new(),
    }
}

async fn socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("binds")
}

fn endpoint(socket: UdpSocket, group: SocketAddr) -> Endpoint {
    Endpoint {
        socket,
        group,
        link: link(),
        own: vec![IpAddr::from([10, 0, 0, 5])],
    }
}

async fn pair() -> (Endpoint, Endpoint) {
    let (one, two) = (socket().await, socket().await);
    let one_address = one.local_addr().expect("bound");
    let two_address = two.local_addr().expect("bound");
    (endpoint(one, two_address), endpoint(two, one_address))
}

async fn until(search: &Search, addresses: usize) {
    let reached = async {
        while search
            .known()
            .iter()
            .map(|(_, list)| list.len())
            .sum::<usize>()
            != addresses
        {
            search.changed().await;
        }
    };
    tokio::time::timeout(DEADLINE, reached)
        .await
        .expect("in time");
}

#[tokio::test]
async fn announcement_and_goodbye_reach_those_who_look() {
    let (speaker, hearer) = pair().await;
    let (speaks, hears) = (duties(Some(announced())), duties(None));
    hears.search.keep(&app());
    let (stop, end) = (CancellationToken::new(), CancellationToken::new());
    let script = async {
        until(&hears.search, 1).await;
        stop.cancel();
        until(&hears.search, 0).await;
        end.cancel();
    };
    tokio::join!(
        speaker.serve(&speaks, &stop),
        hearer.serve(&hears, &end),
        script
    );
}

#[tokio::test]
async fn question_is_answered_to_the_group() {
    let (speaker, hearer) = pair().await;
    // Announces nothing by itself: only the answer can make it known.
    let (speaks, hears) = (duties(Some(announced())), duties(None));
    hears.search.ask(&app());
    let stop = CancellationToken::new();
    let script = async {
        let question = question(&service(&app()).expect("fits")).expect("fits");
        hearer.shout(&question).await;
        until(&hears.search, 1).await;
    };
    tokio::select! {
        () = speaker.listen(&speaks) => panic!("ended"),
        () = hearer.serve(&hears, &stop) => panic!("ended"),
        () = script => {}
    }
}

#[tokio::test]
async fn plain_resolver_is_answered_directly_and_damage_is_survived() {
    let (speaker, _) = pair().await;
    let address = speaker.socket.local_addr().expect("bound");
    let speaks = duties(Some(announced()));
    let asker = socket().await;
    let script = async {
        for garbage in [&[][..], &[0; 12][..], &[0xff; 600][..]] {
            asker.send_to(garbage, address).await.expect("sends");
        }
        let question = question(&service(&app()).expect("fits")).expect("fits");
        asker.send_to(&question, address).await.expect("sends");
        let mut buffer = vec![0; MAX_PACKET];
        let (length, from) = asker.recv_from(&mut buffer).await.expect("receives");
        assert_eq!(from, address);
        let Some(Incoming::Answer(seen)) = read(&buffer[..length], Sender::ThisMachine) else {
            panic!("no answer");
        };
        assert_eq!((seen[0].port, seen[0].gone), (50002, false));
    };
    tokio::select! {
        () = speaker.listen(&speaks) => panic!("ended"),
        done = tokio::time::timeout(DEADLINE, script) => done.expect("in time"),
    }
}

#[tokio::test]
async fn packets_from_beyond_the_link_are_not_heard() {
    let (endpoint, _) = pair().await;
    for (address, expected) in [
        ("127.0.0.1", Some(Sender::ThisMachine)),
        ("10.0.0.5", Some(Sender::ThisMachine)),
        ("169.254.7.7", Some(Sender::Other)),
        ("10.0.0.6", None),
        ("8.8.8.8", None),
    ] {
        let address = address.parse().expect("address");
        assert_eq!(endpoint.sender(address), expected, "{address}");
    }
}

#[test]
fn answers_are_bounded_per_second() {
    let mut budget = Budget::default();
    let at = |millis| Tick::at(Duration::from_millis(millis));
    let passed = (0..200).filter(|_| budget.allows(at(5_000))).count();
    assert_eq!(passed, 50);
    assert!(!budget.allows(at(5_999)));
    assert!(budget.allows(at(6_000)));
}
