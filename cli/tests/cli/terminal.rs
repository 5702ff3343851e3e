//! Row CL-36 and its like: the command line on a terminal.
//!
//! A test cannot give a child a controlling terminal by safe means from outside, so the child is this test program
//! itself: [`on_the_terminal`] takes the terminal and becomes the command line.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

use crate::rig::{LONG, World, sidecars, until};

/// Which terminal the helper takes.
const TERMINAL: &str = "IRONSIDE_TEST_TERMINAL";
/// The words of the command line, separated by unit separators.
const WORDS: &str = "IRONSIDE_TEST_WORDS";

/// Becomes the command line on the terminal that the environment names; run by the tests below.
#[test]
#[ignore = "a helper that other tests start"]
fn on_the_terminal() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how the test talks to its helper"
    )]
    let variable = |name: &str| std::env::var(name).unwrap();
    setsid().unwrap();
    let terminal = open(variable(TERMINAL), OFlags::RDWR, Mode::empty()).unwrap();
    ioctl_tiocsctty(&terminal).unwrap();
    dup2_stdin(&terminal).unwrap();
    dup2_stdout(&terminal).unwrap();
    dup2_stderr(&terminal).unwrap();
    let words = variable(WORDS);
    let error = Command::new(env!("CARGO_BIN_EXE_ironside"))
        .args(words.split('\u{1f}'))
        .exec();
    panic!("{error}");
}

/// The command line on a terminal, and what appears there.
struct OnTerminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
    reading: thread::JoinHandle<()>,
}

impl OnTerminal {
    fn start(world: &World, words: &[&str]) -> Self {
        let master: OwnedFd =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "terminal::on_the_terminal",
                "--ignored",
                "--nocapture",
            ])
            .env(TERMINAL, name)
            .env(WORDS, words.join("\u{1f}"))
            .env("DAPR_RUNTIME_PATH", world.path())
            .env("PS1", "")
            .env_remove("XDG_RUNTIME_DIR")
            .current_dir(world.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut reader = File::from(master.as_fd().try_clone_to_owned().unwrap());
        let screen: Arc<Mutex<String>> = Arc::default();
        let shown = screen.clone();
        let reading = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read) = reader.read(&mut bytes) {
                if read == 0 {
                    break;
                }
                shown
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
        });
        Self {
            child,
            keyboard: File::from(master),
            screen,
            reading,
        }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    fn wait_for(&self, text: &str) {
        until(&format!("{text:?} on the screen"), LONG, || {
            self.screen().contains(text).then_some(())
        });
    }

    fn type_in(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        let status = until("the end", LONG, || self.child.try_wait().unwrap());
        // The terminal ends when nobody has it open; what was written before is read by then.
        until("the last of the screen", LONG, || {
            self.reading.is_finished().then_some(())
        });
        status.code()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

/// Fact: CL-36, CH2.
#[test]
fn an_interactive_app_reads_and_gets_interrupts() {
    let world = World::new();
    let id = world.id("repl");
    // An interpreter in small: it reads lines, and survives Ctrl-C.
    let script = "trap 'echo interrupted' INT; echo prompt; while true; do
        if read -r line; then echo \"read <$line>\"; elif [ $? -eq 1 ]; then break; fi; done; echo bye";
    let mut terminal = OnTerminal::start(
        &world,
        &["run", "--app-id", &id, "--", "bash", "-c", script],
    );
    terminal.wait_for("prompt");
    terminal.type_in("one line\n");
    terminal.wait_for("read <one line>");
    terminal.type_in(CTRL_C);
    terminal.wait_for("interrupted");
    terminal.type_in("another\n");
    terminal.wait_for("read <another>");
    assert!(!sidecars(&id).is_empty());
    terminal.type_in(CTRL_D);
    terminal.wait_for("bye");
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen());
    assert!(sidecars(&id).is_empty());
}

/// Fact: CL-30 on a terminal: an app that does not read leaves Ctrl-C to the command line.
#[test]
fn ctrl_c_ends_an_app_that_does_not_read_in_order() {
    let world = World::new();
    let id = world.id("quiet");
    let script =
        "trap 'echo done > trapped; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let mut terminal = OnTerminal::start(
        &world,
        &["run", "--app-id", &id, "--", "bash", "-c", script],
    );
    terminal.wait_for("ready");
    terminal.wait_for("You're up and running!");
    terminal.type_in(CTRL_C);
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen());
    assert_eq!(world.read("trapped"), "done\n");
    assert!(
        terminal.screen().contains("Exited App successfully"),
        "{}",
        terminal.screen()
    );
}

/// Fact: CL-36: an app that reads and dies of Ctrl-C was ended by the user.
#[test]
fn ctrl_c_that_kills_a_reader_is_an_orderly_end() {
    let world = World::new();
    let id = world.id("cat");
    let mut terminal = OnTerminal::start(&world, &["run", "--app-id", &id, "--", "cat"]);
    terminal.wait_for("You're up and running!");
    terminal.type_in("echoed\n");
    until("cat's copy", LONG, || {
        (terminal.screen().matches("echoed").count() == 2).then_some(())
    });
    terminal.type_in(CTRL_C);
    assert_eq!(terminal.end(), Some(0), "{}", terminal.screen());
    assert!(
        terminal
            .screen()
            .contains("terminated signal received: shutting down"),
        "{}",
        terminal.screen()
    );
}
