//! Sets of rules and requests of every kind, for measurements (benchmarks 7).
//!
//! Rules are made from numbers, so every run measures the same. `Shape` says where the rules stand: in objects
//! with many callers, or in the block of a Configuration, all for one caller.

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_policy::{
    AppKind, Block, Callee, Caller, Decision, Input, Namespaces, Operation, PolicySet, Verb,
};
use ironside_resources::{
    AccessControl,
    access_control::{Action, CallerPolicy, HttpVerb, OperationRule},
    configuration,
};

/// Entries of an object, and rules of an entry: the most that there may be.
const MOST: usize = 128;

/// Where the rules stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// In objects, spread over callers; the most specific rule wins.
    Spread,
    /// In the block, all for one caller; the first match wins.
    OneCaller,
}

/// A set and a request.
pub(crate) struct Work {
    /// The rules.
    pub(crate) set: PolicySet,
    /// Requests, each with its caller.
    pub(crate) requests: Vec<Request>,
}

/// One request.
pub(crate) struct Request {
    /// What it is.
    pub(crate) name: &'static str,
    caller: SpiffeId,
    method: String,
    verb: Verb,
}

impl Request {
    /// Decides it.
    pub(crate) fn decide(&self, set: &PolicySet) -> Decision {
        set.decide(
            Caller::Peer(&self.caller),
            &Operation::invoke(&self.method, self.verb),
        )
    }
}

/// An identity of the namespace of all rules.
pub(crate) fn caller(app: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://public/ns/shop/{app}")).expect("a good id")
}

fn callee(app: AppKind) -> Callee {
    Callee {
        app_id: AppId::parse("orders").expect("a good name"),
        namespace: Namespace::parse("shop").expect("a good name"),
        trust_domain: TrustDomain::default(),
        app,
    }
}

/// The name of rule `n` of an entry: literals of 3 segments, some of 12, globs and `**`.
fn pattern(n: usize) -> String {
    match n {
        0 => format!(
            "/deep/{}",
            (1..12)
                .map(|d| format!("s{d}"))
                .collect::<Vec<_>>()
                .join("/")
        ),
        1 => format!("/{}/end", "long".repeat(48)),
        2 => "/files/img-*/raw".to_owned(),
        3 => "/assets/**".to_owned(),
        4 => "/pkg.Service/Method".to_owned(),
        n => format!("/api/v{}/item{n}", n % 7),
    }
}

fn object_rule(n: usize) -> OperationRule {
    OperationRule {
        name: pattern(n),
        path_match: None,
        http_verb: vec![HttpVerb::Get, HttpVerb::Post],
        action: Action::Allow,
    }
}

/// So many rules, none of which is for `any` of the others' callers.
pub(crate) fn work(shape: Shape, rules: usize, app: AppKind) -> Work {
    let set = match shape {
        Shape::Spread => spread(rules, app),
        Shape::OneCaller => one_caller(rules, app),
    };
    let web = || caller("app0");
    let last = rules.min(MOST) - 1;
    let request = |name, caller, method: &str, verb| Request {
        name,
        caller,
        method: method.trim_start_matches('/').to_owned(),
        verb,
    };
    let exact = pattern(last.max(5));
    let requests = vec![
        request("exact-3", web(), &exact, Verb::Get),
        request("exact-12", web(), &pattern(0), Verb::Get),
        request("path-200", web(), &pattern(1), Verb::Get),
        request("miss", web(), "/nothing/of/this", Verb::Get),
        request("unknown-caller", caller("stranger"), &exact, Verb::Get),
        request("glob", web(), "/files/img-0815/raw", Verb::Get),
        request("double-star", web(), "/assets/css/site/main.css", Verb::Get),
        request("verb-mismatch", web(), &exact, Verb::Delete),
        request("grpc-method", web(), "/pkg.Service/Method", Verb::Get),
    ];
    Work { set, requests }
}

fn spread(rules: usize, app: AppKind) -> PolicySet {
    compile(&objects(rules), None, app)
}

/// A request of one of 781 callers for one of its rules.
pub(crate) fn random(number: usize) -> Request {
    Request {
        name: "random",
        caller: caller(&format!("app{}", number / MOST % 781)),
        method: pattern(number % MOST).trim_start_matches('/').to_owned(),
        verb: Verb::Get,
    }
}

/// So many rules, spread over callers and objects.
pub(crate) fn objects(rules: usize) -> Vec<AccessControl> {
    let mut objects: Vec<AccessControl> = Vec::new();
    let mut left = rules;
    let mut callers = 0;
    while left > 0 {
        let is_full = objects
            .last()
            .is_none_or(|object| object.spec.policies.len() == MOST);
        if is_full {
            let name = format!("o{}", objects.len());
            let mut object = AccessControl {
                name,
                ..AccessControl::default()
            };
            object.spec.default_action = Some(Action::Deny);
            objects.push(object);
        }
        let count = left.min(MOST);
        left -= count;
        let policy = CallerPolicy {
            app_id: format!("app{callers}"),
            namespace: "shop".to_owned(),
            operations: (0..count).map(object_rule).collect(),
            ..CallerPolicy::default()
        };
        callers += 1;
        if let Some(object) = objects.last_mut() {
            object.spec.policies.push(policy);
        }
    }
    objects
}

fn one_caller(rules: usize, app: AppKind) -> PolicySet {
    let operations = (0..rules).map(|n| configuration::Operation {
        name: pattern(n),
        http_verb: vec!["GET".to_owned(), "POST".to_owned()],
        action: "allow".to_owned(),
    });
    let block = configuration::AccessControl {
        default_action: Some("deny".to_owned()),
        trust_domain: None,
        policies: Some(vec![configuration::AppPolicy {
            app_id: "app0".to_owned(),
            namespace: "shop".to_owned(),
            trust_domain: "public".to_owned(),
            default_action: "deny".to_owned(),
            operations: operations.collect(),
        }]),
    };
    compile(&[], Some(&block), app)
}

/// Compiles objects and a block.
pub(crate) fn compile(
    objects: &[AccessControl],
    block: Option<&configuration::AccessControl>,
    app: AppKind,
) -> PolicySet {
    let compiled = PolicySet::compile(&Input {
        callee: &callee(app),
        block: block.map(|spec| Block {
            name: "appconfig",
            spec,
            is_strict: false,
        }),
        objects,
        refused: &[],
        namespaces: Namespaces::Any,
        deny_by_default: false,
    });
    compiled.expect("good rules")
}

/// One entry with these rules, and a request of `app0`.
pub(crate) fn adversarial(
    names: impl Iterator<Item = String>,
    method: String,
) -> (PolicySet, Request) {
    let operations = names.map(|name| configuration::Operation {
        name,
        http_verb: vec!["*".to_owned()],
        action: "deny".to_owned(),
    });
    let block = configuration::AccessControl {
        default_action: Some("deny".to_owned()),
        trust_domain: None,
        policies: Some(vec![configuration::AppPolicy {
            app_id: "app0".to_owned(),
            namespace: "shop".to_owned(),
            trust_domain: "public".to_owned(),
            default_action: "allow".to_owned(),
            operations: operations.collect(),
        }]),
    };
    let request = Request {
        name: "adversarial",
        caller: caller("app0"),
        method,
        verb: Verb::Get,
    };
    (compile(&[], Some(&block), AppKind::Http), request)
}
