//! The records of service-invocation 6.3, and what is accepted of others.

use proptest::prelude::*;

use super::*;

fn announced(address: &str) -> Announced {
    let app = AppId::parse("appB").expect("valid");
    let names = Names::new(&app, "rig", 4711).expect("fits");
    let address = address.parse().expect("address");
    Announced::new(app, &names, address, 50002).expect("fits")
}

fn message(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("a message")
}

fn asked(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    let name = Name::from_labels(name.trim_end_matches('.').split('.').map(str::as_bytes));
    message.add_query(Query::query(name.expect("name"), kind));
    message
}

/// One line a record: name, type, time to live, `!` for the cache-flush bit, data.
fn lines(records: &[Record]) -> Vec<String> {
    let line = |record: &Record| {
        let flush = if record.mdns_cache_flush { "!" } else { "" };
        let kind = record.record_type();
        let line = format!(
            "{} {kind} {}{flush} {}",
            record.name, record.ttl, record.data
        );
        // The library writes a colon in a name with a backslash.
        line.replace('\\', "")
    };
    records.iter().map(line).collect()
}

fn seen(bytes: &[u8], sender: Sender) -> Vec<Sighting> {
    match read(bytes, sender) {
        Some(Incoming::Answer(sightings)) => sightings,
        other => panic!("no answer: {other:?}"),
    }
}

/// Facts: service-invocation 6.3, rows Browse answer, SRV, TXT, TTL; SI-139.
#[test]
fn browser_gets_the_pointer_and_everything_to_follow_it() {
    let question = message(
        &question(
            &Names::new(&AppId::parse("appB").expect("valid"), "x", 1)
                .expect("fits")
                .service,
        )
        .expect("fits"),
    );
    let reply = announced("10.0.0.7")
        .answer(&question, false)
        .expect("about us");
    assert_eq!(reply.way, Way::Group);
    let answer = message(&reply.bytes);
    assert_eq!(answer.metadata.id, 0);
    assert!(answer.metadata.authoritative && answer.queries.is_empty());
    assert_eq!(
        lines(&answer.answers),
        ["appB.local. PTR 3200 rig:4711.appB.local."]
    );
    assert_eq!(
        lines(&answer.additionals),
        [
            "rig:4711.appB.local. SRV 3200 0 0 50002 rig.local.",
            "rig:4711.appB.local. TXT 3200 appB",
            "rig.local. A 3200 10.0.0.7",
        ]
    );
}

/// Fact: service-invocation 6.3, row Browse answer (announcements) and TTL (goodbye).
#[test]
fn announcement_says_everything_and_goodbye_takes_it_back() {
    for ttl in [TTL, GOODBYE] {
        let message = message(&announced("fd00::2").announcement(ttl).expect("fits"));
        assert_eq!(
            lines(&message.answers),
            [
                format!("rig:4711.appB.local. SRV {ttl}! 0 0 50002 rig.local."),
                format!("rig:4711.appB.local. TXT {ttl}! appB"),
                format!("appB.local. PTR {ttl} rig:4711.appB.local."),
                format!("_services._dns-sd._udp.local. PTR {ttl} appB.local."),
                format!("rig.local. AAAA {ttl}! fd00::2"),
            ]
        );
    }
}

#[test]
fn probe_asks_for_the_instance_and_is_not_answered_by_itself() {
    let own = announced("10.0.0.7");
    let probe = message(&own.probe().expect("fits"));
    assert_eq!(probe.authorities.len(), 2);
    assert!(own.answer(&probe, false).is_none());
    let other = asked("rig:4711.appB.local.", RecordType::ANY);
    assert!(own.answer(&other, false).is_some());
}

#[test]
fn questions_about_others_are_not_answered() {
    let own = announced("10.0.0.7");
    for (name, kind, answered) in [
        ("appB.local.", RecordType::PTR, true),
        ("APPB.Local.", RecordType::ANY, true),
        ("appB.local.", RecordType::SRV, false),
        ("appA.local.", RecordType::PTR, false),
        ("appB.example.", RecordType::PTR, false),
        ("x.appB.local.", RecordType::PTR, false),
        ("rig:4711.appB.local.", RecordType::SRV, true),
        ("rig:4711.appB.local.", RecordType::PTR, false),
        ("rig:1.appB.local.", RecordType::SRV, false),
        ("rig.local.", RecordType::A, false),
        ("_services._dns-sd._udp.local.", RecordType::PTR, true),
    ] {
        let reply = own.answer(&asked(name, kind), false);
        assert_eq!(reply.is_some(), answered, "{name} {kind}");
    }
    let mut chaos = asked("appB.local.", RecordType::PTR);
    chaos.queries[0].query_class = DNSClass::CH;
    assert!(own.answer(&chaos, false).is_none());
}

#[test]
fn known_answers_are_not_repeated_while_they_are_fresh() {
    let own = announced("10.0.0.7");
    let mut question = asked("appB.local.", RecordType::PTR);
    question.add_answer(own.ptr(TTL / 2));
    assert!(own.answer(&question, false).is_none());
    question.answers[0].ttl = TTL / 2 - 1;
    assert!(own.answer(&question, false).is_some());
}

#[test]
fn askers_that_wish_or_need_it_are_answered_directly() {
    let own = announced("10.0.0.7");
    let mut wishes = asked("appB.local.", RecordType::PTR);
    wishes.queries[0].set_mdns_unicast_response(true);
    let reply = own.answer(&wishes, false).expect("about us");
    assert_eq!(reply.way, Way::Asker);
    assert_eq!(message(&reply.bytes).metadata.id, 7);
    let legacy = own.answer(&asked("appB.local.", RecordType::PTR), true);
    let legacy = legacy.expect("about us");
    assert_eq!(legacy.way, Way::Asker);
    assert_eq!(message(&legacy.bytes).queries.len(), 1);
}

#[test]
fn announced_sidecars_are_seen_with_their_address() {
    let expected = |v4: Option<&str>, v6: Option<&str>, gone| Sighting {
        app: AppId::parse("appB").expect("valid"),
        v4: v4.map(|a| a.parse().expect("v4")),
        v6: v6.map(|a| a.parse().expect("v6")),
        port: 50002,
        gone,
    };
    let hello = announced("10.0.0.7").announcement(TTL).expect("fits");
    assert_eq!(
        seen(&hello, Sender::Other),
        [expected(Some("10.0.0.7"), None, false)]
    );
    let goodbye = announced("fd00::2").announcement(GOODBYE).expect("fits");
    assert_eq!(
        seen(&goodbye, Sender::Other),
        [expected(None, Some("fd00::2"), true)]
    );
    let browsed = announced("10.0.0.7").answer(&asked("appB.local.", RecordType::PTR), false);
    let browsed = browsed.expect("about us").bytes;
    assert_eq!(
        seen(&browsed, Sender::Other),
        [expected(Some("10.0.0.7"), None, false)]
    );
}

/// A loopback address means another machine to whoever reads it elsewhere.
#[test]
fn loopback_addresses_count_on_their_own_machine_only() {
    for address in ["127.0.0.1", "::1"] {
        let hello = announced(address).announcement(TTL).expect("fits");
        assert_eq!(seen(&hello, Sender::ThisMachine).len(), 1);
        assert!(seen(&hello, Sender::Other).is_empty());
    }
    for address in ["0.0.0.0", "::", "224.0.0.251", "255.255.255.255"] {
        let hello = announced(address).announcement(TTL).expect("fits");
        assert!(seen(&hello, Sender::ThisMachine).is_empty(), "{address}");
    }
}

/// Fact: service-invocation 6.3, row Accepting an entry.
#[test]
fn answers_whose_text_disagrees_with_the_name_are_ignored() {
    let change = |edit: &dyn Fn(&mut Message)| {
        let mut altered = message(&announced("10.0.0.7").announcement(TTL).expect("fits"));
        edit(&mut altered);
        match read(&altered.to_vec().expect("fits"), Sender::Other) {
            Some(Incoming::Answer(seen)) => seen.len(),
            Some(Incoming::Question(_)) | None => 0,
        }
    };
    let txt =
        |texts: &[&str]| RData::TXT(TXT::new(texts.iter().map(|t| (*t).to_owned()).collect()));
    assert_eq!(change(&|_| {}), 1);
    assert_eq!(change(&|m| m.answers[1].data = txt(&["appC"])), 0);
    assert_eq!(change(&|m| m.answers[1].data = txt(&["a.b"])), 0);
    assert_eq!(change(&|m| m.answers[1].data = txt(&[""])), 0);
    assert_eq!(
        change(&|m| {
            m.answers.remove(1);
        }),
        0
    );
    assert_eq!(
        change(&|m| {
            m.answers.remove(0);
        }),
        0
    );
    assert_eq!(
        change(&|m| {
            m.answers.remove(4);
        }),
        0
    );
    assert_eq!(change(&|m| m.metadata.op_code = OpCode::Notify), 0);
}

proptest! {
    #[test]
    fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(read(&bytes, Sender::ThisMachine));
    }

    #[test]
    fn damaged_announcements_never_panic(
        at in 0_usize..150,
        value: u8,
        cut in 0_usize..200,
    ) {
        let mut bytes = announced("10.0.0.7").announcement(TTL).expect("fits");
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        bytes.truncate(cut);
        if let Some(Incoming::Question(question)) = read(&bytes, Sender::Other) {
            drop(announced("10.0.0.7").answer(&question, false));
        }
    }

    #[test]
    fn any_app_that_fits_is_understood_again(id in "[^.]{1,20}", port in 1_u16..) {
        let app = AppId::parse(&id).expect("no dots");
        let names = Names::new(&app, "rig.example.com", 1);
        if let Ok(names) = names {
            let own = Announced::new(app.clone(), &names, [10, 0, 0, 1].into(), port).expect("fits");
            let hello = own.announcement(TTL).expect("fits");
            let sightings = seen(&hello, Sender::Other);
            prop_assert_eq!(sightings.len(), 1);
            prop_assert_eq!(&sightings[0].app, &app);
            prop_assert_eq!(sightings[0].port, port);
        }
    }
}
