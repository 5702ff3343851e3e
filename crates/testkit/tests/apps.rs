//! The fakes tell the truth: what one side sent is what the other side recorded.

#![cfg(test)]

use ironside_testkit::{
    grpc::{BareClient, GrpcApp, GrpcClient},
    http::{Answer, Connection, End, Framing, Gate, HttpApp, Request, send},
};

#[tokio::test]
async fn names_order_and_chunks_survive() {
    let app = HttpApp::start(|_| {
        Answer::status(201)
            .header("X-b", "1")
            .header("x-A", "2")
            .chunked()
            .chunk("ab")
            .chunk("cde")
            .last_chunk()
    })
    .await
    .unwrap();
    let request = Request::new("POST", "/p?q")
        .header("x-One", "1")
        .header("X-one", "2")
        .chunked(["hel", "lo"]);
    let reply = send(app.port(), &request).await.unwrap();
    assert_eq!((reply.status(), reply.reason()), (201, "X"));
    assert_eq!(reply.head.headers[0], ("X-b".to_owned(), "1".to_owned()));
    assert_eq!(
        (reply.pieces, reply.body, reply.end),
        (vec![2, 3], b"abcde".to_vec(), End::Whole)
    );
    let seen = app.take().remove(0);
    assert_eq!(seen.head.all("X-ONE"), ["1", "2"]);
    assert_eq!(
        (seen.text().as_str(), seen.framing, seen.path()),
        ("hello", Framing::Chunked, "/p?q")
    );
}

#[tokio::test]
async fn a_body_that_stops_early_is_cut() {
    let app = HttpApp::start(|seen| match seen.path() {
        "/length" => Answer::status(200)
            .header("Content-Length", "9")
            .end_head()
            .write("four")
            .close(),
        _ => Answer::status(200).chunked().chunk("four").close(),
    })
    .await
    .unwrap();
    for path in ["/length", "/chunks"] {
        let reply = send(app.port(), &Request::get(path)).await.unwrap();
        assert_eq!(
            (reply.text().as_str(), reply.end),
            ("four", End::Cut),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let gate = Gate::new();
    let held = gate.clone();
    let app = HttpApp::start(move |_| Answer::status(200).gate(&held))
        .await
        .unwrap();
    let mut connection = Connection::tcp(app.port()).await.unwrap();
    connection.write(Request::get("/").bytes()).await.unwrap();
    app.busy(1).await;
    drop(connection);
    app.cancelled().await;
    assert!(app.take()[0].cancelled);
}

#[tokio::test]
async fn grpc_blocks_stay_apart() {
    let app = GrpcApp::start(|mut call| {
        Box::pin(async move {
            while let Some(message) = call.message().await {
                if call.path() == "/s/Fail" {
                    return call.end(9, "no%20way", &[("x-t", "1")]);
                }
                call.begin_reply(&[("x-init", "1")]);
                call.reply(&message);
            }
            call.end(0, "", &[("x-trail", "2")]);
        })
    })
    .await
    .unwrap();
    let client = GrpcClient::connect(app.port()).await.unwrap();
    let reply = client
        .call("/s/Echo", &[("x-a", "1"), ("x-a", "2")], &[b"hi"])
        .await
        .unwrap();
    assert_eq!(
        (
            reply.code(),
            reply.header("x-init"),
            reply.trailer("x-trail")
        ),
        (Some(0), Some("1"), Some("2"))
    );
    assert_eq!(
        (reply.messages, reply.trailers_only),
        (vec![b"hi".to_vec()], false)
    );
    let seen = app.take().remove(0);
    assert_eq!(
        (seen.path(), seen.all("x-a"), seen.half_closed),
        ("/s/Echo", vec!["1", "2"], true)
    );
    let failed = client.call("/s/Fail", &[], &[b"hi"]).await.unwrap();
    assert_eq!(
        (
            failed.code(),
            failed.message().as_str(),
            failed.trailers_only
        ),
        (Some(9), "no way", true)
    );
}

#[tokio::test]
async fn hand_written_header_blocks_arrive_as_written() {
    let app = GrpcApp::start(|mut call| {
        Box::pin(async move {
            let message = call.message().await.unwrap_or_default();
            call.begin_reply(&[("x-init", "1")]);
            call.reply(&message);
            call.end(0, "", &[]);
        })
    })
    .await
    .unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", app.port()))
        .await
        .unwrap();
    let mut client = BareClient::over(stream).await.unwrap();
    // Longer than a frame, and than a length of one or two bytes.
    let long = "v".repeat(40_000);
    for value in ["short", &long] {
        let fields: [(&str, &[u8]); 6] = [
            (":method", b"POST"),
            (":scheme", b"http"),
            (":authority", b"a"),
            (":path", b"/pkg.S/../M;x"),
            ("x-", b"twice"),
            ("x-", value.as_bytes()),
        ];
        let reply = client.call(&fields, &[b"message"]).await.unwrap();
        assert_eq!(
            (reply.code(), reply.messages),
            (Some(0), vec![b"message".to_vec()])
        );
        let seen = app.take().remove(0);
        assert_eq!(seen.path(), "/pkg.S/../M;x");
        assert_eq!(seen.all("x-"), ["twice", value]);
    }
}
