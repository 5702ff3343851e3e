//! A DNS server of the test's own, for one kind of question.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
    serialize::binary::{BinDecodable as _, BinEncodable as _},
};
use ironside_chassis::Tasks;
use tokio::net::UdpSocket;

/// A running server; it ends when dropped.
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    names: Arc<Mutex<BTreeMap<String, Vec<Ipv4Addr>>>>,
    tasks: Tasks,
}

impl Dns {
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let names = Arc::new(Mutex::new(BTreeMap::new()));
        let (tasks, known) = (Tasks::new(), Arc::clone(&names));
        let stop = tasks.token();
        tasks.spawn("dns", async move {
            let mut buffer = vec![0; 4096];
            loop {
                let received = tokio::select! {
                    () = stop.cancelled() => return,
                    received = socket.recv_from(&mut buffer) => received,
                };
                let Ok((length, from)) = received else {
                    continue;
                };
                let question = Message::from_bytes(&buffer[..length]).unwrap();
                let answer = answer(&question, &known.lock().unwrap());
                drop(socket.send_to(&answer.to_bytes().unwrap(), from).await);
            }
        });
        Self {
            address,
            names,
            tasks,
        }
    }

    /// Ready pods of an app in the namespace `shop`.
    pub(crate) fn set(&self, app: &str, pods: &[Ipv4Addr]) {
        let name = format!("{app}-dapr.shop.svc.cluster.local.");
        self.names.lock().unwrap().insert(name, pods.to_vec());
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

fn answer(question: &Message, names: &BTreeMap<String, Vec<Ipv4Addr>>) -> Message {
    let query = question.queries.first().unwrap().clone();
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    let name = query.name().to_string();
    match names.get(&name) {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(pods) if query.query_type() == RecordType::A => {
            for pod in pods {
                let data = RData::A(A(*pod));
                answer.add_answer(Record::from_rdata(query.name().clone(), 5, data));
            }
        }
        Some(_) => {}
    }
    answer.add_query(query);
    answer
}

/// An address of this machine that no other test uses: each has a number of its own.
pub(crate) fn pod_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 77, number)
}

/// As text for flags.
pub(crate) fn shown(address: Ipv4Addr) -> String {
    IpAddr::V4(address).to_string()
}
