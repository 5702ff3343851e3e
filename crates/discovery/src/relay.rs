//! What one replica of the operator tells another of its sidecars: the stream `accesscontrol.v1.AccessControlRelay`.
//!
//! Owns the form of what is told, its bounds, and the client's end. Who may tell, and what becomes of it, is the
//! operator's part. Whatever cannot be a sidecar is refused with the whole request: replicas do not make mistakes
//! that somebody should be patient with.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream;
use hyper::rt::Executor;
use ironside_identity::{AppId, Namespace};
use ironside_proto::discovery::{
    RelayRequest, RelayResponse, RelayedCounts, RelayedObject, RelayedSidecar,
    access_control_relay_client::AccessControlRelayClient,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tonic::{Status, Streaming};

use crate::{
    Counts, MAX_INSTANCE, News, OpenError,
    client::{NotRead, connect},
    report::{Ran, Refusal, Sidecar},
    world::App,
};

/// Most bytes of one request: a sidecar that refuses as many objects as fit into a snapshot, all with long reasons.
pub const MAX_REQUEST: usize = 8 * 1024 * 1024;
/// A request that is larger is followed by another one.
const BATCH: usize = 256 * 1024;
/// What an object has on the wire beside its texts, generously.
const FRAME: usize = 48;
/// Longest name of a replica, in bytes; that of a pod.
const MAX_REPLICA: usize = 253;
/// Requests that wait to be written.
const QUEUE: usize = 4;

/// What a request says.
#[derive(Debug, Default, PartialEq)]
pub struct Told {
    /// Who tells; empty but in the first request.
    pub replica: String,
    /// What is new.
    pub news: News,
    /// All counts of the last hour, if they are told.
    pub last_hour: Option<HashMap<Arc<str>, Counts>>,
    /// Nothing was left to be said.
    pub is_complete: bool,
}

/// The client's end of an open stream; dropping it ends the connection.
#[derive(Debug)]
pub struct Relay {
    requests: mpsc::Sender<RelayRequest>,
    responses: Streaming<RelayResponse>,
}

/// Puts news into requests, the last of which is complete.
#[must_use]
pub fn requests(
    replica: &str,
    news: News,
    last_hour: Option<HashMap<Arc<str>, Counts>>,
) -> Vec<RelayRequest> {
    let News { sidecars, gone } = news;
    let mut all = Vec::new();
    let mut size = 0;
    let mut request = RelayRequest {
        replica: replica.to_owned(),
        gone,
        has_totals: last_hour.is_some(),
        totals: last_hour
            .into_iter()
            .flatten()
            .map(relayed_counts)
            .collect(),
        ..RelayRequest::default()
    };
    for (number, sidecar) in sidecars {
        if size > BATCH {
            all.push(std::mem::take(&mut request));
            size = 0;
        }
        let sidecar = relayed(number, sidecar);
        let objects = sidecar.objects.iter();
        let texts = objects.map(|one| one.uid.len() + one.code.len() + one.message.len() + FRAME);
        size += sidecar.instance.len() + FRAME + texts.sum::<usize>();
        request.sidecars.push(sidecar);
    }
    request.complete = true;
    all.push(request);
    all
}

/// Reads what a request says.
///
/// # Errors
/// A status for what no replica says.
pub fn read(request: RelayRequest) -> Result<Told, Status> {
    let RelayRequest {
        replica,
        sidecars,
        gone,
        totals,
        has_totals,
        complete,
    } = request;
    if replica.len() > MAX_REPLICA || replica.contains(char::is_control) {
        return Err(Status::invalid_argument("no name of a replica"));
    }
    let sidecars = sidecars
        .into_iter()
        .map(sidecar)
        .collect::<Result<_, _>>()?;
    let totals = totals.into_iter().map(|(uid, counts)| {
        let RelayedCounts { denied, would_deny } = counts;
        (uid.into(), Counts { denied, would_deny })
    });
    Ok(Told {
        replica,
        news: News { sidecars, gone },
        last_hour: has_totals.then(|| totals.collect()),
        is_complete: complete,
    })
}

fn relayed_counts((uid, counts): (Arc<str>, Counts)) -> (String, RelayedCounts) {
    let Counts { denied, would_deny } = counts;
    (uid.to_string(), RelayedCounts { denied, would_deny })
}

fn relayed(number: u64, sidecar: Sidecar) -> RelayedSidecar {
    let Sidecar {
        app,
        instance,
        objects,
    } = sidecar;
    let objects = objects.into_iter().map(|ran| {
        let (code, message) = ran
            .refusal
            .map(|refusal| (refusal.code.into(), refusal.message.into()))
            .unzip();
        RelayedObject {
            uid: ran.uid.to_string(),
            generation: ran.generation,
            is_refused: code.is_some(),
            code: code.unwrap_or_default(),
            message: message.unwrap_or_default(),
        }
    });
    RelayedSidecar {
        number,
        namespace: app.namespace.as_str().to_owned(),
        app_id: app.app_id.as_str().to_owned(),
        instance: instance.into(),
        objects: objects.collect(),
    }
}

fn sidecar(relayed: RelayedSidecar) -> Result<(u64, Sidecar), Status> {
    let RelayedSidecar {
        number,
        namespace,
        app_id,
        instance,
        objects,
    } = relayed;
    let app = Namespace::parse(&namespace)
        .ok()
        .zip(AppId::parse(&app_id).ok());
    let (namespace, app_id) = app.ok_or_else(|| Status::invalid_argument("no name of an app"))?;
    if instance.len() > MAX_INSTANCE || instance.contains(char::is_control) {
        return Err(Status::invalid_argument("no name of a sidecar"));
    }
    let ran = objects.into_iter().map(|object| Ran {
        uid: object.uid.into(),
        generation: object.generation,
        refusal: object.is_refused.then(|| Refusal {
            code: object.code.into(),
            message: object.message.into(),
        }),
    });
    let sidecar = Sidecar {
        app: App { namespace, app_id },
        instance: instance.into(),
        objects: ran.collect(),
    };
    Ok((number, sidecar))
}

// === impl Relay ===

impl Relay {
    /// Opens a stream. Bound it in time: the other side may never answer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open<S, E>(io: S, authority: &str, tasks: E) -> Result<Self, OpenError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Executor<crate::server::Task> + Clone + Send + Sync + Unpin + 'static,
    {
        let (service, origin) = connect(io, authority, tasks).await?;
        let client = AccessControlRelayClient::with_origin(service, origin);
        let mut client = client.max_encoding_message_size(MAX_REQUEST);
        let (requests, mut queue) = mpsc::channel(QUEUE);
        let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let opened = client.relay(queue).await;
        let responses = opened.map_err(|status| OpenError::Refused(Box::new(status)))?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Says something, waiting for room. Bound it in time: the other side may not read.
    ///
    /// # Errors
    /// [`NotRead`] if the stream has ended.
    pub async fn say(&self, request: RelayRequest) -> Result<(), NotRead> {
        self.requests.send(request).await.map_err(|_closed| NotRead)
    }

    /// Waits for the next sign of life; `None` is the server's regular end. May be dropped and asked again.
    ///
    /// # Errors
    /// The status that ended the stream.
    pub async fn next(&mut self) -> Result<Option<RelayResponse>, Status> {
        self.responses.message().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::app;
    use prost::Message as _;

    fn connected(objects: usize, refusal: Option<&str>) -> Sidecar {
        let ran = |number: usize| Ran {
            uid: format!("{number:036}").into(),
            generation: 7,
            refusal: refusal.map(|message| Refusal {
                code: "InvalidPattern".into(),
                message: message.into(),
            }),
        };
        Sidecar {
            app: app("a", "x"),
            instance: "pod-1-abcdef01".into(),
            objects: (0..objects).map(ran).collect(),
        }
    }

    #[test]
    fn what_is_told_arrives_whole_and_in_bounded_pieces() {
        let long = "x".repeat(256);
        let mut sidecars: Vec<_> = (0..200).map(|n| (n, connected(50, None))).collect();
        sidecars.push((200, connected(5000, Some(&long))));
        sidecars.push((201, connected(1, Some(""))));
        let news = News {
            sidecars,
            gone: vec![7, 8],
        };
        let counts = Counts {
            denied: 3,
            would_deny: 1,
        };
        let hour = HashMap::from([("u".into(), counts)]);
        let all = requests("operator-0", news.clone(), Some(hour.clone()));
        assert!(all.len() > 3);
        let mut got = Told::default();
        for request in all {
            assert!(request.encoded_len() < MAX_REQUEST);
            let told = read(request).unwrap();
            got.news.sidecars.extend(told.news.sidecars);
            got.news.gone.extend(told.news.gone);
            got.replica.push_str(&told.replica);
            got.last_hour = got.last_hour.or(told.last_hour);
            assert!(!got.is_complete, "it is the last one");
            got.is_complete = told.is_complete;
        }
        let want = Told {
            replica: "operator-0".to_owned(),
            news,
            last_hour: Some(hour),
            is_complete: true,
        };
        assert_eq!(got, want);
    }

    #[test]
    fn what_no_replica_says_is_refused() {
        let good = || {
            requests(
                "r",
                News {
                    sidecars: vec![(1, connected(1, None))],
                    gone: Vec::new(),
                },
                None,
            )
            .remove(0)
        };
        assert!(read(good()).is_ok());
        type Break = fn(&mut RelayRequest);
        let breaks: [Break; 5] = [
            |request| request.replica = "x".repeat(300),
            |request| request.replica = "a\n".to_owned(),
            |request| request.sidecars[0].namespace = "A/b".to_owned(),
            |request| request.sidecars[0].app_id = String::new(),
            |request| request.sidecars[0].instance = "\u{1b}[2J".to_owned(),
        ];
        for (at, spoil) in breaks.into_iter().enumerate() {
            let mut request = good();
            spoil(&mut request);
            assert!(read(request).is_err(), "{at}");
        }
    }
}
