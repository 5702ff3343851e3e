//! From what users write to a [`PolicySet`].
//!
//! Owns the selection of objects (M1, M10), the loading rules of the block (security 3.2) and the index by
//! caller. Every problem of every object is reported; whether a set with problems is kept back or closed is the
//! caller's choice ([`Input::refused`]).

use std::collections::HashMap;

use ironside_identity::{AppId, Namespace, SpiffeId, TrustDomain};
use ironside_resources::{
    AccessControl,
    access_control::{
        Action, CallerPolicy, Evaluation, HttpVerb, Mode, OperationRule, PathMatch, Problem,
        Unauthenticated,
    },
};
use thiserror::Error;

use crate::{
    Form, PolicySet, Verb, VerbSet,
    decide::Fixed,
    engine::forest::{Builder, Forest, Order, Rule},
    object::{Entry, Name, Object, Style},
};

mod block;
pub(crate) mod fixed;

pub use block::{Block, BlockError};

/// The app that is called.
#[derive(Clone, Debug)]
pub struct Callee {
    /// Its name.
    pub app_id: AppId,
    /// Its namespace.
    pub namespace: Namespace,
    /// Its trust domain: an identity of another one is no self-call.
    pub trust_domain: TrustDomain,
    /// What it speaks.
    pub app: AppKind,
}

/// What an app speaks; fixed at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppKind {
    /// `http`, `https`, `h2c`: letter case of paths means nothing, verbs mean something.
    Http,
    /// `grpc`, `grpcs`.
    Grpc,
}

/// Which objects apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespaces {
    /// Those of the callee's namespace, and those that name none.
    Own,
    /// All: the process has no namespace of its own (`NAMESPACE` is not set).
    Any,
}

/// Everything a set is made of.
#[derive(Debug)]
pub struct Input<'a> {
    /// Whose calls it is for.
    pub callee: &'a Callee,
    /// The block of the Configuration, if there is one.
    pub block: Option<Block<'a>>,
    /// Objects; those for other apps are left out.
    pub objects: &'a [AccessControl],
    /// Objects that cannot be used: each denies everything in its scope (fact F6).
    pub refused: &'a [Refused],
    /// Which namespaces count.
    pub namespaces: Namespaces,
    /// Deny where nothing applies (fact M8).
    pub deny_by_default: bool,
}

/// An object that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub name: Box<str>,
    /// The apps it is for; empty means all, also when that could not be read.
    pub scopes: Vec<String>,
}

/// Something that keeps a set from being compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileProblem {
    /// The block of the Configuration.
    #[error(transparent)]
    Block(BlockError),
    /// An object.
    #[error("AccessControl {object}: {problem}")]
    Object {
        /// `namespace/name`.
        object: Box<str>,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// A compiled set.
#[derive(Debug)]
pub(crate) struct Compiled {
    pub(crate) callee: Callee,
    pub(crate) app: AppKind,
    pub(crate) forest: Forest,
    pub(crate) objects: Vec<Object>,
    pub(crate) entries: Vec<Entry>,
    /// Entries by exact app ID, sorted by object, the most specific first.
    pub(crate) callers: HashMap<Box<str>, Vec<u32>>,
    /// Entries with a wildcard for the app ID, sorted likewise.
    pub(crate) wild: Vec<u32>,
    pub(crate) fixed: Fixed,
    pub(crate) replaced: Vec<Replaced>,
}

/// An entry that does not count, because a later one is for the same caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replaced {
    pub(crate) object: u32,
    pub(crate) index: u32,
    pub(crate) by: u32,
}

/// A set that grows.
struct Compiler {
    app: AppKind,
    builder: Builder,
    objects: Vec<Object>,
    entries: Vec<Entry>,
    replaced: Vec<Replaced>,
}

// === impl PolicySet ===

impl PolicySet {
    /// Compiles all rules that apply to an app.
    ///
    /// # Errors
    /// Every problem of every object that applies.
    pub fn compile(input: &Input<'_>) -> Result<Self, Vec<CompileProblem>> {
        let mut problems = Vec::new();
        let mut compiler = Compiler::new(input.callee.app);
        if let Some(block) = &input.block
            && let Err(error) = compiler.block(block)
        {
            problems.push(CompileProblem::Block(error));
        }
        for object in input.objects.iter().filter(|object| input.applies(object)) {
            let found = object.problems();
            if found.is_empty() {
                compiler.object(object);
            }
            let name = log_name(object);
            problems.extend(found.into_iter().map(|problem| CompileProblem::Object {
                object: name.as_str().into(),
                problem,
            }));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Self::compiled(compiler.finish(input)))
    }
}

impl Compiled {
    /// One object by itself, whatever is wrong with it, for no app in particular.
    pub(crate) fn alone(object: &AccessControl, app: AppKind) -> Option<Self> {
        // No caller has an empty namespace, so none is the callee.
        let callee = Callee {
            app_id: AppId::parse("callee").ok()?,
            namespace: Namespace::parse("").ok()?,
            trust_domain: TrustDomain::default(),
            app,
        };
        let mut compiler = Compiler::new(app);
        compiler.object(object);
        Some(compiler.finish(&Input {
            callee: &callee,
            block: None,
            objects: &[],
            refused: &[],
            namespaces: Namespaces::Any,
            deny_by_default: false,
        }))
    }
}

fn log_name(object: &AccessControl) -> String {
    match object.namespace.as_str() {
        "" => object.name.clone(),
        namespace => format!("{namespace}/{}", object.name),
    }
}

/// Numbers of objects and entries: the input is bounded by memory long before.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

// === impl Input ===

impl Input<'_> {
    fn applies(&self, object: &AccessControl) -> bool {
        let namespace = object.namespace.as_str();
        let is_near = self.namespaces == Namespaces::Any
            || namespace.is_empty()
            || namespace == self.callee.namespace.as_str();
        is_near && self.is_in_scope(&object.scopes)
    }

    fn is_in_scope(&self, scopes: &[String]) -> bool {
        scopes.is_empty() || scopes.iter().any(|app| app == self.callee.app_id.as_str())
    }
}

// === impl Callee ===

impl Callee {
    /// Whether the peer is the app itself (fact M7).
    pub(crate) fn is(&self, peer: &SpiffeId) -> bool {
        peer.app_id() == &self.app_id
            && peer.namespace() == &self.namespace
            && peer.trust_domain() == &self.trust_domain
    }
}

// === impl Compiler ===

impl Compiler {
    fn new(app: AppKind) -> Self {
        Self {
            app,
            builder: Builder::default(),
            objects: Vec::new(),
            entries: Vec::new(),
            replaced: Vec::new(),
        }
    }

    fn object(&mut self, object: &AccessControl) {
        let spec = &object.spec;
        let style = match spec.evaluation {
            Evaluation::MostSpecific => Style::Specific,
            Evaluation::DaprCompatible => Style::Compatible,
        };
        let unauthenticated = spec.unauthenticated.unwrap_or_default();
        let id = number(self.objects.len());
        self.objects.push(Object {
            name: log_name(object).into(),
            style,
            is_audit: spec.mode == Mode::Audit,
            allows: spec.default_action == Some(Action::Allow),
            needs_identity: style == Style::Specific && unauthenticated == Unauthenticated::Deny,
        });
        if style == Style::Compatible {
            return self.compatible_entries(id, &spec.policies);
        }
        for (index, policy) in spec.policies.iter().enumerate() {
            self.entry(id, index, policy);
        }
    }

    fn entry(&mut self, object: u32, index: usize, policy: &CallerPolicy) {
        let root = self.builder.root(Order::Rank);
        for (operation, rule) in policy.operations.iter().enumerate() {
            let name = self.fold_ascii(&rule.name);
            let path = name.strip_prefix('/').unwrap_or(&name);
            // The root is the path without segments.
            let segments = path.split('/').filter(|segment| !segment.is_empty());
            let rule = specific_rule(rule, operation);
            self.builder.insert(root, segments, rule);
        }
        self.entries.push(Entry {
            object,
            index: number(index),
            app_id: Name::of_pattern(&policy.app_id),
            namespace: Name::of_pattern(&policy.namespace),
            trust_domain: Name::of_pattern(policy.trust_domain()),
            allows: policy.default_action.map(|action| action == Action::Allow),
            root,
        });
    }

    fn fold_ascii(&self, name: &str) -> String {
        match self.app {
            AppKind::Http => name.to_ascii_lowercase(),
            AppKind::Grpc => name.to_owned(),
        }
    }

    fn finish(self, input: &Input<'_>) -> Compiled {
        let Self {
            app,
            builder,
            objects,
            entries,
            replaced,
        } = self;
        let mut refused = input.refused.iter();
        let is_closed = refused.any(|refused| input.is_in_scope(&refused.scopes));
        let fixed = fixed::fixed(&objects, input.deny_by_default, is_closed);
        let mut callers: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut wild = Vec::new();
        for id in by_specificity(&entries) {
            match entries.get(id as usize).map(|entry| &entry.app_id) {
                Some(Name::Exact(app)) => callers.entry(app.clone()).or_default().push(id),
                Some(Name::Any | Name::Prefix(_)) => wild.push(id),
                None => {}
            }
        }
        Compiled {
            callee: input.callee.clone(),
            app,
            forest: builder.build(),
            objects,
            entries,
            callers,
            wild,
            fixed,
            replaced,
        }
    }
}

fn specific_rule(rule: &OperationRule, operation: usize) -> Rule {
    let verbs = &rule.http_verb;
    let verbs = if verbs.is_empty() || verbs.contains(&HttpVerb::Any) {
        VerbSet::EVERY
    } else {
        verbs.iter().map(|verb| verb_of(*verb)).collect()
    };
    Rule {
        verbs,
        allows: rule.action == Action::Allow,
        exact: rule.path_match == Some(PathMatch::Exact),
        operation: number(operation),
    }
}

fn verb_of(verb: HttpVerb) -> Verb {
    match verb {
        HttpVerb::Get => Verb::Get,
        HttpVerb::Head => Verb::Head,
        HttpVerb::Post => Verb::Post,
        HttpVerb::Put => Verb::Put,
        HttpVerb::Delete => Verb::Delete,
        HttpVerb::Connect => Verb::Connect,
        HttpVerb::Options => Verb::Options,
        HttpVerb::Trace => Verb::Trace,
        HttpVerb::Patch => Verb::Patch,
        HttpVerb::Any => Verb::None,
    }
}

/// Entries by object, the most specific first (security 4.4, step 2).
fn by_specificity(entries: &[Entry]) -> Vec<u32> {
    let mut ids: Vec<u32> = (0..number(entries.len())).collect();
    ids.sort_by_key(|id| {
        let entry = entries.get(*id as usize);
        entry.map(|entry| (entry.object, std::cmp::Reverse(entry.rank())))
    });
    ids
}

// === impl Compiled ===

impl Compiled {
    /// Whether objects other than the block decide here.
    pub(crate) fn has_objects(&self) -> bool {
        let mut objects = self.objects.iter();
        self.fixed.all.is_some()
            || objects.any(|object| object.style != Style::Block && !object.is_audit)
    }

    /// Whether the reference would fold letters beyond ASCII for such a call.
    pub(crate) fn is_folded(&self, form: Form) -> bool {
        let mut objects = self.objects.iter();
        self.app == AppKind::Http
            && form == Form::Invoke
            && objects.any(|object| object.style != Style::Specific)
    }
}
