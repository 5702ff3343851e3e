//! An app that does not answer: how far a request came.

use std::ffi::OsString;

use ironside_chassis::Tasks;
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;
use crate::config::{
    env::Environment,
    flags::Given,
    validate::{Machine, startup},
};

fn config() -> Config {
    let given = Given::parse(["--app-id", "a"].map(OsString::from)).unwrap();
    let machine = Machine {
        address: [127, 0, 0, 1].into(),
        hostname: "h".into(),
        is_root: false,
    };
    startup(&given, &Environment::default(), machine)
        .unwrap()
        .config
}

/// An app that is not there may be elsewhere; one that speaks another protocol does so everywhere.
#[tokio::test]
async fn only_an_app_that_is_not_there_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tasks = Tasks::new();
    tasks.spawn("http-1", async move {
        while let Ok((mut io, _)) = listener.accept().await {
            let _gone = io.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = closed.local_addr().unwrap().port();
    drop(closed);
    for (port, want) in [(port, Reach::Nowhere), (nobody, Reach::Gone)] {
        let target = AppTarget {
            address: "127.0.0.1".into(),
            port,
            protocol: AppProtocol::Grpc,
        };
        let app = GrpcApp::new(&target, &config(), tasks.group("app"), Clock::system());
        let failed = app.send(Request::new(body::empty())).await.unwrap_err();
        assert_eq!(failed.reach, want, "{}", failed.status);
    }
}
