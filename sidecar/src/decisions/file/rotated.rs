//! A file of lines that is replaced before it grows too large.
//!
//! Owns sizes, names (`f`, `f.1` the newest older one, `f.2`, …) and the look at whether somebody else moved the file
//! away, as `logrotate` does: lines then go to a new one. A line is never split between two files, and every line that
//! was accepted is written once. Refuses to own the thread.

use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::config::AccessLogFile;

/// Readable by the group: it holds who called what.
const MODE: u32 = 0o640;

/// The file and its predecessors.
#[derive(Debug)]
pub(super) struct Rotated {
    settings: AccessLogFile,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    size: u64,
}

/// Lines that were taken together, and how far they are written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    lines: String,
    written: usize,
}

// === impl Batch ===

impl Batch {
    /// True if there is nothing left to write.
    pub(super) fn is_written(&self) -> bool {
        self.written >= self.lines.len()
    }

    /// The text, emptied, for new lines.
    pub(super) fn refilled(&mut self) -> &mut String {
        self.written = 0;
        self.lines.clear();
        &mut self.lines
    }

    fn rest(&self) -> &str {
        self.lines.get(self.written..).unwrap_or_default()
    }

    /// Goes back to the start of a line that was begun in a file that is not there any more.
    fn begin_line_again(&mut self) {
        let before = self.lines.get(..self.written).unwrap_or_default();
        self.written = before.rfind('\n').map_or(0, |end| end + 1);
    }
}

/// As many whole lines from the start of `text` as have at most `room` bytes.
fn whole_lines(text: &str, room: u64) -> &str {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let end = text.floor_char_boundary(room.min(text.len()));
    let fits = text.get(..end).unwrap_or_default();
    let end = fits.rfind('\n').map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default()
}

// === impl Rotated ===

impl Rotated {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// The system's; a path that is no regular file.
    pub(super) fn open(settings: AccessLogFile) -> io::Result<Self> {
        let open = Some(Open::new(&settings.path)?);
        Ok(Self { settings, open })
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Writes what is left of a batch. After an error it may be called again with the same batch.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn append(&mut self, batch: &mut Batch) -> io::Result<()> {
        if batch.is_written() {
            return Ok(());
        }
        if self
            .open
            .as_ref()
            .is_some_and(|open| !open.lies_at(&self.settings.path))
        {
            self.open = None;
        }
        while !batch.is_written() {
            let open = match &mut self.open {
                Some(open) => open,
                None => {
                    batch.begin_line_again();
                    self.open.insert(Open::new(&self.settings.path)?)
                }
            };
            let room = self.settings.max_size.saturating_sub(open.size);
            let chunk = whole_lines(batch.rest(), room);
            if chunk.is_empty() && open.size > 0 {
                self.rotate()?;
                continue;
            }
            // A line that is longer than a whole file is written all the same.
            let chunk = if chunk.is_empty() {
                batch.rest()
            } else {
                chunk
            };
            batch.written += open.write(chunk)?;
        }
        Ok(())
    }

    /// Makes room for a new file; the oldest one goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        for number in (0..self.settings.max_files.saturating_sub(1)).rev() {
            let moved = fs::rename(self.older(number), self.older(number + 1));
            if let Err(cause) = moved
                && cause.kind() != io::ErrorKind::NotFound
            {
                return Err(cause);
            }
        }
        match fs::remove_file(&self.settings.path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The path of a predecessor; 0 is the file itself.
    fn older(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.settings.path.clone();
        }
        let mut name = OsString::from(&self.settings.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

// === impl Open ===

impl Open {
    fn new(path: &Path) -> io::Result<Self> {
        // Asked before it is opened: opening a pipe waits for its reader.
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            let text = "it is no regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut how = OpenOptions::new();
        how.read(true).append(true).create(true).mode(MODE);
        let mut file = how.open(path)?;
        let found = file.metadata()?;
        let mut open = Self {
            identity: identity(&found),
            size: found.len(),
            file: file.try_clone()?,
        };
        if found.len() > 0 && !ends_a_line(&mut file)? {
            open.write("\n")?;
        }
        Ok(open)
    }

    fn lies_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|found| identity(&found) == self.identity)
    }

    fn write(&mut self, text: &str) -> io::Result<usize> {
        loop {
            match self.file.write(text.as_bytes()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.size = self.size.saturating_add(written as u64);
                    return Ok(written);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
    }
}

fn identity(of: &Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

/// False for what a process left that ended, or a disk that filled up, in the middle of a line.
fn ends_a_line(file: &mut File) -> io::Result<bool> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests;
