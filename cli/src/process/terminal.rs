//! Who has the terminal: the command line, or the app that reads from it.
//!
//! The app runs in a group of its own, so that its whole tree can be ended; but a background group that reads the
//! terminal is stopped by the kernel. That stop is the sign that the app is interactive: the command line then gives it
//! the foreground and continues it (CH2). An app that never reads leaves the foreground, and so Ctrl-C, with the
//! command line, which ends everything in order.

use std::io::{self, IsTerminal as _, stdin};

use nix::sys::signal::{SigSet, Signal as Blocked};
use rustix::process::{Pid, Signal, getpgrp, kill_current_process_group};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{Signal as Continued, SignalKind, signal};

use super::Child;

/// The terminal of this process, if its standard input is one.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Our own group, when the standard input is a terminal.
    own: Option<Pid>,
    /// Whether the app has the terminal.
    lent: bool,
    /// Whether the app is stopped because it wants a terminal that is not ours to give.
    waiting: bool,
    continued: Continued,
}

// === impl Terminal ===

impl Terminal {
    /// Looks whether there is a terminal to share.
    pub(crate) fn find() -> io::Result<Self> {
        Ok(Self {
            own: stdin().is_terminal().then(getpgrp),
            lent: false,
            waiting: false,
            continued: signal(SignalKind::from_raw(Signal::CONT.as_raw()))?,
        })
    }

    /// Whether the app has the terminal, and with it Ctrl-C.
    pub(crate) fn is_lent(&self) -> bool {
        self.lent
    }

    /// Acts on an app that a signal stopped.
    ///
    /// One that wanted the terminal gets it, at once or when we get it. One that the user stopped (Ctrl-Z) takes the
    /// command line with it, so that the shell is back; when the shell continues the command line, the app goes on too.
    pub(crate) fn app_stopped(&mut self, app: &Child, by: i32) {
        if self.own.is_none() {
            return;
        }
        if by == Signal::TTIN.as_raw() || by == Signal::TTOU.as_raw() {
            self.waiting = true;
            if !self.resume(app) {
                // As if we had read the terminal ourselves: a shell then says that this job wants input.
                let _orphaned = kill_current_process_group(Signal::TTIN);
            }
        } else if by == Signal::TSTP.as_raw() && self.lent {
            self.take_back();
            self.waiting = true;
            let _orphaned = kill_current_process_group(Signal::TSTP);
        }
    }

    /// Waits until somebody continues this process.
    pub(crate) async fn continued(&mut self) {
        let _any = self.continued.recv().await;
    }

    /// Takes the terminal back from an app that has ended.
    pub(crate) fn take_back(&mut self) {
        if !self.lent {
            return;
        }
        self.lent = false;
        if let Some(own) = self.own {
            give(own);
        }
    }

    /// Gives the terminal to an app that waits for it, if it is ours to give; says whether it is.
    pub(crate) fn resume(&mut self, app: &Child) -> bool {
        let ours = tcgetpgrp(stdin()).ok() == self.own;
        if ours && self.waiting {
            self.waiting = false;
            self.lent = true;
            give(app.pid());
            app.signal(Signal::CONT);
        }
        ours
    }
}

/// Makes a group the foreground group, also when our own is in the background.
fn give(group: Pid) {
    // A background process that does this is stopped by SIGTTOU unless it blocks that signal.
    let mut block = SigSet::empty();
    block.add(Blocked::SIGTTOU);
    let blocked = block.thread_block();
    let _no_terminal = tcsetpgrp(stdin(), group);
    if blocked.is_ok() {
        let _stays_blocked = block.thread_unblock();
    }
}
