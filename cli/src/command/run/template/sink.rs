//! Where the output of one process of a template goes: a file, the console, or both.
//!
//! Lines pass whole, however long they are (CH7); a line beyond the bound passes in pieces. Facts: cli-and-clients 1.10
//! "App lines", "Files".

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anstream::adapter::strip_bytes;
use owo_colors::OwoColorize as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

use super::resolve::Destination;
use crate::output;

/// The longest line that is kept together.
pub(crate) const LINE: usize = 4 << 20;

/// Where one process's output goes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Sink(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: Option<Mutex<File>>,
    path: Option<PathBuf>,
    console: bool,
    prefix: String,
    /// Whether colour codes are removed.
    plain: bool,
}

/// Keeps the output of apps off the console until all have been started, so that the lines of the start come first.
pub(crate) type Gate = watch::Receiver<bool>;

// === impl Sink ===

impl Sink {
    /// Opens the file, if there is one; the prefix stands before each line on the console.
    pub(crate) fn open(
        to: Destination,
        path: PathBuf,
        prefix: &str,
        colour: bool,
    ) -> io::Result<Self> {
        let file = if to.has_file() {
            Some(Mutex::new(create(&path)?))
        } else {
            None
        };
        let coloured = colour && !prefix.is_empty() && to == Destination::Console;
        let prefix = if coloured {
            prefix.bright_blue().bold().to_string()
        } else {
            prefix.to_owned()
        };
        Ok(Self(Arc::new(Inner {
            path: file.is_some().then_some(path),
            file,
            console: to.has_console(),
            prefix,
            plain: to.has_file(),
        })))
    }

    /// The log file, if there is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Writes one line of our own: to the file if there is one, else to the console.
    pub(crate) fn note(&self, text: &str) {
        match &self.0.file {
            Some(file) => append(file, format!("{text}\n").as_bytes()),
            None => output::line(text),
        }
    }

    /// Writes one line of the process, with its end.
    pub(crate) fn write(&self, line: &[u8]) {
        let plain: Vec<u8>;
        let line = if self.0.plain {
            plain = strip_bytes(line).flatten().copied().collect();
            plain.as_slice()
        } else {
            line
        };
        if let Some(file) = &self.0.file {
            append(file, line);
        }
        if self.0.console {
            output::out(&[self.0.prefix.as_bytes(), line].concat());
        }
    }

    /// Passes everything on that comes through a pipe, until its other end is closed.
    pub(crate) async fn pump(self, from: OwnedFd, mut gate: Gate) {
        let Ok(pipe) = Receiver::from_owned_fd(from) else {
            return;
        };
        let mut reader = BufReader::with_capacity(64 << 10, pipe);
        let mut line = Vec::new();
        loop {
            let ended = read_line(&mut reader, &mut line).await;
            if !line.is_empty() {
                if self.0.console {
                    // Closed means that nobody holds it shut any more.
                    let _open = gate.wait_for(|open| *open).await;
                }
                if !line.ends_with(b"\n") {
                    line.push(b'\n');
                }
                self.write(&line);
                line.clear();
            }
            if ended {
                return;
            }
        }
    }
}

/// Reads up to and with the next newline, at most the bound; says whether the other end is closed.
async fn read_line(reader: &mut BufReader<Receiver>, line: &mut Vec<u8>) -> bool {
    loop {
        let Ok(available) = reader.fill_buf().await else {
            return true;
        };
        if available.is_empty() {
            return true;
        }
        let end = available
            .iter()
            .position(|&byte| byte == b'\n')
            .map(|at| at + 1);
        let used = end.unwrap_or(available.len());
        line.extend(available.iter().take(used));
        reader.consume(used);
        if end.is_some() || line.len() >= LINE {
            return false;
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    File::create(path)
}

fn append(file: &Mutex<File>, bytes: &[u8]) {
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    // A full disk must not stop the app.
    let _full = file.write_all(bytes);
}

/// Whether the console shows colours.
pub(crate) fn console_has_colour(no_colour: bool) -> bool {
    !no_colour && io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pumped(bytes: &'static [u8]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/app.log");
        let sink = Sink::open(Destination::File, path.clone(), "", false).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let feeder = std::thread::spawn(move || writer.write_all(bytes));
        let (_keep, gate) = watch::channel(true);
        runtime.block_on(sink.pump(reader.into(), gate));
        feeder.join().unwrap().unwrap();
        fs::read(path).unwrap()
    }

    #[test]
    fn colour_codes_do_not_reach_the_file() {
        assert_eq!(pumped(b"\x1b[1;32mgreen\x1b[0m\nlast"), b"green\nlast\n");
    }

    /// Fact: CL-73.
    #[test]
    fn a_line_of_a_mebibyte_passes_whole() {
        static LONG: [u8; (1 << 20) + 1] = {
            let mut bytes = [b'x'; (1 << 20) + 1];
            bytes[1 << 20] = b'\n';
            bytes
        };
        assert_eq!(pumped(&LONG), LONG);
    }
}
