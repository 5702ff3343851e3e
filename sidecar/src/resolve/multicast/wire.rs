//! Multicast DNS messages: what this sidecar says, and what it understands of others.
//!
//! Owns the records of service-invocation 6.3 and the rules for accepting somebody else's; the
//! bytes are the message library's. Pure: bytes in, values out. Refuses to send, to keep time and
//! to remember.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use ironside_identity::AppId;
use ironside_resolution::name::{DnsName, Names, SERVICE_TYPES};

#[cfg(test)]
mod tests;

/// Seconds, on every record. Fact: 6.3, row TTL.
pub(crate) const TTL: u32 = 3200;
/// Seconds: the sidecar leaves. Fact: 6.3, row TTL.
pub(crate) const GOODBYE: u32 = 0;
/// Sidecars looked at in one packet; a real one holds one.
const MAX_SIGHTINGS: usize = 64;

/// What this sidecar says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Announced {
    app: AppId,
    service: Name,
    instance: Name,
    host: Name,
    address: IpAddr,
    port: u16,
}

/// A packet that was understood.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Somebody asks.
    Question(Message),
    /// Somebody answers or announces.
    Answer(Vec<Sighting>),
}

/// An app's sidecar that was seen on the network, or said goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// The app it serves.
    pub(crate) app: AppId,
    /// Its first IPv4 address.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Its first IPv6 address.
    pub(crate) v6: Option<Ipv6Addr>,
    /// Its internal port, never 0.
    pub(crate) port: u16,
    /// It leaves.
    pub(crate) gone: bool,
}

/// An answer and the way it goes.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) way: Way,
}

/// Where an answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To everybody.
    Group,
    /// To the one who asked: it wished so, or is no multicast resolver (RFC 6762 5.4, 6.7).
    Asker,
}

/// Who sent a packet, as far as its meaning depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A process of this machine: its loopback addresses mean the same here.
    ThisMachine,
    /// Another machine.
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Unique,
    Shared,
}

// === impl Announced ===

impl Announced {
    /// What the sidecar of `app` announces.
    ///
    /// # Errors
    /// [`ProtoError`] if a name does not fit on the wire; [`Names`] were checked for that.
    pub(crate) fn new(
        app: AppId,
        names: &Names,
        address: IpAddr,
        port: u16,
    ) -> Result<Self, ProtoError> {
        Ok(Self {
            app,
            service: wire_name(&names.service)?,
            instance: wire_name(&names.instance)?,
            host: wire_name(&names.host)?,
            address,
            port,
        })
    }

    /// Asks whether the instance's name is taken, and says what it will stand for.
    pub(crate) fn probe(&self) -> Result<Vec<u8>, ProtoError> {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(self.instance.clone(), RecordType::ANY));
        message.add_authority(self.srv(TTL, Flush::Shared));
        message.add_authority(self.txt(TTL, Flush::Shared));
        message.to_vec()
    }

    /// Says everything unasked; with [`GOODBYE`] as its time to live, takes it back.
    pub(crate) fn announcement(&self, ttl: u32) -> Result<Vec<u8>, ProtoError> {
        let mut message = response(0);
        message.add_answers(self.everything(ttl, Flush::Unique));
        message.to_vec()
    }

    /// The answer to a question, if it is about this sidecar and the asker does not know it.
    pub(crate) fn answer(&self, question: &Message, legacy: bool) -> Option<Reply> {
        let mut unicast = legacy;
        let mut reply = response(0);
        for query in &question.queries {
            if !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
                continue;
            }
            let before = reply.answers.len();
            self.answer_one(question, query, &mut reply);
            unicast |= reply.answers.len() > before && query.mdns_unicast_response;
        }
        if reply.answers.is_empty() {
            return None;
        }
        if unicast {
            reply.metadata.id = question.metadata.id;
        }
        if legacy {
            reply.add_queries(question.queries.iter().cloned());
        }
        let way = if unicast { Way::Asker } else { Way::Group };
        let bytes = reply.to_vec().ok()?;
        Some(Reply { bytes, way })
    }

    fn answer_one(&self, question: &Message, query: &Query, reply: &mut Message) {
        let Query {
            name, query_type, ..
        } = query;
        let asks = |types: &[RecordType]| types.contains(query_type);
        if asks(&[RecordType::PTR, RecordType::ANY]) {
            if name.eq_ignore_root(&self.service) && !self.is_known(question) {
                reply.add_answer(self.ptr(TTL));
                reply.add_additional(self.srv(TTL, Flush::Shared));
                reply.add_additional(self.txt(TTL, Flush::Shared));
                reply.add_additional(self.host_address(TTL, Flush::Shared));
            }
            if is_service_types(name) {
                reply.add_answers(self.service_type(TTL));
            }
        }
        if asks(&[RecordType::SRV, RecordType::TXT, RecordType::ANY])
            && name.eq_ignore_root(&self.instance)
            && !self.is_own_probe(question)
        {
            reply.add_answers(self.everything(TTL, Flush::Shared));
        }
    }

    /// RFC 6762 7.1: the asker listed the answer with at least half of its time left.
    fn is_known(&self, question: &Message) -> bool {
        question.answers.iter().any(|record| {
            record.ttl >= TTL / 2
                && record.name.eq_ignore_root(&self.service)
                && matches!(&record.data, RData::PTR(PTR(name)) if name.eq_ignore_root(&self.instance))
        })
    }

    fn is_own_probe(&self, question: &Message) -> bool {
        let mut claimed = question.authorities.iter();
        claimed.any(|record| record.name.eq_ignore_root(&self.instance))
    }

    fn everything(&self, ttl: u32, flush: Flush) -> Vec<Record> {
        let mut records = vec![self.srv(ttl, flush), self.txt(ttl, flush), self.ptr(ttl)];
        records.extend(self.service_type(ttl));
        records.push(self.host_address(ttl, flush));
        records
    }

    fn ptr(&self, ttl: u32) -> Record {
        let data = RData::PTR(PTR(self.instance.clone()));
        Record::from_rdata(self.service.clone(), ttl, data)
    }

    fn service_type(&self, ttl: u32) -> Option<Record> {
        let types = Name::from_ascii(SERVICE_TYPES).ok()?;
        let data = RData::PTR(PTR(self.service.clone()));
        Some(Record::from_rdata(types, ttl, data))
    }

    fn srv(&self, ttl: u32, flush: Flush) -> Record {
        let data = RData::SRV(SRV::new(0, 0, self.port, self.host.clone()));
        record(&self.instance, ttl, data, flush)
    }

    fn txt(&self, ttl: u32, flush: Flush) -> Record {
        let data = RData::TXT(TXT::from_bytes(vec![self.app.as_str().as_bytes()]));
        record(&self.instance, ttl, data, flush)
    }

    fn host_address(&self, ttl: u32, flush: Flush) -> Record {
        let data = match self.address {
            IpAddr::V4(address) => RData::A(A(address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(address)),
        };
        record(&self.host, ttl, data, flush)
    }
}

/// Asks everybody for the sidecars of an app.
///
/// # Errors
/// [`ProtoError`] if the name does not fit on the wire; [`DnsName`] was checked for that.
pub(crate) fn question(service: &DnsName) -> Result<Vec<u8>, ProtoError> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(wire_name(service)?, RecordType::PTR));
    message.to_vec()
}

/// Reads a packet; `None` if it is no message of multicast DNS.
pub(crate) fn read(packet: &[u8], sender: Sender) -> Option<Incoming> {
    let message = Message::from_vec(packet).ok()?;
    if message.metadata.op_code != OpCode::Query {
        return None;
    }
    match message.metadata.message_type {
        MessageType::Query => Some(Incoming::Question(message)),
        MessageType::Response => Some(Incoming::Answer(sightings(&message, sender))),
    }
}

fn sightings(message: &Message, sender: Sender) -> Vec<Sighting> {
    let services = message.all_sections().filter_map(|record| {
        let RData::SRV(srv) = &record.data else {
            return None;
        };
        Some((record, srv))
    });
    services
        .take(MAX_SIGHTINGS)
        .filter(|(_, srv)| srv.port > 0)
        .filter_map(|(record, srv)| {
            let (v4, v6) = addresses(message, &srv.target, sender);
            let sighting = Sighting {
                app: announced_app(message, &record.name)?,
                v4,
                v6,
                port: srv.port,
                gone: record.ttl == GOODBYE,
            };
            (v4.is_some() || v6.is_some()).then_some(sighting)
        })
        .collect()
}

/// The app whose ID stands in the TXT record of the instance, if the instance's name agrees.
fn announced_app(message: &Message, instance: &Name) -> Option<AppId> {
    let mut own = message
        .all_sections()
        .filter(|record| record.name.eq_ignore_root(instance));
    let text = own.find_map(|record| {
        let RData::TXT(txt) = &record.data else {
            return None;
        };
        txt.txt_data.first()
    })?;
    let app = AppId::parse(std::str::from_utf8(text).ok()?).ok()?;
    let service = wire_name(&ironside_resolution::name::service(&app).ok()?).ok()?;
    let agrees = service.zone_of(instance) && instance.num_labels() > service.num_labels();
    agrees.then_some(app)
}

/// The first address of each family that can be dialled from here.
fn addresses(
    message: &Message,
    host: &Name,
    sender: Sender,
) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let (mut v4, mut v6) = (None, None);
    let own = message.all_sections();
    for record in own.filter(|record| record.name.eq_ignore_root(host)) {
        if let RData::A(A(address)) = record.data {
            v4 = v4.or(Some(address).filter(|a| is_usable((*a).into(), sender)));
        } else if let RData::AAAA(AAAA(address)) = record.data {
            v6 = v6.or(Some(address).filter(|a| is_usable((*a).into(), sender)));
        }
    }
    (v4, v6)
}

fn is_usable(address: IpAddr, sender: Sender) -> bool {
    let nobody = address.is_unspecified()
        || address.is_multicast()
        || address == IpAddr::V4(Ipv4Addr::BROADCAST);
    !nobody && (sender == Sender::ThisMachine || !address.is_loopback())
}

fn is_service_types(name: &Name) -> bool {
    Name::from_ascii(SERVICE_TYPES).is_ok_and(|types| types.eq_ignore_root(name))
}

fn response(id: u16) -> Message {
    let mut message = Message::response(id, OpCode::Query);
    message.metadata.authoritative = true;
    message
}

fn record(name: &Name, ttl: u32, data: RData, flush: Flush) -> Record {
    let mut record = Record::from_rdata(name.clone(), ttl, data);
    record.mdns_cache_flush = flush == Flush::Unique;
    record
}

fn wire_name(name: &DnsName) -> Result<Name, ProtoError> {
    Name::from_labels(name.labels().map(str::as_bytes))
}
