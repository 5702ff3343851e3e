//! The text of an entry, and the judgement about its process.

use proptest::prelude::*;

use super::*;

fn place(processes: &str, network: &str) -> Place {
    Place {
        processes: processes.into(),
        network: network.into(),
    }
}

fn entry() -> Entry {
    Entry {
        namespace: Namespace::parse("default").expect("valid"),
        app_id: AppId::parse("appB").expect("valid"),
        authority: Authority::new("::1", 50002).expect("valid"),
        process: Process {
            pid: 4711,
            start_time: 99,
            place: place("pid:[1]", "net:[2]"),
        },
    }
}

#[test]
fn entry_round_trips_and_names_its_file() {
    let json = entry().to_json().expect("writes");
    assert_eq!(
        String::from_utf8_lossy(&json),
        concat!(
            r#"{"version":1,"namespace":"default","appId":"appB","address":"::1","#,
            r#""internalPort":50002,"pid":4711,"startTime":99,"#,
            r#""processNamespace":"pid:[1]","networkNamespace":"net:[2]"}"#
        )
    );
    assert_eq!(Entry::parse(&json).expect("reads"), entry());
    assert_eq!(entry().file_name(), "4711-50002.json");
}

#[test]
fn files_that_are_no_entries_are_refused_with_the_reason() {
    let valid = String::from_utf8(entry().to_json().expect("writes")).expect("text");
    let refused = |from: &str, to: &str| {
        let text = valid.replace(from, to);
        assert_ne!(text, valid);
        Entry::parse(text.as_bytes())
            .expect_err("refused")
            .to_string()
    };
    assert_eq!(
        refused("\"version\":1", "\"version\":2"),
        "version 2 is unknown"
    );
    assert_eq!(refused("appB", "a.b"), "appId \"a.b\" is not valid");
    assert_eq!(refused("50002", "0"), "address \"::1\" is not valid");
    assert_eq!(refused("default", "a/b"), "namespace \"a/b\" is not valid");
    assert_eq!(refused("50002", "70000"), "not an entry");
    assert_eq!(refused("{", "["), "not an entry");
    assert!(Entry::parse(b"").is_err());
}

#[test]
fn dead_and_recycled_processes_are_told_apart() {
    let here = place("pid:[1]", "net:[2]");
    let judge = |start_time, sign| {
        let process = Process {
            start_time,
            ..entry().process
        };
        standing(&process, &here, sign)
    };
    assert_eq!(judge(99, Sign::Alive(Some(99))), Standing::Believed);
    assert_eq!(judge(99, Sign::Alive(Some(98))), Standing::Dead);
    assert_eq!(judge(99, Sign::Dead), Standing::Dead);
    assert_eq!(judge(99, Sign::Alive(None)), Standing::Believed);
    assert_eq!(judge(0, Sign::Alive(Some(98))), Standing::Believed);
}

#[test]
fn processes_of_other_places_are_left_alone() {
    let judge = |here: Place, sign| standing(&entry().process, &here, sign);
    let containers = place("pid:[7]", "net:[2]");
    assert_eq!(judge(containers, Sign::Dead), Standing::Elsewhere);
    let networks = place("pid:[1]", "net:[7]");
    assert_eq!(
        judge(networks.clone(), Sign::Alive(Some(99))),
        Standing::Elsewhere
    );
    assert_eq!(judge(networks, Sign::Dead), Standing::Dead);
}

#[test]
fn folder_lies_in_the_runtime_folder_or_else_in_the_temporary_one() {
    let temp = Path::new("/tmp");
    let run = Some(Path::new("/run/user/1000"));
    assert_eq!(
        folder(run, temp, 1000),
        Path::new("/run/user/1000/ironside/peers")
    );
    assert_eq!(
        folder(None, temp, 1000),
        Path::new("/tmp/ironside-1000/peers")
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes: Vec<u8>, text in r#"[{}"a-zI:,0-9\[\]]{0,200}"#) {
        drop(Entry::parse(&bytes));
        drop(Entry::parse(text.as_bytes()));
    }
}
