//! A program from its words to its exit code: what it says first and last, and whose fault an end is.

#![cfg(test)]

use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use ironside_chassis::args::{Flag, Flags, Parsed};
use ironside_chassis::program::{Address, Failure, FrameError, Life, Program, log_options};

const FLAGS: Flags = Flags::new(
    "p",
    &[
        Flag::text("log-level", "info", "level"),
        Flag::bool("log-as-json", "false", "form"),
        Flag::text("log-file", "", "file"),
        Flag::text("listen-address", "127.0.0.1", "address"),
        Flag::int("port", "0", "port"),
    ],
);

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

const PROGRAM: Program = Program {
    name: "P",
    failed: "error running p",
    info: |text| SAID.lock().unwrap().push(text.to_owned()),
    fatal: |text| SAID.lock().unwrap().push(format!("fatal: {text}")),
};

#[derive(Debug)]
struct Broken(FrameError);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Failure for Broken {
    fn is_told(&self) -> bool {
        matches!(self.0, FrameError::Interrupted)
    }
}

fn parsed(words: &[&str]) -> Parsed {
    FLAGS.parse(words.iter().map(OsString::from)).unwrap()
}

#[test]
fn a_port_that_is_none_is_refused_by_its_flag() {
    for value in ["65536", "-1"] {
        let read = Address::read(&parsed(&["--port", value]), "listen-address", "port");
        let text = read.unwrap_err().to_string();
        assert_eq!(
            text,
            format!("invalid value for --port: {value} is no port")
        );
    }
}

#[test]
fn a_level_that_is_none_is_refused() {
    assert!(log_options(&parsed(&["--log-level", "loud"])).is_err());
    assert!(log_options(&parsed(&["--log-as-json"])).unwrap().json);
}

#[tokio::test]
async fn a_port_says_which_one_it_is() {
    let address = Address::read(&parsed(&[]), "listen-address", "port").unwrap();
    let port = address.listen("p").await.unwrap();
    assert_ne!(port.number, 0);
    assert_eq!(port.listener.local_addr().unwrap().port(), port.number);
    let nowhere = Address {
        host: "203.0.113.1".to_owned(),
        port: 0,
    };
    let refused = nowhere.listen("failed to start").await.unwrap_err();
    assert!(
        refused.to_string().starts_with("failed to start: "),
        "{refused}"
    );
}

/// The log can be started once in a process, so this is one story.
#[test]
fn what_ends_a_program_is_said_last() {
    let stuck = async |(): (), log: &_| {
        let life = Life::begin(log).map_err(Broken)?;
        life.tasks().spawn("endless", std::future::pending());
        life.end_whole(Duration::from_millis(1))
            .await
            .map_err(Broken)
    };
    let words: [OsString; 0] = [];
    let code = PROGRAM.run(&FLAGS, words, |_| Ok::<_, String>(()), stuck);
    assert_eq!(code, ExitCode::FAILURE);
    let said = SAID.lock().unwrap().clone();
    assert!(said[0].starts_with("Starting P -- version "), "{said:?}");
    assert_eq!(said[1], "Log level set to: info");
    let last = said.last().unwrap();
    assert_eq!(
        last,
        "fatal: error running p: tasks did not end in time: endless"
    );
}
