//! Sets from YAML, requests from what a client writes.

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_resources::{
    AccessControl,
    access_control::decode,
    configuration::{self, ConfigFile},
};

use crate::{
    AppKind, Block, Callee, Caller, Decision, Input, Method, Namespaces, Operation, PolicySet,
    Reason, Refused, Verb, VerbSet, Verdict,
};

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}

/// The caller of most rows.
pub(crate) fn web() -> SpiffeId {
    id("spiffe://public/ns/shop/web")
}

pub(crate) fn callee(app: AppKind) -> Callee {
    Callee {
        app_id: AppId::parse("orders").unwrap(),
        namespace: Namespace::parse("shop").unwrap(),
        trust_domain: TrustDomain::default(),
        app,
    }
}

pub(crate) fn legacy_spec(yaml: &str) -> configuration::AccessControl {
    let text = format!("spec:\n  accessControl: {yaml}\n");
    let file = ConfigFile {
        path: "config.yaml",
        bytes: text.as_bytes(),
    };
    let loaded = configuration::load([file], |_| None).unwrap();
    loaded.spec.access_control.unwrap()
}

/// An object from the YAML of its spec.
pub(crate) fn object(name: &str, spec: &str) -> AccessControl {
    let head = "apiVersion: dapr.io/v1alpha1\nkind: AccessControl\n";
    decode(&format!("{head}metadata: {{name: {name}}}\nspec: {spec}\n")).unwrap()
}

/// What a set is made of; each row changes a part.
pub(crate) struct Given {
    pub(crate) app: AppKind,
    pub(crate) block: Option<configuration::AccessControl>,
    pub(crate) is_strict: bool,
    pub(crate) objects: Vec<AccessControl>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) namespaces: Namespaces,
    pub(crate) deny_by_default: bool,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            app: AppKind::Http,
            block: None,
            is_strict: false,
            objects: Vec::new(),
            refused: Vec::new(),
            namespaces: Namespaces::Own,
            deny_by_default: false,
        }
    }
}

impl Given {
    pub(crate) fn try_set(&self) -> Result<PolicySet, Vec<crate::CompileProblem>> {
        PolicySet::compile(&Input {
            callee: &callee(self.app),
            block: self.block.as_ref().map(|spec| Block {
                name: "appconfig",
                spec,
                is_strict: self.is_strict,
            }),
            objects: &self.objects,
            refused: &self.refused,
            namespaces: self.namespaces,
            deny_by_default: self.deny_by_default,
        })
    }

    pub(crate) fn set(&self) -> PolicySet {
        self.try_set().unwrap()
    }
}

pub(crate) fn legacy(app: AppKind, yaml: &str) -> PolicySet {
    let block = Some(legacy_spec(yaml));
    Given {
        app,
        block,
        ..Given::default()
    }
    .set()
}

pub(crate) fn set_of(specs: &[&str]) -> PolicySet {
    let objects = specs.iter().enumerate();
    let objects = objects.map(|(n, spec)| object(&format!("o{n}"), spec));
    Given {
        objects: objects.collect(),
        ..Given::default()
    }
    .set()
}

/// An entry for [`web`] with these operations.
pub(crate) fn web_entry(rest: &str) -> String {
    format!("{{appId: web, namespace: shop, trustDomain: public{rest}}}")
}

/// A path as it is after the one decoding of the HTTP API, cleaned; `None` if it is refused.
pub(crate) fn http(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match code {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    Some(
        Method::parse(&crate::clean(&text))
            .ok()?
            .as_str()
            .to_owned(),
    )
}

pub(crate) fn ask(set: &PolicySet, caller: &SpiffeId, verb: Verb, method: &str) -> Decision {
    set.decide(Caller::Peer(caller), &Operation::invoke(method, verb))
}

/// The answer to [`web`], in one word, and its reason.
pub(crate) fn answer(set: &PolicySet, verb: Verb, method: &str) -> (bool, Reason) {
    told(ask(set, &web(), verb, method).verdict)
}

pub(crate) fn told(verdict: Verdict) -> (bool, Reason) {
    (verdict.is_allowed(), verdict.matched().reason)
}

pub(crate) fn allows(set: &PolicySet, verb: Verb, method: &str) -> bool {
    answer(set, verb, method).0
}

pub(crate) fn overridden<'a>(method: &'a str, verb: Verb, header: &str) -> Operation<'a> {
    Operation {
        overrides: VerbSet::overrides([header]),
        ..Operation::invoke(method, verb)
    }
}

/// Which rule decided: its number as written, if a rule did.
pub(crate) fn rule_of(set: &PolicySet, decision: Decision) -> Option<usize> {
    let matched = *decision.verdict.matched();
    let place = set.place(matched.rule?)?.to_string();
    let (_, rule) = place.split_once("/operations/")?;
    rule.parse().ok()
}
