//! `docs/configuration.md`, from the flag table and the words that belong to it.
//!
//! Owns the prose around the table. Lives under the tests, because only they need it.

use ironside_chassis::args::{Flag, Kind};

use super::super::{OF_OTHER_BLOCKS, TABLE};

const HEAD: &str = "\
<!-- Generated from sidecar/src/config/flags.rs: UPDATE=1 cargo test -p ironside-sidecar -->
# Configuration reference

What `daprd` reads: flags, environment, Configuration files, resource files. The names are those of the
reference, so that scripts, the injector and the CLI work as they are.

## Flags

One dash or two. Booleans take their value after `=` only (`--log-as-json=false`). Lists are comma-separated and
may be repeated. Durations are written `300ms`, `1m30s`, `24h`. Positional words are ignored. A command line that
cannot be read is exit code 2, a value that is refused is exit code 1 with a line in the log that names it.

| Flag | Type | Default | Meaning |
|---|---|---|---|
";

const TAIL: &str = "
## Environment

| Variable | Use |
|---|---|
| `NAMESPACE` | namespace of the app; unset is `default`, set but empty stays empty |
| `DAPR_API_TOKEN` | token that callers of both APIs must send as `dapr-api-token` |
| `APP_API_TOKEN` | token that is sent to the app as `dapr-api-token` |
| `DAPR_HOST_IP` | address of this machine for forwarded headers and discovery; otherwise found through the routing table |
| `DAPR_TRUST_ANCHORS` | PEM roots; needed with `--enable-mtls` and `--mode kubernetes` unless one of the next two holds some |
| `DAPR_TRUST_ANCHORS_FILE` | file of PEM roots, watched |
| `DAPR_TRUST_ANCHORS_CACHE` | file in which the PEM roots that Sentry delivered are kept for the next start |
| `DAPR_SENTRY_TOKEN_FILE` | file with the token for the certificate request; otherwise, with `--mode kubernetes`, the projected one of the pod, else that of its ServiceAccount |
| `SENTRY_LOCAL_IDENTITY` | app ID to ask Sentry for, in place of `--app-id` |
| `DAPR_CONTROLPLANE_TRUST_DOMAIN`, `DAPR_CONTROLPLANE_NAMESPACE` | stand in for the two flags |
| `DAPR_ACCESS_CONTROL` | stands in for `--access-control` |
| `POD_NAME` | what the operator calls this sidecar; otherwise the name of the machine |
| `DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK` | exactly `true`: UID 0 may run `--mode kubernetes` |
| `DAPR_HTTP_DISABLE_H2C` | `y yes true t on 1`: no HTTP/2 on the HTTP API port |
| `DAPR_GRPC_MAX_CONN_IDLE`, `DAPR_GRPC_CONN_COLLECTOR_INTERVAL` | idle limit (3m) and sweep (45s) of connections to other sidecars |
| `DAPR_ENV_KEYS` | space-separated names that `envRef` may read; unset allows all but `DAPR_*` and `APP_API_TOKEN` |
| `OTEL_EXPORTER_OTLP_*`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | [where spans are sent](observability.md#environment), and as whose |
| `XDG_RUNTIME_DIR`, `TMPDIR` | where the registry folder of this user's sidecars lies |
| any variable | put in place of `$NAME` and `${NAME}` in `--config` files, besides `APP_ID`, `APP_PORT`, `HOST_ADDRESS`, `DAPR_HTTP_PORT`, `DAPR_GRPC_PORT`, `DAPR_PORT`, `DAPR_METRICS_PORT`, which the sidecar sets itself |

## Configuration files

`--config` may be given several times; files are laid over one another, lists are replaced. Unknown keys are
ignored. `spec` keys with effect here:

| Key | Effect |
|---|---|
| `httpPipeline.handlers[]`, `appHttpPipeline.handlers[]` | handlers around the HTTP API, and around HTTP calls to the app and to external targets; name, type and version of a Component |
| `tracing.samplingRate` | `0`: trace headers are headers like any other; a number: a span per hop; absent: contexts pass through |
| `tracing.zipkin`, `tracing.otel`, `tracing.stdout` | where spans are sent; see [tracing](observability.md#tracing) |
| `metric` / `metrics` | `enabled`, `recordErrorCodes`, `http.increasedCardinality`, `http.pathMatching`, `http.excludeVerbs`, `latencyDistributionBuckets`; read at the start only |
| `accessControl` | who may call what of the app; see [access control](access-control-migration.md) |
| `mtls` | read by Sentry and by `ironside run`; a sidecar is told by `--enable-mtls` |
| `nameResolution` | `component`: `mdns` (default) or `sqlite`; with `--mode kubernetes` also `kubernetes`, which is the default there; read at the start only |
| `api.allowed[]`, `api.denied[]` | which groups of the API answer |
| `inbound` | how fast each caller may call, how many calls wait for the app and for how long, whether HTTP apps hear what is left of a call's time; see [resiliency](resiliency.md#the-callees-bounds) |
| `logging.apiLogging` | `enabled`, `obfuscateURLs`, `omitHealthChecks` |
| `features[]` | `HotReload` with `enabled: false` switches the watch on files off |
| `components.deny[]` | component types not to load |

## Resource files

`--resources-path` directories are read in name order: `.yaml` and `.yml`, several documents a file. Kinds with
effect here are `Component` of the types below, `HTTPEndpoint`, [`Resiliency`](resiliency.md) and
[`AccessControl`](access-control.md); documents of other building blocks are accepted
with one line each.

| Component type | Metadata |
|---|---|
| `middleware.http.bearer` | `issuer`, `audience` (required), `jwksURL` (else found through the issuer's OpenID configuration) |
| `middleware.http.ratelimit` | `maxRequestsPerSecond` (100), for each caller's address |
| `middleware.http.routeralias` | `routes`: a JSON or YAML map of paths; `{name}` stands for a segment |
| `middleware.http.routerchecker` | `rule`: a regular expression; other paths are 400 |
| `middleware.http.uppercase` | none; shows that a pipeline works |

A pipeline that names a component of another type stops the start, unless the component says
`ignoreErrors: true`. A handler without component is skipped until the component appears.

## Reload

Resource directories and `--config` files are watched; SIGHUP and a listing every
`--hot-reload-reconcile-interval` do the same. The whole state is compiled anew and replaced: ports, connections
and calls stay. An edit that cannot be used is one error line, and the last good state stays in force.
";

pub(super) fn configuration() -> String {
    let (own, other): (Vec<&Flag>, Vec<&Flag>) = TABLE
        .iter()
        .partition(|flag| !OF_OTHER_BLOCKS.contains(&flag.name));
    let mut text = HEAD.to_owned();
    for flag in own {
        text += &row(flag);
    }
    text += "\nAccepted without effect, because they belong to building blocks that are not offered; one given with a \
             value other than its default is named in one warning:\n\n";
    let names: Vec<String> = other
        .iter()
        .map(|flag| format!("`--{}`", flag.name))
        .collect();
    text += &names.join(", ");
    text += ".\n";
    text + TAIL
}

fn row(flag: &Flag) -> String {
    let kind = match flag.kind {
        Kind::Text => "text",
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Uint => "uint",
        Kind::Duration => "duration",
        Kind::List => "list",
    };
    let default = if flag.default.is_empty() {
        String::new()
    } else {
        format!("`{}`", flag.default)
    };
    let meaning = match flag.deprecated {
        Some(advice) => format!("deprecated: {advice}; {}", flag.help),
        None => flag.help.to_owned(),
    };
    format!("| `--{}` | {kind} | {default} | {meaning} |\n", flag.name)
}
