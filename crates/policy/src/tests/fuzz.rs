//! Any bytes as a method, and as a file of access control: load, compile, decide.
//!
//! The two targets of this crate for `ironside_testkit::fuzz`. A method stays what it is when it is cleaned again. A
//! file that may hold rules and cannot be used closes the app; one that can be used decides as the naive evaluator
//! does; and where nobody wrote `allow`, nobody is allowed.

use ironside_identity::SpiffeId;
use ironside_resources::{
    access_control::Mode,
    loader::{Loaded, Loader, ResourceFile},
};
use ironside_testkit::fuzz::Fuzz;

use super::{
    naive,
    support::{Given, callee, id},
};
use crate::{AppKind, Caller, Form, Method, Operation, PolicySet, Refused, Verb, VerbSet, clean};

/// Paths that are asked for, beside those that a file names.
const PATHS: [&str; 8] = [
    "",
    "a",
    "a/b",
    "admin",
    "public/x",
    "/a.B/C",
    "a;x/%2e%2e",
    "A",
];
const VERBS: [Verb; 3] = [Verb::Get, Verb::Post, Verb::None];

fn method(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(method) = Method::parse(text) else {
        let bad = |byte: u8| byte < 0x20 || matches!(byte, 0x7f | b'#' | b'?');
        assert!(text.bytes().any(bad), "only such bytes are refused");
        return;
    };
    let cleaned = method.as_str();
    assert_eq!(
        Method::parse(cleaned).as_ref(),
        Ok(&method),
        "cleaned once is cleaned"
    );
    assert_eq!(clean(text), cleaned);
    assert!(!cleaned.contains("//") && cleaned.len() <= text.len());
    assert!(
        cleaned
            .split('/')
            .all(|segment| segment != "." && segment != "..")
    );
    assert!(cleaned == "/" || !cleaned.ends_with('/'));
    assert_eq!(cleaned.starts_with('/'), text.starts_with('/'));
    // Nothing is in it that was not written.
    let mut written = text.split('/');
    assert!(
        cleaned
            .split('/')
            .filter(|s| !s.is_empty())
            .all(|kept| written.any(|s| s == kept))
    );
    closed_set_denies(cleaned);
}

/// A set of `allow /public/**` lets nothing through that could be read as another path.
fn closed_set_denies(method: &str) {
    thread_local! {
        static SET: PolicySet = super::support::set_of(&[
            "{policies: [{appId: web, namespace: shop, operations: [{name: '/public/**', action: allow}]}]}",
        ]);
    }
    let web = super::support::web();
    let asked = Operation::invoke(method, Verb::Get);
    let allowed = SET.with(|set| set.decide(Caller::Peer(&web), &asked).is_allowed());
    if !allowed {
        return;
    }
    let mut reading = method.to_owned();
    for _round in 0..4 {
        let seen = clean(&reading.replace('\\', "/"));
        let seen = seen.trim_start_matches('/').to_ascii_lowercase();
        assert!(
            seen == "public" || seen.starts_with("public/"),
            "{method:?} read as {seen:?}"
        );
        reading = percent_decoded(&reading);
    }
}

/// As an app would decode a path that left the sidecar; what is no escape stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes
            .get(at + 1..at + 3)
            .and_then(|d| std::str::from_utf8(d).ok());
        let escape = digits.filter(|d| byte == b'%' && d.bytes().all(|b| b.is_ascii_hexdigit()));
        match escape.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn policy_yaml(data: &[u8]) {
    let loader = Loader {
        namespace: "shop",
        app_id: "orders",
        deny: &[],
    };
    let file = ResourceFile {
        name: "policy.yaml",
        bytes: data,
    };
    let loaded = loader.load([file]);
    let may_be_rules = data.windows(13).any(|window| window == b"AccessControl");
    assert!(may_be_rules || loaded.policy_failures.is_empty() && loaded.access_controls.is_empty());
    for failure in &loaded.policy_failures {
        let text = failure.to_string();
        assert!(
            text.starts_with("policy.yaml: ") && !text.contains('\n'),
            "{text:?}"
        );
    }
    for app in [AppKind::Http, AppKind::Grpc] {
        decide(data, &loaded, app);
    }
}

fn decide(data: &[u8], loaded: &Loaded, app: AppKind) {
    let mut given = Given {
        app,
        objects: loaded.access_controls.clone(),
        ..Given::default()
    };
    let Ok(set) = given.try_set() else {
        panic!("what the loader passes can be compiled");
    };
    let refused = |_failure| Refused {
        name: "policy.yaml".into(),
        scopes: Vec::new(),
    };
    given.refused = loaded.policy_failures.iter().map(refused).collect();
    let closed = given.try_set();
    assert!(closed.is_ok());
    let is_closed = !given.refused.is_empty();
    given.refused.clear();
    let mut objects = given.objects.iter();
    let is_ruled = objects.any(|object| object.spec.mode == Mode::Enforce);
    let callers = callers(loaded);
    let paths = paths(loaded);
    for caller in &callers {
        let asked = match caller {
            Some(peer) => Caller::Peer(peer),
            None => Caller::Anonymous,
        };
        for path in &paths {
            for operation in operations(path) {
                let decided = set.decide(asked, &operation);
                let decided = (
                    decided.is_allowed(),
                    decided.audit.map(|audit| audit.is_allowed()),
                );
                let plain = naive::decide(&given, asked, &operation);
                assert_eq!(decided, plain, "{caller:?} {operation:?}");
                assert!(
                    !decided.0 || !is_ruled || is_allow_written(data),
                    "nobody wrote allow: {operation:?}"
                );
                if is_closed && let Ok(closed) = &closed {
                    assert!(
                        !closed.decide(asked, &operation).is_allowed(),
                        "{operation:?}"
                    );
                }
            }
        }
    }
}

/// Whether the text has the word, or may spell it by an escape.
fn is_allow_written(data: &[u8]) -> bool {
    data.contains(&b'\\')
        || data
            .windows(5)
            .any(|window| window.eq_ignore_ascii_case(b"allow"))
}

/// A few peers, one without identity, and those that the file names.
fn callers(loaded: &Loaded) -> Vec<Option<SpiffeId>> {
    let mut all = vec![
        None,
        Some(id("spiffe://public/ns/shop/web")),
        Some(id("spiffe://other/ns/ops/cart")),
    ];
    let entries = loaded
        .access_controls
        .iter()
        .flat_map(|object| &object.spec.policies);
    for entry in entries.take(4) {
        let name = |text: &str| text.replace('*', "x");
        let (app, namespace) = (name(&entry.app_id), name(&entry.namespace));
        let text = format!(
            "spiffe://{}/ns/{namespace}/{app}",
            name(entry.trust_domain())
        );
        all.extend(SpiffeId::parse(&text).ok().map(Some));
    }
    // An app's calls to itself are another table.
    let own = callee(AppKind::Http);
    all.retain(|caller| {
        caller
            .as_ref()
            .is_none_or(|peer| *peer.app_id() != own.app_id)
    });
    all
}

fn paths(loaded: &Loaded) -> Vec<String> {
    let mut all: Vec<String> = PATHS.iter().map(|path| clean(path)).collect();
    let entries = loaded
        .access_controls
        .iter()
        .flat_map(|object| &object.spec.policies);
    let rules = entries.flat_map(|entry| &entry.operations);
    for rule in rules.take(6) {
        let name = rule.name.trim_start_matches('/');
        all.push(clean(name));
        all.push(clean(&format!("{}/more", name.replace('*', "x"))));
    }
    all
}

fn operations(path: &str) -> impl Iterator<Item = Operation<'_>> {
    let invoked = VERBS.map(|verb| Operation::invoke(path, verb));
    let proxied = Operation {
        method: path,
        verb: Verb::None,
        form: Form::Proxied,
        overrides: VerbSet::NONE,
    };
    invoked.into_iter().chain([proxied])
}

#[test]
fn methods_stay_what_they_are() {
    Fuzz {
        name: "method",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/method"),
        dictionary: &[
            b"/",
            b"//",
            b".",
            b"..",
            b"/../",
            b"/./",
            b"%2e",
            b"%2E%2e",
            b"%2f",
            b"%252e",
            b"%252f",
            b"%5c",
            b"\\",
            b"..\\",
            b";",
            b";x=y",
            b"..;",
            b"#",
            b"?",
            b"%23",
            b"%3f",
            b"%00",
            b"\0",
            b"\x7f",
            b"%",
            b"%zz",
            b"public",
            b"admin",
            b"PUBLIC",
            b"\xc3\xa9",
            b"\xe2\x84\xaa",
            b"%c3%a9",
            b"%c0%ae",
            b"%ff",
        ],
        count: 60_000,
        longest: 1024,
        target: method,
    }
    .run();
}

#[test]
fn files_of_rules_decide_or_close() {
    Fuzz {
        name: "policy-yaml",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/policy-yaml"),
        dictionary: &[
            b"apiVersion: dapr.io/v1alpha1\n",
            b"kind: AccessControl\n",
            b"metadata:\n  name: x\n",
            b"spec:\n",
            b"AccessControl",
            b"policies:\n",
            b"operations:\n",
            b"- ",
            b"appId: web\n",
            b"appId: '*'\n",
            b"namespace: shop\n",
            b"trustDomain: public\n",
            b"defaultAction: allow\n",
            b"defaultAction: deny\n",
            b"action: allow",
            b"action: deny",
            b"name: /a/**",
            b"name: '*'",
            b"/public/**",
            b"pathMatch: Exact\n",
            b"httpVerb: [GET]\n",
            b"httpVerb: ['*']\n",
            b"mode: Audit\n",
            b"mode: Enforce\n",
            b"evaluation: DaprCompatible\n",
            b"evaluation: MostSpecific\n",
            b"unauthenticated: DefaultAction\n",
            b"scopes: [orders]\n",
            b"scopes: [other]\n",
            b"scopes: []\n",
            b"allow",
            b"deny",
            b"null",
            b"~",
            b"yes",
            b"---\n",
            b"...\n",
            b"&a ",
            b"*a",
            b"<<: *a\n",
            b"!!str ",
            b"!!binary YWxsb3c=",
            b"|\n",
            b">-\n",
            b"\"\\x61llow\"",
            b"? ",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b": ",
            b"#",
            b"%YAML 1.2\n",
            b"\xef\xbb\xbf",
            b"  ",
            b"\t",
            b"\r\n",
            b"\xff",
            b"dapr.io/v1",
            b"status: {x: y}\n",
        ],
        count: 1_500,
        longest: 8192,
        target: policy_yaml,
    }
    .run();
}
