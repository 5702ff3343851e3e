//! A folder to live in, the command line as a child process, and waiting with deadlines.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process};
use tempfile::TempDir;

/// Far above anything a healthy run takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(10);

/// Polls until `look` brings a value.
pub(crate) fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(
            watch.elapsed() < limit,
            "{what} did not come true within {limit:?}"
        );
        thread::sleep(STEP);
    }
}

/// Measures real time.
#[expect(clippy::disallowed_types, reason = "the stopwatch of the tests")]
pub(crate) struct Stopwatch(std::time::Instant);

#[expect(clippy::disallowed_types, reason = "the stopwatch of the tests")]
impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A folder for `.dapr` and for apps; gone at the end.
pub(crate) struct World {
    folder: TempDir,
}

/// What a finished command left.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// An app id that no other test has.
    pub(crate) fn id(&self, name: &str) -> String {
        let unique = self
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace(['.', '_'], "")
            .to_lowercase();
        format!("{name}-{unique}")
    }

    /// Writes a file, with the folders it lies in.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// What a file holds; nothing while it is missing.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// The command line with these words, its environment free of the developer's.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ironside"));
        command
            .args(words)
            .current_dir(self.path())
            .env("DAPR_RUNTIME_PATH", self.path())
            .env("DAPR_HOST_IP", "127.0.0.1")
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("DAPR_API_TOKEN")
            .env_remove("NAMESPACE")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn ironside(&self, words: &[&str]) -> Finished {
        finish(&mut self.command(words))
    }

    /// Starts a command that stays.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        Running::start(&mut self.command(words))
    }

    /// Starts `run` with an app id and waits until it is up.
    pub(crate) fn up(&self, words: &[&str]) -> Running {
        let mut running = self.start(words);
        running.wait_for("You're up and running!");
        running
    }
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Finished {
    let mut running = Running::start(command);
    let code = running.end().code();
    Finished {
        code,
        stdout: running.stdout(),
        stderr: running.stderr(),
    }
}

/// A command that runs, in a process group of its own.
pub(crate) struct Running {
    child: Child,
    out: Lines,
    err: Lines,
}

#[derive(Clone)]
struct Lines {
    text: Arc<Mutex<String>>,
    done: Arc<Mutex<bool>>,
}

impl Lines {
    fn of(from: impl Read + Send + 'static) -> Self {
        let lines = Self {
            text: Arc::default(),
            done: Arc::default(),
        };
        let reading = lines.clone();
        thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                reading
                    .text
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
            *reading.done.lock().unwrap() = true;
        });
        lines
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub(crate) fn stdout(&self) -> String {
        self.out.text()
    }

    pub(crate) fn stderr(&self) -> String {
        self.err.text()
    }

    /// Waits until the standard output holds a text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let watch = Stopwatch::start();
        while !self.stdout().contains(text) {
            let ended = self.child.try_wait().unwrap().is_some() && *self.out.done.lock().unwrap();
            let late = watch.elapsed() > LONG;
            if (ended || late) && !self.stdout().contains(text) {
                panic!("no {text:?} in\n{}\n{}", self.stdout(), self.stderr());
            }
            thread::sleep(STEP);
        }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to the command line alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends a signal to the command line's group, as Ctrl-C does.
    pub(crate) fn signal_group(&self, signal: Signal) {
        kill_process_group(self.pid(), signal).unwrap();
    }

    /// Waits for the end, and for the last of its output if nothing else holds the pipes.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let watch = Stopwatch::start();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if watch.elapsed() > LONG {
                panic!("no end of\n{}\n{}", self.stdout(), self.stderr());
            }
            thread::sleep(STEP);
        };
        let drained = Stopwatch::start();
        let done = |lines: &Lines| *lines.done.lock().unwrap();
        while !(done(&self.out) && done(&self.err)) && drained.elapsed() < Duration::from_secs(2) {
            thread::sleep(STEP);
        }
        status
    }

    /// Asks it to end and waits.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::INT);
        self.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A failed test must not leave anything; the children go with the parent.
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// A value after a label in a text: `HTTP Port: 3500.` gives `3500`.
pub(crate) fn number_after(text: &str, label: &str) -> u16 {
    let at = text
        .find(label)
        .unwrap_or_else(|| panic!("no {label:?} in {text}"));
    let digits: String = text[at + label.len()..]
        .chars()
        .skip_while(|c| *c == ' ')
        .take_while(char::is_ascii_digit)
        .collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no number after {label:?} in {text}"))
}

/// Whether a process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let is_zombie = state
        .rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'));
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()) && !is_zombie
}

/// The process ids of sidecars with an app id.
pub(crate) fn sidecars(app_id: &str) -> Vec<i32> {
    processes(&["daprd", "--app-id", app_id])
}

/// The process ids of processes whose arguments hold all of these words.
pub(crate) fn processes(words: &[&str]) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line: Vec<String> = line
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        let has = |word: &&str| {
            line.iter()
                .any(|one| one == word || one.ends_with(&format!("/{word}")))
        };
        if words.iter().all(has) && lives(pid) {
            found.push(pid);
        }
    }
    found
}

/// One answer of an HTTP server.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends one request to a port of this machine.
pub(crate) fn http(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    exchange(stream, method, path, headers, body)
}

/// Sends one request over an open stream.
pub(crate) fn exchange(
    mut stream: impl Read + std::io::Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Option<Answer> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked {
        unchunked(body)
    } else {
        body.to_owned()
    };
    Some(Answer { status, body })
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        whole.push_str(rest.get(..size).unwrap_or_default());
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// A server of this test process that answers every request alike and remembers them.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers with a status line and a body, after a pause.
    pub(crate) fn start(status: &'static str, body: &'static str, pause: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let record = record.clone();
                thread::spawn(move || serve(stream, &record, status, body, pause));
            }
        });
        Self { port, seen }
    }

    /// The requests so far: head and body.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    record: &Mutex<Vec<String>>,
    status: &str,
    body: &str,
    pause: Duration,
) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if !reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                return;
            }
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
            request.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut content = vec![0; length];
        if reader.read_exact(&mut content).is_err() {
            return;
        }
        request.push_str(&String::from_utf8_lossy(&content));
        record.lock().unwrap().push(request);
        thread::sleep(pause);
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
