//! Signals of the operating system as a stream of three words.
//!
//! Owns the installation and the spelling that log lines use. What a second
//! interrupt means, or whether a hangup restarts, is the program's decision.
//! Source: process-interface 2.6.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::signal::unix::{self, SignalKind};

/// What a person or a supervisor asks of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP.
    Hangup,
}

/// The signals a program asked to be told of; the others keep their default action.
#[derive(Debug)]
pub struct Signals(Vec<(Signal, unix::Signal)>);

impl fmt::Display for Signal {
    /// Writes `interrupt`, `terminated` or `hangup`, as log lines quote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "interrupt",
            Self::Terminate => "terminated",
            Self::Hangup => "hangup",
        })
    }
}

impl Signal {
    const fn kind(self) -> SignalKind {
        match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Terminate => SignalKind::terminate(),
            Self::Hangup => SignalKind::hangup(),
        }
    }
}

impl Signals {
    /// Takes over `wanted`; must run inside a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// The operating system's, when a handler cannot be installed.
    pub fn install(wanted: &[Signal]) -> io::Result<Self> {
        let install = |&signal: &Signal| Ok((signal, unix::signal(signal.kind())?));
        wanted
            .iter()
            .map(install)
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Waits for the next signal. Cancel-safe; pending for ever when none was asked for.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.0 {
            if let Poll::Ready(Some(())) = Pin::new(stream).poll_recv(cx) {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn spelled_as_in_the_log() {
        assert_eq!(Signal::Interrupt.to_string(), "interrupt");
        assert_eq!(Signal::Terminate.to_string(), "terminated");
        assert_eq!(Signal::Hangup.to_string(), "hangup");
    }

    #[tokio::test]
    async fn a_raised_signal_arrives() {
        let mut signals = Signals::install(&[Signal::Terminate, Signal::Hangup]).unwrap();
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::HUP).unwrap();
        let got = tokio::time::timeout(Duration::from_secs(10), signals.next()).await;
        assert_eq!(got.unwrap(), Signal::Hangup);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_wanted_means_nothing_comes() {
        let mut signals = Signals::install(&[]).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(60), signals.next()).await;
        assert!(waited.is_err());
    }
}
