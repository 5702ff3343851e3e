//! Settings of the parts that are configured by files.
//!
//! Templates with the cluster's paths and addresses; the reasons for unusual values stand beside them.

use anyhow::Result;

use super::{folder::Folder, network, packages};

/// Writes all of them.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn write(folder: &Folder, cgroup: &str) -> Result<()> {
    folder.write(&folder.etc("containerd.toml"), &containerd(folder))?;
    folder.write(&folder.etc("cni/10-pods.conflist"), &pods())?;
    folder.write(&folder.etc("kubelet.yaml"), &kubelet(folder, cgroup))?;
    folder.write(&folder.etc("kube-proxy.yaml"), &proxy(folder))?;
    folder.write(&folder.etc("dns.yaml"), &dns())?;
    // The pods' own: the host's servers are out of reach.
    folder.write(&folder.etc("resolv.conf"), "")
}

/// Root, state and socket are the defaults: the machine's `/run` and `/var/lib` are its own.
fn containerd(folder: &Folder) -> String {
    let plugins = packages::CNI;
    let networks = folder.etc("cni").display().to_string();
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE nobody may lower a score.
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

/// Point-to-point links: a bridge would need the kernel's bridge filter for a pod that calls its own Service.
fn pods() -> String {
    let subnet = network::PODS;
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{
  "type": "ptp", "ipMasq": false,
  "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{subnet}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}
}}]}}
"#
    )
}

fn kubelet(folder: &Folder, cgroup: &str) -> String {
    let pki = |name: &str| folder.pki(name).display().to_string();
    let authority = pki("ca.crt");
    let certificate = pki("node.crt");
    let key = pki("node.key");
    let resolv = folder.etc("resolv.conf").display().to_string();
    let dns = network::DNS_SERVICE;
    // Images cannot be pulled again, so none is collected; nothing is evicted from a memory file system.
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {authority}}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
clusterDomain: cluster.local
clusterDNS: [{dns}]
resolvConf: {resolv}
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
oomScoreAdj: 0
makeIPTablesUtilChains: false
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 0%, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}}
maxPods: 240
serializeImagePulls: false
volumePluginDir: /var/lib/kubelet/volume-plugins
"#
    )
}

fn proxy(folder: &Folder) -> String {
    let kubeconfig = folder.etc("kube-proxy.kubeconfig").display().to_string();
    let node = network::NODE_NAME;
    let pods = network::PODS;
    // Limits of the connection table belong to the host: its sysctls are not ours to set.
    format!(
        r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: {node}
clusterCIDR: {pods}
clientConnection: {{kubeconfig: {kubeconfig}}}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#
    )
}

/// The image of the sandbox's process.
pub(crate) const PAUSE_IMAGE: &str = "ironside.test/pause:e2e";
/// The image of the cluster's DNS.
pub(crate) const DNS_IMAGE: &str = "ironside.test/coredns:e2e";

/// Caching and times to live are those of a cluster made by kubeadm: tests meet names as old as users do.
fn dns() -> String {
    let address = network::DNS_SERVICE;
    format!(
        r#"apiVersion: v1
kind: ServiceAccount
metadata: {{name: coredns, namespace: kube-system}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: system:coredns}}
rules:
- {{apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}}
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: system:coredns}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}}
subjects: [{{kind: ServiceAccount, name: coredns, namespace: kube-system}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: coredns, namespace: kube-system}}
data:
  Corefile: |
    .:53 {{
        errors
        health
        ready
        kubernetes cluster.local in-addr.arpa ip6.arpa {{
           pods insecure
           fallthrough in-addr.arpa ip6.arpa
           ttl 30
        }}
        cache 30 {{
           disable success cluster.local
           disable denial cluster.local
        }}
        reload
        loadbalance
    }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: coredns, namespace: kube-system, labels: {{k8s-app: kube-dns}}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{k8s-app: kube-dns}}}}
  template:
    metadata: {{labels: {{k8s-app: kube-dns}}}}
    spec:
      serviceAccountName: coredns
      priorityClassName: system-cluster-critical
      dnsPolicy: Default
      containers:
      - name: coredns
        image: {DNS_IMAGE}
        imagePullPolicy: Never
        args: [-conf, /etc/coredns/Corefile]
        volumeMounts: [{{name: config, mountPath: /etc/coredns, readOnly: true}}]
        ports:
        - {{containerPort: 53, name: dns, protocol: UDP}}
        - {{containerPort: 53, name: dns-tcp, protocol: TCP}}
        readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
        securityContext:
          allowPrivilegeEscalation: false
          capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}
          readOnlyRootFilesystem: true
      volumes:
      - name: config
        configMap: {{name: coredns}}
---
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system, labels: {{k8s-app: kube-dns}}}}
spec:
  clusterIP: {address}
  selector: {{k8s-app: kube-dns}}
  ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
"#
    )
}
