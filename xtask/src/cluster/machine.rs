//! The machine: first process of the cluster's namespaces, parent of every part.
//!
//! It mounts, brings the network up, starts the parts in the order in which they need each other, says how far it
//! got on stdout, and then keeps what should run running. As first process it also collects orphans. Commands
//! reach it as notes in the folder (`stopped/<part>`); a note `stopped/node` is a node whose power is off.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::{
    calls::{call, output},
    cgroups,
    folder::{Folder, READY},
    forward, network,
    parts::Part,
    toolchain::Toolchain,
};
use crate::deadline::{Stopwatch, until};

/// Far above what any step takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// How often the machine looks for ended children and for notes.
const STEP: Duration = Duration::from_millis(50);

/// The note that means the whole node.
pub(crate) const NODE: &str = "node";

/// How long a part that ended stays down.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the machine; ends only by a failed start or by being killed.
///
/// # Errors
/// Names the step that failed, and the log that says why.
pub(crate) fn run(folder: &Folder, tools: &Toolchain, images: &Path) -> Result<()> {
    // Before the new /proc is mounted, the old one still says who this is outside.
    let outside = fs::read_link("/proc/self").context("own process id")?;
    let outside = outside
        .to_str()
        .and_then(|name| name.parse().ok())
        .context("own process id")?;
    let mut machine = Machine {
        folder,
        tools,
        running: BTreeMap::new(),
        node_is_off: false,
    };
    folder.note_pid("machine.pid", outside)?;
    if let Err(error) = machine.start(images) {
        say(&format!("failed: {error:#}"))?;
        return Err(error);
    }
    loop {
        machine.look();
        thread::sleep(STEP);
    }
}

/// A part that was started at least once.
#[derive(Debug)]
struct Run {
    /// Its process, while it lives.
    process: Option<Pid>,
    /// Since when it is down.
    down: Stopwatch,
}

struct Machine<'a> {
    folder: &'a Folder,
    tools: &'a Toolchain,
    running: BTreeMap<&'static str, Run>,
    node_is_off: bool,
}

impl Machine<'_> {
    fn start(&mut self, images: &Path) -> Result<()> {
        let watch = Stopwatch::start();
        mounts()?;
        network::bring_up()?;
        forward::serve_stdin()?;
        for part in [Part::Etcd, Part::Containerd, Part::KubeApiserver] {
            self.launch(part)?;
        }
        self.wait_for("container runtime", |machine| {
            machine.quietly(Command::new("ctr").args(["version"]))
        })?;
        output(
            Command::new("ctr")
                .args(["--namespace", "k8s.io", "images", "import"])
                .arg(images),
        )
        .context("images of the cluster itself")?;
        say(&format!("container runtime ({})", watch.seconds()))?;
        self.wait_for("API server", |machine| {
            machine.quietly(machine.kubectl().args(["get", "--raw=/readyz"]))
        })?;
        say(&format!("API server ({})", watch.seconds()))?;
        // Earlier they would end: the roles they are bound to are made by the API server's start.
        for part in [
            Part::KubeControllerManager,
            Part::KubeScheduler,
            Part::Kubelet,
            Part::KubeProxy,
        ] {
            self.launch(part)?;
        }
        let dns = self.folder.etc("dns.yaml");
        output(self.kubectl().args(["apply", "--filename"]).arg(dns)).context("cluster DNS")?;
        let node = format!("node/{}", network::NODE_NAME);
        self.wait_for("node Ready", |machine| {
            let mut command = machine.kubectl();
            command.args(["wait", "--for=condition=Ready", "--timeout=1s", &node]);
            machine.quietly(&mut command)
        })?;
        say(&format!("node Ready ({})", watch.seconds()))?;
        self.wait_for("cluster DNS", |machine| {
            let mut command = machine.kubectl();
            command.args(["--namespace", "kube-system", "rollout", "status"]);
            machine.quietly(command.args(["--timeout=1s", "deployment/coredns"]))
        })?;
        say(&format!("cluster DNS ({})", watch.seconds()))?;
        say(READY)
    }

    /// Waits, and fails early when a part ended.
    fn wait_for(&mut self, what: &str, look: impl Fn(&Self) -> bool) -> Result<()> {
        until(what, LIMIT, || {
            if look(self) {
                return Ok(Some(()));
            }
            self.collect();
            let ended = self.running.iter().find(|(_, run)| run.process.is_none());
            if let Some((name, _)) = ended {
                bail!("{name} ended: {}", self.folder.log(name).display());
            }
            Ok(None)
        })
    }

    fn kubectl(&self) -> Command {
        let mut command = self.tools.program("kubectl");
        command
            .arg("--kubeconfig")
            .arg(self.folder.etc("admin.kubeconfig"));
        command
    }

    fn quietly(&self, command: &mut Command) -> bool {
        let quiet = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    fn launch(&mut self, part: Part) -> Result<()> {
        let path = self.folder.log(part.name());
        let log = File::options()
            .append(true)
            .create(true)
            .open(&path)
            .with_context(|| format!("{}", path.display()))?;
        let both = log.try_clone().context("a second handle of a log")?;
        let child = part
            .command(self.folder, self.tools)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(both)
            .spawn()
            .with_context(|| format!("starting {}", part.name()))?;
        let process = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let down = Stopwatch::start();
        self.running.insert(part.name(), Run { process, down });
        self.folder
            .note_pid(&format!("{}.pid", part.name()), child.id())
    }

    /// One look at children and notes.
    fn look(&mut self) {
        self.collect();
        let off = self.folder.stopped(NODE).exists();
        if off && !self.node_is_off {
            self.power_off();
        }
        self.node_is_off = off;
        for part in Part::value_variants() {
            let part = *part;
            let stopped =
                self.folder.stopped(part.name()).exists() || (off && part.is_of_the_node());
            let Some(run) = self.running.get(part.name()) else {
                continue;
            };
            match run.process {
                Some(process) if stopped => {
                    let _gone = kill_process(process, Signal::KILL);
                }
                // What ends by itself comes back as a static pod would.
                None if !stopped && run.down.elapsed() > PAUSE => {
                    if let Err(error) = self.launch(part) {
                        eprintln!("{}: {error:#}", part.name());
                    }
                }
                Some(_) | None => {}
            }
        }
    }

    /// Takes the status of every child that ended: parts, and orphans of containers.
    fn collect(&mut self) {
        while let Ok(Some((ended, status))) = wait(WaitOptions::NOHANG) {
            let part = self
                .running
                .iter_mut()
                .find(|(_, run)| run.process == Some(ended));
            if let Some((name, run)) = part {
                eprintln!("{name} ended: {status:?}");
                *run = Run {
                    process: None,
                    down: Stopwatch::start(),
                };
                drop(fs::remove_file(self.folder.file(&format!("{name}.pid"))));
            }
        }
    }

    /// What a loss of power does to a node: every process but the control plane's is gone, and every mount.
    fn power_off(&mut self) {
        let control: Vec<Pid> = Part::value_variants()
            .iter()
            .filter(|part| !part.is_of_the_node())
            .filter_map(|part| self.running.get(part.name())?.process)
            .chain([Pid::INIT])
            .collect();
        let gone = until("the end of the node's processes", LIMIT, || {
            let victims: Vec<Pid> = processes()
                .into_iter()
                .filter(|process| !control.contains(process))
                .collect();
            for process in &victims {
                let _gone = kill_process(*process, Signal::KILL);
            }
            self.collect();
            Ok(victims.is_empty().then_some(()))
        });
        if let Err(error) = gone {
            eprintln!("{error:#}");
        }
        if let Some(keeper) = self.folder.noted("keeper.pid") {
            cgroups::empty(&cgroups::name(keeper.as_raw_pid().unsigned_abs()));
        }
        forget_mounts();
    }
}

/// Processes of this namespace that are not already dead.
fn processes() -> Vec<Pid> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// Unmounts and removes what a start of the node finds empty.
fn forget_mounts() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let ours = |at: &&str| {
        [
            "/run/containerd/",
            "/run/netns/",
            "/var/lib/kubelet/",
            "/var/lib/containerd/",
        ]
        .iter()
        .any(|folder| at.starts_with(folder))
    };
    let places: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(ours)
        .collect();
    for place in places.iter().rev() {
        drop(call("umount", &["--lazy", place]));
    }
    for folder in ["/run/containerd", "/run/netns"] {
        drop(fs::remove_dir_all(folder));
    }
    drop(fs::create_dir_all("/run/netns"));
}

/// File systems of the machine's own, over what of the host it must neither see nor change.
fn mounts() -> Result<()> {
    call("mount", &["-t", "proc", "proc", "/proc"])?;
    for place in super::folder::HIDDEN {
        call("mount", &["-t", "tmpfs", "-o", "mode=0755", "tmpfs", place])?;
    }
    for folder in [
        "/run/lock",
        "/run/netns",
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/var/lib/etcd",
    ] {
        fs::create_dir_all(folder).with_context(|| format!("{folder} of the machine"))?;
    }
    Ok(())
}

/// One line for whoever waits for the start.
fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").context("the machine's notes")?;
    stdout.flush().context("the machine's notes")
}
