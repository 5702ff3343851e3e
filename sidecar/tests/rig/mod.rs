//! The real `daprd`, started for one test.
//!
//! Every process gets a folder and an environment of its own, ports that the system chooses, and is killed when
//! it is dropped. Its log is read line by line; a test that fails shows it. Nothing waits for a duration.

#![allow(dead_code, reason = "each test file uses a part of the rig")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a rig that cannot be set up fails its test at once"
)]

use std::{
    future::Future,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use ironside_testkit::{
    grpc::{GrpcClient, GrpcReply},
    http::{Answer, Connection, Gate, HttpApp, Reply, Request},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::watch,
};

/// Longest wait for anything; far above what a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A port that nobody can listen on without privileges: an app that never comes.
pub(crate) const NEVER: u16 = 1;

/// `future`, or a failed test.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_elapsed) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

/// A process that has not been started.
pub(crate) struct Plan {
    folder: TempDir,
    words: Vec<String>,
    env: Vec<(String, String)>,
}

/// A process.
pub(crate) struct Daprd {
    folder: TempDir,
    child: Child,
    lines: watch::Receiver<Vec<String>>,
}

impl Plan {
    /// A sidecar named `appa` on ports that the system chooses, with an app on `app_port`.
    pub(crate) fn new(app_port: u16) -> Self {
        let app_port = app_port.to_string();
        Self::bare(&[
            "--app-id",
            "appa",
            "--app-port",
            &app_port,
            "--dapr-http-port",
            "0",
            "--dapr-grpc-port",
            "0",
            "--metrics-port",
            "0",
            "--dapr-listen-addresses",
            "127.0.0.1",
            "--dapr-internal-grpc-listen-address",
            "127.0.0.1",
            "--metrics-listen-address",
            "127.0.0.1",
        ])
    }

    /// A process with exactly these words.
    pub(crate) fn bare(words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let runtime = folder.path().to_str().unwrap().to_owned();
        Self {
            words: words.iter().map(ToString::to_string).collect(),
            // The registry of sidecars belongs to the test, not to the user.
            env: vec![("XDG_RUNTIME_DIR".to_owned(), runtime)],
            folder,
        }
    }

    pub(crate) fn words(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(ToString::to_string));
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Path of a file in this process's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        write(&self.path(name), text)
    }

    pub(crate) fn start(self) -> Daprd {
        let Self { folder, words, env } = self;
        let mut child = Command::new(env!("CARGO_BIN_EXE_daprd"))
            .args(&words)
            .env_clear()
            .envs(env)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, lines) = watch::channel(Vec::new());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        collect(stdout, sender.clone());
        collect(stderr, sender);
        Daprd {
            folder,
            child,
            lines,
        }
    }
}

/// Writes a file whole: a reader sees the old one or the new one.
pub(crate) fn write(path: &Path, text: &str) -> PathBuf {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(&draft, path).unwrap();
    path.to_owned()
}

#[expect(clippy::disallowed_methods, reason = "the rig has no task owner")]
fn collect<R: tokio::io::AsyncRead + Unpin + Send + 'static>(
    reader: BufReader<R>,
    sender: watch::Sender<Vec<String>>,
) {
    tokio::spawn(async move {
        let mut lines = reader.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            sender.send_modify(|all| all.push(line));
        }
    });
}

impl Daprd {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// All lines so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }

    /// Waits for a line that holds `text`.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        self.line_after(0, text).await
    }

    /// Waits for such a line after the first `skip` ones.
    pub(crate) async fn line_after(&mut self, skip: usize, text: &str) -> String {
        let found = |lines: &Vec<String>| {
            let mut rest = lines.iter().skip(skip);
            rest.find(|line| line.contains(text)).cloned()
        };
        let waited = tokio::time::timeout(DEADLINE, self.lines.wait_for(|l| found(l).is_some()));
        let line = match waited.await {
            Ok(Ok(lines)) => found(&lines),
            Ok(Err(_)) | Err(_) => None,
        };
        line.unwrap_or_else(|| panic!("no line with {text:?} in\n{}", self.log().join("\n")))
    }

    async fn port(&mut self, text: &str) -> u16 {
        let line = self.line(text).await;
        let (_, after) = line.split_once(text).unwrap();
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap()
    }

    pub(crate) async fn http_port(&mut self) -> u16 {
        self.port("HTTP server is running on port ").await
    }

    pub(crate) async fn grpc_port(&mut self) -> u16 {
        self.port("API gRPC server is running on port ").await
    }

    pub(crate) async fn internal_port(&mut self) -> u16 {
        self.port("Internal gRPC server is running on 127.0.0.1:")
            .await
    }

    pub(crate) async fn metrics_port(&mut self) -> u16 {
        self.port("metrics server started on 127.0.0.1:").await
    }

    /// Waits until the app was found and everything runs.
    pub(crate) async fn ready(&mut self) {
        self.line("dapr initialized. Status: Running.").await;
    }

    /// One request to the HTTP API over a connection of its own.
    pub(crate) async fn ask(&mut self, request: Request) -> Reply {
        let port = self.http_port().await;
        within("an answer", ask(port, request)).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.ask(Request::get(path)).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the process and returns its exit code.
    pub(crate) async fn exit_code(&mut self) -> i32 {
        let status = match tokio::time::timeout(DEADLINE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_elapsed) => panic!("it runs on:\n{}", self.log().join("\n")),
        };
        status.code().expect("ended by itself")
    }

    /// SIGTERM, then the exit code.
    pub(crate) async fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.exit_code().await
    }

    /// The exit code of a process that ends by itself, and all it said.
    pub(crate) async fn end(mut self) -> (i32, String) {
        let code = self.exit_code().await;
        // Both pipes are at their end once their readers have let go of the list.
        while within("the end of the log", self.lines.changed())
            .await
            .is_ok()
        {}
        (code, self.log().join("\n"))
    }
}

/// One request over a connection of its own.
pub(crate) async fn ask(port: u16, request: Request) -> Reply {
    let mut connection = Connection::tcp(port).await.unwrap();
    connection.send(&request).await.unwrap()
}

/// An app that answers 200 to everything.
pub(crate) async fn app() -> HttpApp {
    HttpApp::start(|seen| Answer::text(&format!("{} {}", seen.method(), seen.path())))
        .await
        .unwrap()
}

/// The TCP ports a process listens on, as the kernel lists them.
pub(crate) fn listening(pid: u32) -> Vec<u16> {
    let sockets: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|entries| {
            let links = entries
                .flatten()
                .filter_map(|entry| std::fs::read_link(entry.path()).ok());
            links
                .filter_map(|link| {
                    Some(
                        link.to_str()?
                            .strip_prefix("socket:[")?
                            .strip_suffix(']')?
                            .to_owned(),
                    )
                })
                .collect()
        })
        .unwrap_or_default();
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        let listens = *state == "0A" && sockets.iter().any(|socket| socket == inode);
        listens
            .then(|| u16::from_str_radix(local.split(':').nth(1)?, 16).ok())
            .flatten()
    };
    table.lines().filter_map(port).collect()
}

/// An app whose `/hang` waits for the gate.
pub(crate) async fn hanging(gate: &Gate) -> HttpApp {
    let gate = gate.clone();
    HttpApp::start(move |seen| match seen.path() {
        "/hang" => Answer::status(200).gate(&gate).body("late"),
        _ => Answer::text("ok"),
    })
    .await
    .unwrap()
}

/// One unary call over a connection of its own.
pub(crate) async fn rpc(
    port: u16,
    path: &str,
    metadata: &[(&str, &str)],
    message: &[u8],
) -> GrpcReply {
    within(path, async {
        let client = GrpcClient::connect(port).await.unwrap();
        client.call(path, metadata, &[message]).await.unwrap()
    })
    .await
}
