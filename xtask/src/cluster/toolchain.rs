//! Programs of Kubernetes built from the Go module proxy, once, into a cache folder outside the checkout.
//!
//! What is built is pinned by `e2e/cluster/*/go.mod` and `go.sum`; the folder's name is a digest of these files
//! and of the flags, so that another checkout with the same files finds everything ready. The cache of the Go
//! compiler is thrown away at the end: it is many times as large as the programs.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{deadline::Stopwatch, surroundings::Surroundings};

/// A version of Kubernetes that clusters are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    /// The oldest one that is supported.
    #[default]
    Oldest,
    /// The newest one that there is.
    Newest,
}

impl Version {
    /// What its programs call themselves; without it kubectl and helm refuse them.
    pub(crate) const fn number(self) -> &'static str {
        match self {
            Self::Oldest => "v1.34.4",
            Self::Newest => "v1.36.3",
        }
    }

    /// The folder of its go.mod.
    const fn module(self) -> &'static str {
        match self {
            Self::Oldest => KUBERNETES,
            Self::Newest => "kubernetes-newest",
        }
    }
}

/// The module that differs from version to version.
const KUBERNETES: &str = "kubernetes";

/// A program: its name, the folder of its go.mod below `e2e/cluster`, its package.
struct Program {
    name: &'static str,
    module: &'static str,
    package: &'static str,
}

const fn kubernetes(name: &'static str, package: &'static str) -> Program {
    Program {
        name,
        module: KUBERNETES,
        package,
    }
}

/// In the order of the build: what a person wants to call first comes first.
const PROGRAMS: [Program; 9] = [
    Program {
        name: "helm",
        module: "helm",
        package: "helm.sh/helm/v3/cmd/helm",
    },
    kubernetes("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    kubernetes("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    kubernetes("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    kubernetes(
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
    kubernetes("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    kubernetes("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    Program {
        name: "etcd",
        module: "etcd",
        package: "go.etcd.io/etcd/server/v3",
    },
    Program {
        name: "coredns",
        module: "coredns",
        package: "github.com/coredns/coredns",
    },
];

const MODULES: [&str; 4] = ["helm", KUBERNETES, "etcd", "coredns"];

/// The process that holds a pod's namespaces open.
const PAUSE: &str = "pause.rs";

/// Ready programs.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    folder: PathBuf,
    version: Version,
}

impl Toolchain {
    /// Where the programs of this checkout are or would be.
    ///
    /// # Errors
    /// If a file that pins them cannot be read.
    pub(crate) fn locate(around: &Surroundings, version: Version) -> Result<Self> {
        let mut digest = Sha256::new();
        let pins = around.sources("e2e/cluster");
        for module in MODULES {
            let module = module_of(module, version);
            for file in ["go.mod", "go.sum"] {
                digest.update(read(&pins.join(module).join(file))?);
            }
        }
        digest.update(read(&pins.join(PAUSE))?);
        for program in &PROGRAMS {
            digest.update(flags(program, version).join(" "));
        }
        let name: String = digest
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Self {
            folder: around.shared().join("cluster").join(name),
            version,
        })
    }

    /// Builds what is missing, with a line for each program.
    ///
    /// # Errors
    /// Without Go, or if a build fails.
    pub(crate) fn ensure(&self, around: &Surroundings) -> Result<()> {
        if self.missing().is_empty() {
            return Ok(());
        }
        fs::create_dir_all(self.bin())
            .with_context(|| format!("cache folder {}", self.folder.display()))?;
        // Two recipes at once would build everything twice, and link it.
        let guard = File::create(self.folder.join("lock")).context("lock of the cache folder")?;
        guard.lock().context("lock of the cache folder")?;
        self.share(around)?;
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        Self::need_go(around)?;
        let watch = Stopwatch::start();
        let compiled = self.folder.join("go-build");
        let count = missing.len();
        for (index, name) in missing.iter().enumerate() {
            let single = Stopwatch::start();
            self.build(around, name, &compiled)?;
            eprintln!(
                "-- built {name} ({} of {count}, {})",
                index.saturating_add(1),
                single.seconds()
            );
        }
        discard(&compiled)?;
        eprintln!("-- the cluster's programs are ready ({})", watch.seconds());
        Ok(())
    }

    /// Takes over what is the same in every version.
    fn share(&self, around: &Surroundings) -> Result<()> {
        if self.version == Version::default() {
            return Ok(());
        }
        let usual = Self::locate(around, Version::default())?;
        usual.ensure(around)?;
        let others = PROGRAMS
            .iter()
            .filter(|program| program.module != KUBERNETES);
        for name in others.map(|program| program.name).chain(["pause"]) {
            let at = self.bin().join(name);
            link(&usual.bin().join(name), &at).with_context(|| format!("{}", at.display()))?;
        }
        Ok(())
    }

    /// Says which Go there is.
    ///
    /// # Errors
    /// If there is none, or an older one that brings no newer one by itself.
    pub(crate) fn need_go(around: &Surroundings) -> Result<String> {
        // A Go that fetches the version of a go.mod says which one that is.
        let mut go = around.program("go");
        go.current_dir(around.sources("e2e/cluster/helm"));
        let answer = go.arg("version").output();
        let said = match answer {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                bail!(
                    "the cluster's programs are built with Go 1.26 or newer: {why}: https://go.dev/dl"
                )
            }
            Err(_) => bail!(
                "the cluster's programs are built with Go 1.26 or newer, which is not in PATH: https://go.dev/dl"
            ),
        };
        if version(&said).is_none_or(|found| found < GO) {
            bail!(
                "the cluster's programs are built with Go 1.26 or newer, not with {said:?}: https://go.dev/dl"
            );
        }
        Ok(said)
    }

    /// The folder of the programs.
    pub(crate) fn bin(&self) -> PathBuf {
        self.folder.join("bin")
    }

    /// A call of one of the programs.
    pub(crate) fn program(&self, name: &str) -> Command {
        Command::new(self.bin().join(name))
    }

    /// Names of programs that are not built yet.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        PROGRAMS
            .iter()
            .map(|program| program.name)
            .chain(["pause"])
            .filter(|name| !self.bin().join(name).is_file())
            .collect()
    }

    fn build(&self, around: &Surroundings, name: &str, compiled: &Path) -> Result<()> {
        // Renamed when complete: a build that was killed leaves no half program behind.
        let unfinished = self.folder.join(format!("{name}.unfinished"));
        let mut command = match PROGRAMS.iter().find(|program| program.name == name) {
            Some(program) => {
                let mut go = around.program("go");
                let module = module_of(program.module, self.version);
                go.current_dir(around.sources("e2e/cluster").join(module))
                    .env("CGO_ENABLED", "0")
                    .env("GOCACHE", compiled)
                    .env("GOWORK", "off")
                    .args(flags(program, self.version))
                    .arg("-o")
                    .arg(&unfinished)
                    .arg(program.package);
                go
            }
            None => {
                let mut rustc = around.program(around.rustc());
                rustc
                    .args(["--edition", "2024", "--crate-type", "bin"])
                    .args([
                        "-C",
                        "opt-level=s",
                        "-C",
                        "panic=abort",
                        "-C",
                        "strip=symbols",
                    ])
                    .args(["-C", "target-feature=+crt-static", "-o"])
                    .arg(&unfinished)
                    .arg(around.sources("e2e/cluster").join(PAUSE));
                rustc
            }
        };
        let output = command
            .output()
            .with_context(|| format!("starting the build of {name}"))?;
        if !output.status.success() {
            bail!(
                "{name} does not build:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        fs::rename(&unfinished, self.bin().join(name))
            .with_context(|| format!("putting {name} into place"))
    }
}

/// Puts a link to `program` at `at`, unless something works there; a link to what is gone does not.
fn link(program: &Path, at: &Path) -> std::io::Result<()> {
    if at.exists() {
        return Ok(());
    }
    if at.symlink_metadata().is_ok() {
        fs::remove_file(at)?;
    }
    symlink(program, at)
}

/// The folder of a module's go.mod.
fn module_of(module: &'static str, version: Version) -> &'static str {
    if module == KUBERNETES {
        version.module()
    } else {
        module
    }
}

fn flags(program: &Program, version: Version) -> Vec<String> {
    let mut link = "-s -w".to_owned();
    if program.module == KUBERNETES {
        let at = "k8s.io/component-base/version";
        let number = version.number();
        let mut numbers = number.trim_start_matches('v').split('.');
        let major = numbers.next().unwrap_or_default();
        let minor = numbers.next().unwrap_or_default();
        link.push_str(&format!(
            " -X {at}.gitVersion={number} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"
        ));
    }
    ["build", "-trimpath", "-mod=readonly", "-buildvcs=false"]
        .map(str::to_owned)
        .into_iter()
        .chain(["-ldflags".to_owned(), link])
        .collect()
}

/// The Go that the first of the programs needs; its go.mod says so as well.
const GO: (u32, u32) = (1, 26);

/// The two first numbers in what `go version` says: `go version go1.26.8 linux/amd64`.
fn version(said: &str) -> Option<(u32, u32)> {
    let number = said.split_whitespace().nth(2)?.strip_prefix("go")?;
    let mut parts = number.split('.');
    let major = parts.next()?.parse().ok()?;
    // `1.27rc1` is what becomes 1.27.
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit());
    let minor = minor.get(..digits.unwrap_or(minor.len()))?.parse().ok()?;
    Some((major, minor))
}

/// Go writes its cache read-only in places; a folder that does not go away is worth a word.
fn discard(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("removing the compiler's cache {}", folder.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_go_says() {
        for (said, expected) in [
            ("go version go1.26.8 linux/amd64", Some((1, 26))),
            ("go version go1.27rc1 linux/amd64", Some((1, 27))),
            ("go version go1.19 linux/amd64", Some((1, 19))),
            ("go version devel +abc", None),
            ("", None),
        ] {
            assert_eq!(version(said), expected, "{said}");
        }
        assert!(version("go version go1.19.8 linux/amd64").unwrap() < GO);
    }

    #[test]
    fn a_link_is_made_once_and_again_when_it_leads_nowhere() {
        let folder = std::env::temp_dir().join(format!("ironside-links-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [program, gone, at] = ["program", "gone", "at"].map(|name| folder.join(name));
        fs::write(&program, "").unwrap();
        symlink(&gone, &at).unwrap();
        link(&program, &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), program);
        // What works is left as it is.
        link(&gone, &at).unwrap();
        assert_eq!(fs::read_link(&at).unwrap(), program);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_newest_go_of_the_pins_is_the_one_that_is_asked_for() {
        let around = Surroundings::read().unwrap();
        let pins = around.sources("e2e/cluster");
        let modules = MODULES.into_iter().chain([Version::Newest.module()]);
        let newest = modules.map(|module| {
            let text = String::from_utf8(read(&pins.join(module).join("go.mod")).unwrap()).unwrap();
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("go "))
                .unwrap();
            version(&format!("go version go{line} x")).unwrap()
        });
        assert_eq!(newest.max(), Some(GO));
    }
}
