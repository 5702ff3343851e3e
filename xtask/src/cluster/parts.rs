//! Command lines of the parts that run all the time.

use std::process::Command;

use super::{folder::Folder, network, toolchain::Toolchain};

/// A part of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "kebab-case")]
pub(crate) enum Part {
    /// The store.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// The container runtime.
    Containerd,
    /// The controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The node's agent.
    Kubelet,
    /// The node's rules for Services.
    KubeProxy,
}

impl Part {
    /// Its name, of the program and of the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::Containerd => "containerd",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// Whether it ends when the node does.
    pub(crate) fn is_of_the_node(self) -> bool {
        match self {
            Self::Containerd | Self::Kubelet | Self::KubeProxy => true,
            Self::Etcd
            | Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler => false,
        }
    }

    /// Its command line.
    pub(crate) fn command(self, folder: &Folder, tools: &Toolchain) -> Command {
        let mut command = match self {
            Self::Containerd => Command::new("containerd"),
            Self::Etcd
            | Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubelet
            | Self::KubeProxy => tools.program(self.name()),
        };
        command.args(match self {
            Self::Etcd => etcd(),
            Self::KubeApiserver => api_server(folder),
            Self::Containerd => vec![format!("--config={}", etc(folder, "containerd.toml"))],
            Self::KubeControllerManager => controller_manager(folder),
            Self::KubeScheduler => vec![
                format!("--kubeconfig={}", etc(folder, "kube-scheduler.kubeconfig")),
                "--leader-elect=false".to_owned(),
                "--bind-address=127.0.0.1".to_owned(),
            ],
            Self::Kubelet => vec![
                format!("--config={}", etc(folder, "kubelet.yaml")),
                format!("--kubeconfig={}", etc(folder, "kubelet.kubeconfig")),
                format!("--node-ip={}", network::NODE),
                format!("--hostname-override={}", network::NODE_NAME),
            ],
            Self::KubeProxy => vec![format!("--config={}", etc(folder, "kube-proxy.yaml"))],
        });
        command
    }
}

fn etcd() -> Vec<String> {
    [
        "--name=node1",
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=node1=http://127.0.0.1:2380",
        // The store ends with the cluster.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server(folder: &Folder) -> Vec<String> {
    let mut arguments = [
        "--etcd-servers=http://127.0.0.1:2379",
        "--secure-port=6443",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(format!("--advertise-address={}", network::NODE));
    arguments.push(format!("--service-cluster-ip-range={}", network::SERVICES));
    for (flag, file) in [
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "apiserver.crt"),
        ("tls-private-key-file", "apiserver.key"),
        ("kubelet-certificate-authority", "ca.crt"),
        ("kubelet-client-certificate", "api-to-kubelet.crt"),
        ("kubelet-client-key", "api-to-kubelet.key"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
    ] {
        arguments.push(format!("--{flag}={}", pki(folder, file)));
    }
    arguments
}

fn controller_manager(folder: &Folder) -> Vec<String> {
    vec![
        format!(
            "--kubeconfig={}",
            etc(folder, "kube-controller-manager.kubeconfig")
        ),
        // Addresses of pods come from the node's own plugin.
        "--controllers=*,-nodeipam".to_owned(),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--root-ca-file={}", pki(folder, "ca.crt")),
        format!(
            "--service-account-private-key-file={}",
            pki(folder, "tokens.key")
        ),
        format!("--cluster-signing-cert-file={}", pki(folder, "ca.crt")),
        format!("--cluster-signing-key-file={}", pki(folder, "ca.key")),
    ]
}

fn etc(folder: &Folder, name: &str) -> String {
    folder.etc(name).display().to_string()
}

fn pki(folder: &Folder, name: &str) -> String {
    folder.pki(name).display().to_string()
}
