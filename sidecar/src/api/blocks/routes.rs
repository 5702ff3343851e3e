//! How the routes of building blocks look.
//!
//! Owns the table and its matching. A block that gains a route gains a row here; what is answered is the
//! parent's.

use http::Method;

use super::{Block, BlockCall};

/// How one route of a block looks: methods, version, path with `*` for one segment and `**` for the rest,
/// position of the name, group.
struct Row {
    block: Block,
    methods: &'static [Method],
    versions: &'static [&'static str],
    path: &'static [&'static str],
    group: &'static str,
}

const GET: &[Method] = &[Method::GET];
const POST: &[Method] = &[Method::POST];
const PUT: &[Method] = &[Method::PUT];
const WRITE: &[Method] = &[Method::POST, Method::PUT];
const GET_DELETE: &[Method] = &[Method::GET, Method::DELETE];
const GET_POST: &[Method] = &[Method::GET, Method::POST];
const JOBS: &[Method] = &[Method::GET, Method::POST, Method::DELETE];
const ANY: &[Method] = &[
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::PATCH,
];
const V1: &[&str] = &["v1.0"];
const ALPHA: &[&str] = &["v1.0-alpha1"];
const STABLE_OR_ALPHA: &[&str] = &["v1.0", "v1.0-alpha1"];
const WORKFLOWS: &[&str] = &["v1.0", "v1.0-beta1", "v1.0-alpha1"];
const ALPHAS: &[&str] = &["v1.0-alpha1", "v1.0-alpha2"];

const fn row(
    block: Block,
    methods: &'static [Method],
    versions: &'static [&'static str],
    path: &'static [&'static str],
    group: &'static str,
) -> Row {
    Row {
        block,
        methods,
        versions,
        path,
        group,
    }
}

/// Routes in the order in which they are tried.
const ROWS: &[Row] = &[
    row(
        Block::State,
        GET_DELETE,
        V1,
        &["state", "*", "*"],
        "v1/state",
    ),
    row(Block::State, WRITE, V1, &["state", "*"], "v1/state"),
    row(Block::State, WRITE, V1, &["state", "*", "bulk"], "v1/state"),
    row(
        Block::State,
        WRITE,
        V1,
        &["state", "*", "transaction"],
        "v1/state",
    ),
    row(
        Block::State,
        WRITE,
        ALPHA,
        &["state", "*", "query"],
        "v1alpha1/state",
    ),
    row(
        Block::Publish,
        WRITE,
        STABLE_OR_ALPHA,
        &["publish", "bulk", "*", "**"],
        "v1alpha1/publish",
    ),
    row(
        Block::Publish,
        WRITE,
        V1,
        &["publish", "*", "**"],
        "v1/publish",
    ),
    row(
        Block::Bindings,
        WRITE,
        V1,
        &["bindings", "*"],
        "v1/bindings",
    ),
    row(
        Block::Secrets,
        GET,
        V1,
        &["secrets", "*", "*"],
        "v1/secrets",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*"],
        "v1/configuration",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*", "subscribe"],
        "v1/configuration",
    ),
    row(
        Block::Configuration,
        GET,
        STABLE_OR_ALPHA,
        &["configuration", "*", "*", "unsubscribe"],
        "v1/configuration",
    ),
    row(Block::Lock, POST, ALPHA, &["lock", "*"], "v1alpha1/lock"),
    row(
        Block::Lock,
        POST,
        ALPHA,
        &["unlock", "*"],
        "v1alpha1/unlock",
    ),
    row(
        Block::Crypto,
        PUT,
        ALPHA,
        &["crypto", "*", "*"],
        "v1alpha1/crypto",
    ),
    row(
        Block::Crypto,
        POST,
        ALPHA,
        &["subtlecrypto", "*", "*"],
        "v1alpha1/subtlecrypto",
    ),
    row(
        Block::Actors,
        ANY,
        V1,
        &["actors", "*", "*", "**"],
        "v1/actors",
    ),
    row(
        Block::Workflows,
        GET_POST,
        WORKFLOWS,
        &["workflows", "*", "**"],
        "v1/workflows",
    ),
    row(
        Block::Jobs,
        JOBS,
        STABLE_OR_ALPHA,
        &["jobs", "*"],
        "v1alpha1/jobs",
    ),
    row(
        Block::Jobs,
        GET_DELETE,
        STABLE_OR_ALPHA,
        &["jobs"],
        "v1alpha1/jobs",
    ),
    row(
        Block::Conversation,
        POST,
        ALPHAS,
        &["conversation", "*", "converse"],
        "v1alpha1/conversation",
    ),
];

/// Finds the block that a cleaned, still encoded path belongs to.
pub(crate) fn find<'a>(method: &Method, path: &'a str) -> Option<BlockCall<'a>> {
    let (version, rest) = path.strip_prefix('/')?.split_once('/')?;
    let row = ROWS.iter().find(|row| {
        row.methods.contains(method) && row.versions.contains(&version) && fits(row.path, rest)
    })?;
    let position = row.path.iter().position(|segment| *segment == "*");
    let name = position.and_then(|n| rest.split('/').nth(n)).unwrap_or("");
    Some(BlockCall {
        block: row.block,
        name,
        group: row.group,
    })
}

fn fits(pattern: &[&str], rest: &str) -> bool {
    let mut given = rest.split('/');
    for segment in pattern {
        match (*segment, given.next()) {
            ("**", Some(_)) => return true,
            ("*", Some(text)) if !text.is_empty() => {}
            (literal, Some(text)) if literal == text => {}
            (_, _) => return false,
        }
    }
    given.next().is_none()
}
