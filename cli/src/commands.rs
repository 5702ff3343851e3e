//! The table of commands and flags: the one source of parsing, usage texts, completion scripts and reference pages.
//!
//! Facts: cli-and-clients 1.1 to 1.17. Holds names, defaults and one line of help for each; what a command does is in
//! the module of its name. Commands that need Kubernetes or a building block that is not offered are here too, so that
//! they answer with a clear line instead of `unknown command`.

use crate::grammar::{Command, Example, Flag};

/// Flags of every command.
pub(crate) const GLOBAL: &[Flag] = &[
    Flag::switch("help", "Print this help message").short('h'),
    Flag::switch("log-as-json", "Log output in JSON format"),
    Flag::text(
        "runtime-path",
        "The folder that holds .dapr (default: DAPR_RUNTIME_PATH, else the home folder)",
    ),
    Flag::text(
        "kubeconfig",
        "The kubeconfig file, for commands that need Kubernetes",
    ),
    Flag::text(
        "context",
        "The kubeconfig context, for commands that need Kubernetes",
    ),
];

/// The whole program.
pub(crate) const ROOT: &Command = &Command::new(
    "ironside",
    "Ironside: service invocation over mutual TLS, compatible with Dapr applications",
)
.flags(&[Flag::switch("version", "Print the versions").short('v')])
.commands(&[
    ACCESSCONTROL,
    ANNOTATE,
    BUILD_INFO,
    COMPLETION,
    COMPONENTS,
    CONFIGURATIONS,
    DASHBOARD,
    DEMO,
    DOCTOR,
    HELP,
    INIT,
    INVOKE,
    LIST,
    LOG_LEVEL,
    LOGS,
    MCPSERVERS,
    MTLS,
    PUBLISH,
    RUN,
    SCHEDULER,
    STATUS,
    STOP,
    UNINSTALL,
    UPGRADE,
    VERSION,
    WORKFLOW,
    // Parts of this binary that start one another.
    DETACH,
    EXEC,
    INJECTOR,
    OPERATOR,
    SAMPLE,
    SENTRY,
    SIDECAR,
]);

const KUBERNETES: Flag = Flag::switch("kubernetes", "Work on a Kubernetes cluster").short('k');
const NAMESPACE: Flag = Flag::text(
    "namespace",
    "With Kubernetes: the namespace (default: default)",
)
.short('n');

const RUN: Command = Command::new(
    "run",
    "Run an application and its sidecar, or all apps of a template",
)
.words("[command]")
.examples(&[
    Example {
        what: "Run a Node application",
        how: "run --app-id myapp --app-port 3000 -- node myapp.js",
    },
    Example {
        what: "Run a sidecar alone",
        how: "run --app-id myapp --dapr-http-port 3500",
    },
    Example {
        what: "Run with mutual TLS",
        how: "run --mtls --app-id myapp --app-port 3000 -- node myapp.js",
    },
    Example {
        what: "Run all apps of a template, or of the dapr.yaml in a folder",
        how: "run --run-file dapr.yaml",
    },
    Example {
        what: "Run them in a cluster",
        how: "run -k --run-file dapr.yaml --namespace shop",
    },
])
.flags(&[
    Flag::text(
        "app-id",
        "The id of the application, by which others find it",
    )
    .short('a'),
    Flag::number("app-port", "The port the application listens on")
        .short('p')
        .or("-1"),
    Flag::text(
        "app-protocol",
        "The protocol of the application: http, https, h2c, grpc, grpcs",
    )
    .short('P')
    .or("http"),
    Flag::text("app-channel-address", "The host the application listens on").or("127.0.0.1"),
    Flag::number(
        "app-max-concurrency",
        "How many calls the application gets at once; -1 for no limit",
    )
    .or("-1"),
    Flag::switch("app-ssl", "Reach the application over TLS")
        .deprecated("use --app-protocol https or grpcs"),
    Flag::text("config", "The configuration file").short('c'),
    Flag::switch(
        "mtls",
        "Mutual TLS, with a Sentry of this user that is started when it is needed",
    ),
    Flag::number(
        "dapr-http-port",
        "The sidecar's HTTP port; -1 for a free one",
    )
    .short('H')
    .or("-1"),
    Flag::number(
        "dapr-grpc-port",
        "The sidecar's gRPC port; -1 for a free one",
    )
    .short('G')
    .or("-1"),
    Flag::number(
        "dapr-internal-grpc-port",
        "The port other sidecars call; -1 for a free one",
    )
    .short('I')
    .or("-1"),
    Flag::number(
        "metrics-port",
        "The sidecar's metrics port; -1 for a free one",
    )
    .short('M')
    .or("-1"),
    Flag::number(
        "profile-port",
        "The sidecar's profiling port; -1 for a free one",
    )
    .or("-1"),
    Flag::switch("enable-profiling", "Turn the sidecar's profiling on"),
    Flag::text(
        "log-level",
        "The sidecar's log level: debug, info, warn, error, fatal",
    )
    .or("info"),
    Flag::list("resources-path", "The folders of the resource files"),
    Flag::text("components-path", "The folder of the resource files")
        .short('d')
        .deprecated("use --resources-path"),
    Flag::text(
        "max-body-size",
        "The largest body of a request, as a quantity",
    )
    .or("4Mi"),
    Flag::text(
        "read-buffer-size",
        "The largest head of a request, as a quantity",
    )
    .or("4Ki"),
    Flag::number(
        "dapr-http-max-request-size",
        "The largest body of a request, in MiB",
    )
    .hidden(),
    Flag::number(
        "dapr-http-read-buffer-size",
        "The largest head of a request, in KiB",
    )
    .hidden(),
    Flag::text(
        "unix-domain-socket",
        "The folder for Unix sockets, which then replace the ports",
    )
    .short('u'),
    Flag::switch("enable-app-health-check", "Probe the application's health"),
    Flag::text("app-health-check-path", "The path of the health probe"),
    Flag::number(
        "app-health-probe-interval",
        "The pause between health probes, in seconds",
    ),
    Flag::number(
        "app-health-probe-timeout",
        "The limit of a health probe, in milliseconds",
    ),
    Flag::number(
        "app-health-threshold",
        "The failed probes after which the application is unhealthy",
    ),
    Flag::switch("enable-api-logging", "Log each call of the sidecar's API"),
    Flag::text(
        "dapr-listen-addresses",
        "The addresses the sidecar's API listens on, separated by commas",
    ),
    Flag::text(
        "placement-host-address",
        "The address of a placement service, passed on",
    ),
    Flag::text(
        "scheduler-host-address",
        "The address of a scheduler service, passed on",
    ),
    Flag::text(
        "run-file",
        "A template, a folder that holds dapr.yaml, or - for the standard input",
    )
    .short('f'),
    Flag::switch("strict", "Refuse a template with unknown keys"),
    Flag::switch(
        "fail-fast",
        "With a template: stop all apps as soon as one fails",
    ),
    KUBERNETES,
    NAMESPACE,
]);

const STOP: Command = Command::new("stop", "Stop apps and their sidecars")
    .words("[app-id...]")
    .examples(&[
        Example {
            what: "Stop one app",
            how: "stop --app-id myapp",
        },
        Example {
            what: "Stop all apps of a template",
            how: "stop --run-file dapr.yaml",
        },
    ])
    .flags(&[
        Flag::text("app-id", "The id of the application").short('a'),
        Flag::text("run-file", "The template whose apps are to stop").short('f'),
        KUBERNETES,
        NAMESPACE,
    ]);

const LIST: Command = Command::new("list", "List running sidecars")
    .examples(&[Example {
        what: "List sidecars as JSON",
        how: "list -o json",
    }])
    .flags(&[
        KUBERNETES,
        Flag::switch("all-namespaces", "With Kubernetes: all namespaces").short('A'),
        Flag::text("namespace", "With Kubernetes: one namespace"),
        Flag::text("output", "The form of the output: table, json, yaml")
            .short('o')
            .or("table"),
    ]);

const INVOKE: Command = Command::new("invoke", "Call a method of an app")
    .examples(&[
        Example {
            what: "Call a method with POST",
            how: "invoke --app-id target --method sample --data '{\"key\":\"value\"}'",
        },
        Example {
            what: "Call a method with GET, through another app's sidecar, so that policy and mutual TLS apply",
            how: "invoke --app-id target --from caller --method sample --verb GET",
        },
    ])
    .flags(&[
        Flag::text("app-id", "The id of the application to call").short('a').required(),
        Flag::text("method", "The method to call").short('m').required(),
        Flag::text("verb", "The HTTP verb").short('v').or("POST"),
        Flag::text("data", "The body").short('d'),
        Flag::text("data-file", "The file that holds the body").short('f'),
        Flag::repeated("header", "A header, as Name=value").short('H'),
        Flag::text("timeout", "The limit of the call, such as 10s (default: none)"),
        Flag::text("from", "The app whose sidecar makes the call (default: the target's own)"),
        Flag::text("unix-domain-socket", "The folder of the target's Unix sockets").short('u'),
        KUBERNETES,
        NAMESPACE,
    ]);

const PUBLISH: Command = Command::new("publish", "Publish a message (needs a pub/sub component)")
    .flags(&[
        Flag::text(
            "publish-app-id",
            "The id of the application whose sidecar is asked",
        )
        .short('i')
        .required(),
        Flag::text("pubsub", "The name of the pub/sub component")
            .short('p')
            .required(),
        Flag::text("topic", "The topic").short('t').required(),
        Flag::text("data", "The message").short('d'),
        Flag::text("data-file", "The file that holds the message").short('f'),
        Flag::text("metadata", "Metadata of the message, as a JSON object").short('m'),
        Flag::text("unix-domain-socket", "The folder of the app's Unix sockets").short('u'),
    ]);

const INIT: Command = Command::new(
    "init",
    "Prepare this machine: folders, the daprd link, a configuration",
)
.flags(&[
    KUBERNETES,
    Flag::switch("slim", "Accepted: Ironside never starts containers").short('s'),
    Flag::text(
        "runtime-version",
        "With Kubernetes: the tag of the images (default: this version); else accepted, the runtime is this program",
    ),
    Flag::text("from-dir", "Accepted: nothing is downloaded"),
    Flag::text("network", "Accepted: no containers are started"),
    Flag::text("container-runtime", "Accepted: no containers are started").or("docker"),
    Flag::text(
        "image-registry",
        "With Kubernetes: where images come from; else accepted, no images are used",
    ),
    Flag::text("image-variant", "Accepted: there is one image").hidden(),
    Flag::switch("print", "With Kubernetes: print the manifests and touch no cluster"),
    Flag::text("scheduler-volume", "Accepted: no containers are started").hidden(),
    Flag::switch(
        "scheduler-override-broadcast-host-port",
        "Accepted: no containers are started",
    )
    .hidden(),
    Flag::text("redis-stack", "Accepted: no containers are started").hidden(),
    Flag::text(
        "namespace",
        "With Kubernetes: the namespace of the control plane",
    )
    .short('n')
    .or("dapr-system"),
    Flag::switch("enable-mtls", "With Kubernetes: mutual TLS").or("true"),
    Flag::switch("enable-ha", "With Kubernetes: several replicas"),
    Flag::repeated("set", "With Kubernetes: a chart value"),
    Flag::switch("wait", "With Kubernetes: wait until all is ready"),
    Flag::number(
        "timeout",
        "With Kubernetes: the limit of the wait, in seconds",
    )
    .or("300"),
    Flag::switch("dev", "With Kubernetes: extra services for development").hidden(),
    ROOT_FILE,
    ISSUER_KEY_FILE,
    ISSUER_FILE,
]);

const UNINSTALL: Command = Command::new("uninstall", "Remove what init made").flags(&[
    KUBERNETES,
    Flag::switch(
        "all",
        "Remove the whole .dapr folder; with Kubernetes the definitions of kinds and all their objects",
    ),
    Flag::switch("dev", "With Kubernetes: remove the extra services too").hidden(),
    Flag::text(
        "namespace",
        "With Kubernetes: the namespace of the control plane",
    )
    .short('n')
    .or("dapr-system"),
    Flag::number(
        "timeout",
        "With Kubernetes: the limit of the wait, in seconds",
    )
    .or("300"),
    Flag::text("network", "Accepted: there are no containers"),
    Flag::text("container-runtime", "Accepted: there are no containers").or("docker"),
]);

const VERSION: Command = Command::new("version", "Print the versions").flags(&[Flag::text(
    "output",
    "The form of the output: json (default: two lines)",
)
.short('o')]);

const BUILD_INFO: Command = Command::new("build-info", "Print how this program was built");

const HELP: Command = Command::new("help", "Help about any command").words("[command]");

const COMPLETION: Command = Command::new("completion", "Print a completion script for a shell")
    .commands(&[
        Command::new("bash", "Print the completion script for bash"),
        Command::new("fish", "Print the completion script for fish"),
        Command::new("powershell", "Print the completion script for PowerShell"),
        Command::new("zsh", "Print the completion script for zsh"),
    ]);

const DEMO: Command = Command::new(
    "demo",
    "Watch two apps call each other through two sidecars",
)
.examples(&[
    Example {
        what: "See it work, in under 15 seconds",
        how: "demo",
    },
    Example {
        what: "Leave it running, to call it with curl",
        how: "demo --stay",
    },
])
.flags(&[Flag::switch("stay", "Keep running until Ctrl-C")]);

const CREDENTIALS: Flag = Flag::text(
    "issuer-credentials",
    "The folder of Sentry's certificates, as Sentry was given it",
);
const ROOT_FILE: Flag = Flag::text(
    "ca-root-certificate",
    "With Kubernetes: the root certificate of an authority of yours",
);
const ISSUER_KEY_FILE: Flag = Flag::text(
    "issuer-private-key",
    "With Kubernetes: the key of its issuer",
);
const ISSUER_FILE: Flag = Flag::text(
    "issuer-public-certificate",
    "With Kubernetes: the certificate of its issuer",
);
const MTLS: Command = Command::new("mtls", "Look after the certificates of a Sentry")
    .examples(&[
        Example {
            what: "See roots, issuer and rotation of a Sentry",
            how: "mtls --issuer-credentials ~/.ironside-ca",
        },
        Example {
            what: "Have root and issuer replaced now",
            how: "mtls renew-certificate --issuer-credentials ~/.ironside-ca",
        },
        Example {
            what: "Say whether mutual TLS is on in the current cluster",
            how: "mtls -k",
        },
    ])
    .flags(&[
        CREDENTIALS,
        KUBERNETES,
        Flag::text("output", "table or json").short('o').or("table"),
    ])
    .commands(&[
        Command::new("expiry", "Say when the root certificate ends")
            .flags(&[CREDENTIALS, KUBERNETES]),
        Command::new("export", "Write root, issuer and issuer key to a folder").flags(&[
            CREDENTIALS,
            KUBERNETES,
            Flag::text("out", "The folder to write to")
                .short('o')
                .or("."),
        ]),
        Command::new(
            "renew-certificate",
            "Have Sentry replace root and issuer now",
        )
        .aliases(&["renew-cert", "rnc"])
        .flags(&[
            CREDENTIALS,
            KUBERNETES,
            Flag::number(
                "timeout",
                "How long to wait for Sentry, in seconds (default: 10, with Kubernetes 300)",
            ),
            ROOT_FILE,
            ISSUER_KEY_FILE,
            ISSUER_FILE,
            Flag::switch(
                "restart",
                "With Kubernetes: restart the control plane as well",
            ),
            Flag::number("valid-until", "Accepted: Sentry's --ca-ttl decides").hidden(),
            Flag::text("private-key", "Accepted: Sentry makes its own keys").hidden(),
            Flag::text("image-variant", "Accepted: no images are used").hidden(),
        ]),
    ]);

const RULES_FILE: Flag = Flag::repeated(
    "file",
    "A file of AccessControls, or a Configuration; may be repeated",
)
.short('f');
const RULES_FOLDER: Flag =
    Flag::list("resources-path", "The folders of the resource files").short('d');
const RULES_CONFIG: Flag = Flag::list(
    "config",
    "The Configuration files, whose accessControl counts too",
)
.short('c');
const RULES_APP: Flag = Flag::text(
    "app-protocol",
    "The protocol of the called app: http, https, h2c, grpc, grpcs",
)
.short('P')
.or("http");
const RULES_CALLEE: Flag = Flag::text(
    "callee",
    "The called app, as namespace/app-id (default: every app that the rules tell apart)",
);
const RULES_STRICT: Flag = Flag::switch(
    "strict",
    "An omitted defaultAction denies, as with the sidecar's --access-control-strict",
);
const RULES_KUBERNETES: Flag =
    Flag::switch("kubernetes", "Take the rules of a Kubernetes cluster").short('k');
const RULES_OUTPUT: Flag = Flag::text("output", "text or json").short('o').or("text");
const ACCESSCONTROL: Command = Command::new(
    "accesscontrol",
    "Try, explain, check, convert and compare rules of access control",
)
.aliases(&["acl"])
.examples(&[
    Example {
        what: "See what the rules of a folder say of one request, and why",
        how: "accesscontrol check -d ./resources --caller shop/web --callee shop/orders --verb GET --path /orders/7",
    },
    Example {
        what: "See what an edit changes in the current cluster",
        how: "accesscontrol diff -k new.yaml --callee shop/orders",
    },
    Example {
        what: "See why the last call to an app of this machine was decided as it was",
        how: "accesscontrol why last --app-id orders",
    },
    Example {
        what: "Find rules that do not do what they look like",
        how: "accesscontrol lint -d ./resources",
    },
    Example {
        what: "See what an edit changes, also for the calls of a recorded log",
        how: "accesscontrol diff old.yaml new.yaml --callee shop/orders --replay calls.jsonl",
    },
])
.commands(&[
    Command::new("check", "Say what rules decide about one request, and why").flags(&[
        RULES_KUBERNETES,
        RULES_FILE,
        RULES_FOLDER,
        RULES_CONFIG,
        Flag::text(
            "caller",
            "The caller, as namespace/app-id or SPIFFE ID; - for one without identity",
        )
        .required(),
        Flag::text("callee", "The called app, as namespace/app-id").required(),
        Flag::text("verb", "The HTTP verb").or("GET"),
        Flag::text("path", "The path below the app, as a client writes it").required(),
        Flag::text(
            "api",
            "How the call comes: http (the path is decoded once), grpc, or proxy for a gRPC call passed on",
        )
        .or("http"),
        RULES_STRICT,
        RULES_APP,
        RULES_OUTPUT,
    ]),
    Command::new("convert", "Turn the accessControl of a Configuration into an AccessControl").flags(
        &[
            Flag::text("file", "The Configuration").short('f').required(),
            Flag::list("scopes", "The apps that use the Configuration"),
            RULES_APP,
        ],
    ),
    Command::new("diff", "Say which requests an edit of the rules decides otherwise")
        .words("OLD NEW")
        .flags(&[
            RULES_KUBERNETES,
            RULES_CALLEE,
            Flag::text("replay", "The recorded calls of an --access-log-file to try as well"),
            RULES_STRICT,
        RULES_APP,
            RULES_OUTPUT,
        ]),
    Command::new("lint", "Find rules that are dead, shadowed, duplicated or contradicting")
        .words("[file]...")
        .flags(&[
            RULES_KUBERNETES,
            RULES_FILE,
            RULES_FOLDER,
            RULES_CONFIG,
            RULES_CALLEE,
            RULES_STRICT,
        RULES_APP,
            RULES_OUTPUT,
        ]),
    Command::new("why", "Say why a call to an app of this machine was decided as it was")
        .words("<trace-id|last>")
        .flags(&[
            Flag::text("app-id", "The id of the called app").short('a'),
            RULES_OUTPUT,
        ]),
]);

const IN_KUBERNETES: Flag = KUBERNETES.required();
const ALL_NAMESPACES: Flag =
    Flag::switch("all-namespaces", "All namespaces (the default)").short('A');
const ONE_NAMESPACE: Flag = Flag::text("namespace", "One namespace");
const ONE_NAME: Flag = Flag::text("name", "Only the one of this name").short('n');
const OUTPUT: Flag = Flag::text("output", "The form of the output: table, json, yaml")
    .short('o')
    .or("table");

const STATUS: Command = Command::new(
    "status",
    "Show the health of the control plane (Kubernetes)",
)
.examples(&[Example {
    what: "Show the control plane of the current cluster",
    how: "status -k",
}])
.flags(&[IN_KUBERNETES, OUTPUT]);

const LOG_LEVEL: Command = Command::new(
    "log-level",
    "Change how much a running sidecar logs, without a restart",
)
.words("<app-id> debug|reset")
.examples(&[
    Example {
        what: "See every request of a sidecar",
        how: "log-level orders debug",
    },
    Example {
        what: "Go back to the level of its start",
        how: "log-level orders reset",
    },
    Example {
        what: "See every request of all its sidecars in a cluster",
        how: "log-level orders debug -k --namespace shop",
    },
])
.flags(&[
    KUBERNETES,
    Flag::text("namespace", "The namespace of the application")
        .short('n')
        .or("default"),
]);

const LOGS: Command = Command::new("logs", "Print the logs of a sidecar (Kubernetes)")
    .examples(&[
        Example {
            what: "Print the log of a sidecar",
            how: "logs -k --app-id orders --namespace shop",
        },
        Example {
            what: "Follow the log of the app beside it",
            how: "logs -k --app-id orders --namespace shop --container app --follow",
        },
    ])
    .flags(&[
        Flag::text("app-id", "The id of the application")
            .short('a')
            .required(),
        IN_KUBERNETES,
        Flag::text("namespace", "The namespace of the application")
            .short('n')
            .or("default"),
        Flag::text("pod-name", "The pod, if the application has several").short('p'),
        Flag::text("container", "The container of the pod").or("daprd"),
        Flag::switch("follow", "Go on with what is written later"),
    ]);

const COMPONENTS: Command = Command::new("components", "List components (Kubernetes)").flags(&[
    IN_KUBERNETES,
    ALL_NAMESPACES,
    ONE_NAMESPACE,
    ONE_NAME,
    OUTPUT,
]);

const CONFIGURATIONS: Command = Command::new("configurations", "List configurations (Kubernetes)")
    .flags(&[
        IN_KUBERNETES,
        ALL_NAMESPACES,
        ONE_NAMESPACE,
        ONE_NAME,
        OUTPUT,
    ]);

const ANNOTATE: Command =
    Command::new("annotate", "Add annotations to the manifest of a workload (Kubernetes)")
        .words("<file|folder|url|->")
        .examples(&[
            Example {
                what: "Give the first workload of a file a sidecar",
                how: "annotate -k --app-id orders --app-port 3000 deploy.yaml | kubectl apply -f -",
            },
            Example {
                what: "Give two workloads of a file a sidecar each",
                how: "annotate -k -r orders deploy.yaml | ironside annotate -k -r web - | kubectl apply -f -",
            },
        ])
        .flags(crate::command::annotate::FLAGS);

const UPGRADE: Command =
    Command::new("upgrade", "Upgrade the control plane (Kubernetes)").flags(&[
        IN_KUBERNETES,
        Flag::text(
            "runtime-version",
            "The version, which is the tag of the images",
        )
        .required(),
        Flag::text("namespace", "The namespace of the control plane")
            .short('n')
            .or("dapr-system"),
        Flag::text("image-registry", "Where images come from"),
        Flag::switch("enable-mtls", "Mutual TLS").or("true"),
        Flag::switch("enable-ha", "Several replicas"),
        Flag::repeated("set", "A chart value; needs Helm"),
        Flag::number("timeout", "The limit of the wait, in seconds").or("300"),
        Flag::text("image-variant", "Accepted: there is one image").hidden(),
        ROOT_FILE,
        ISSUER_KEY_FILE,
        ISSUER_FILE,
    ]);

const DOCTOR: Command = Command::new(
    "doctor",
    "Find out what is wrong, or why a call from one app to another fails",
)
.words("[<caller> <callee>]")
.examples(&[
    Example {
        what: "Look at the control plane and the sidecars of the current cluster",
        how: "doctor -k",
    },
    Example {
        what: "See why a call of the cluster fails",
        how: "doctor -k shop/web shop/orders --verb POST --path /orders",
    },
    Example {
        what: "Have the caller's sidecar make the call, and see how far it comes",
        how: "doctor -k shop/web shop/orders --path /healthz --call",
    },
    Example {
        what: "Make a call between two apps of this machine, and see how far it comes",
        how: "doctor web orders",
    },
])
.flags(&[
    KUBERNETES,
    Flag::text("verb", "The HTTP verb of the call").or("GET"),
    Flag::text("path", "The path of the call, below the called app").or("/"),
    Flag::switch(
        "call",
        "With Kubernetes: make the call, which reaches the app (on this machine it is always made)",
    ),
    Flag::text("output", "text or json").short('o').or("text"),
]);

// Recognised, and answered with one line.
const DASHBOARD: Command = Command::new("dashboard", "The dashboard (not offered)")
    .raw()
    .hidden();
const MCPSERVERS: Command = Command::new("mcpservers", "List MCP servers (not offered)")
    .raw()
    .hidden();
const SCHEDULER: Command = Command::new("scheduler", "Jobs and reminders (not offered)")
    .aliases(&["sched"])
    .raw()
    .hidden();
const WORKFLOW: Command = Command::new("workflow", "Workflows (not offered)")
    .aliases(&["wf"])
    .raw()
    .hidden();

// Parts of this binary that start one another; never typed by a person.
const DETACH: Command = Command::new("detach", "Start a Sentry that outlives everybody")
    .raw()
    .hidden();
const EXEC: Command = Command::new(
    "exec",
    "Become another program, tied to the life of the parent",
)
.raw()
.hidden();
const SAMPLE: Command = Command::new("sample", "A sample app of the demo")
    .raw()
    .hidden();
const INJECTOR: Command = Command::new("injector", "What gives pods their sidecars")
    .raw()
    .hidden();
const OPERATOR: Command = Command::new("operator", "What connects sidecars with the API server")
    .raw()
    .hidden();
const SENTRY: Command = Command::new("sentry", "The certificate authority")
    .raw()
    .hidden();
const SIDECAR: Command = Command::new("sidecar", "The sidecar").raw().hidden();

#[cfg(test)]
mod tests {
    use super::*;

    /// What `run` and `invoke` take is in the guide.
    #[test]
    fn the_guide_names_every_flag() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        let guide = std::fs::read_to_string(path).unwrap();
        let below = ACCESSCONTROL.commands.iter().copied();
        let all = [
            RUN,
            STOP,
            INVOKE,
            DEMO,
            MTLS,
            DOCTOR,
            INIT,
            UPGRADE,
            UNINSTALL,
            STATUS,
            LOGS,
            COMPONENTS,
            CONFIGURATIONS,
        ];
        let all = all.into_iter().chain(below);
        for command in all {
            for flag in command
                .flags
                .iter()
                .filter(|flag| flag.name != "kubernetes")
            {
                let name = format!("`--{}", flag.name);
                assert!(
                    guide.contains(&name) || guide.contains(&name[1..]),
                    "{} {name}",
                    command.name
                );
            }
        }
    }
}
