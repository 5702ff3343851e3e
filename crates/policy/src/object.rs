//! Compiled objects: whose rules they are, which callers they name, what one of them says.
//!
//! The block of a Configuration is one more object. An entry points to the tree of its rules; the answer of an
//! entry follows security 3.4 or 4.4, depending on the object.

use ironside_identity::SpiffeId;

use crate::{
    Form, Matched, Reason, RuleId, Source, Verb,
    compile::AppKind,
    engine::{
        Fold, compatible,
        forest::{Forest, NodeId, Rule},
        relative, specific,
    },
};

/// How the rules of an object are evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The block of a Configuration, security 3.
    Block,
    /// An object evaluated as the block.
    Compatible,
    /// An object of security 4.4.
    Specific,
}

/// An object whose rules apply here.
#[derive(Debug)]
pub(crate) struct Object {
    /// `namespace/name`, or `Configuration/name`.
    pub(crate) name: Box<str>,
    pub(crate) style: Style,
    /// Watched only, never decides.
    pub(crate) is_audit: bool,
    /// What holds where no entry decides.
    pub(crate) allows: bool,
    /// Callers without identity are refused.
    pub(crate) needs_identity: bool,
}

/// What one caller, or a group of callers, may do.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) object: u32,
    /// Its place in the object, as written.
    pub(crate) index: u32,
    pub(crate) app_id: Name,
    pub(crate) namespace: Name,
    pub(crate) trust_domain: Name,
    /// What holds where no rule decides.
    pub(crate) allows: Option<bool>,
    pub(crate) root: NodeId,
}

/// A name in a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// `*`
    Any,
    /// The start of names.
    Prefix(Box<str>),
    /// One name.
    Exact(Box<str>),
}

/// One reading of the path, in the spelling of each kind of object.
#[derive(Clone, Copy)]
pub(crate) struct Paths<'a> {
    /// For [`Style::Specific`].
    pub(crate) specific: &'a str,
    /// For the other two.
    pub(crate) compatible: &'a str,
}

/// What an entry is asked.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) app: AppKind,
    pub(crate) form: Form,
    pub(crate) verb: Verb,
    pub(crate) paths: Paths<'a>,
}

/// What an entry says, always on purpose: an answer by default is the set's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) allows: bool,
    pub(crate) matched: Matched,
}

// === impl Name ===

impl Name {
    /// A name as AccessControl writes it.
    pub(crate) fn of_pattern(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some("") => Self::Any,
            Some(start) => Self::Prefix(start.into()),
            None => Self::Exact(text.into()),
        }
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(start) => text.starts_with(&**start),
            Self::Exact(name) => **name == *text,
        }
    }

    /// How specific it is; greater is more.
    pub(crate) fn rank(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Prefix(start) => (1, start.len()),
            Self::Exact(_) => (2, 0),
        }
    }
}

// === impl Entry ===

impl Entry {
    /// Whether the entry is for this caller.
    pub(crate) fn names(&self, caller: &SpiffeId) -> bool {
        self.namespace.matches(caller.namespace().as_str())
            && self.trust_domain.matches(caller.trust_domain().as_str())
            && self.app_id.matches(caller.app_id().as_str())
    }

    /// How specific it is: app ID, then namespace, then trust domain (security 4.4, step 2).
    pub(crate) fn rank(&self) -> [(u8, usize); 3] {
        [
            self.app_id.rank(),
            self.namespace.rank(),
            self.trust_domain.rank(),
        ]
    }

    /// Asks the entry of an object of that style; `None` goes on to the next one.
    pub(crate) fn ask(
        &self,
        style: Style,
        forest: &Forest,
        question: Question<'_>,
    ) -> Option<Answer> {
        self.ask_tree(style, forest, self.root, question)
    }

    /// Asks as if the entry had the rules of another tree.
    pub(crate) fn ask_tree(
        &self,
        style: Style,
        forest: &Forest,
        root: NodeId,
        question: Question<'_>,
    ) -> Option<Answer> {
        match style {
            Style::Block | Style::Compatible => self.compatible(forest, root, question),
            Style::Specific => self.specific(forest, root, question),
        }
    }

    /// Security 3.4, steps 6 to 14.
    fn compatible(&self, forest: &Forest, root: NodeId, question: Question<'_>) -> Option<Answer> {
        let path = relative(question.paths.compatible);
        let is_http = question.app == AppKind::Http && question.form == Form::Invoke;
        if !is_http {
            let rule = compatible::find(forest, root, path, Fold::Exact);
            return rule.map(|rule| self.by_rule(rule)).or(self.by_default());
        }
        if question.verb == Verb::None {
            return self.compatible_without_verb(forest, root, path);
        }
        match compatible::find(forest, root, path, Fold::Ascii) {
            Some(rule) if rule.verbs.contains(question.verb) => Some(self.by_rule(rule)),
            _ => self.by_default(),
        }
    }

    /// A request that hides its verb can only be denied more (fact O-A5, step 13).
    fn compatible_without_verb(
        &self,
        forest: &Forest,
        root: NodeId,
        path: &[u8],
    ) -> Option<Answer> {
        if compatible::is_denied_by_any(forest, root, path, Fold::Ascii) {
            return Some(self.answer(false, Reason::OperationRule, None));
        }
        if compatible::find(forest, root, path, Fold::Ascii).is_none() {
            return self.by_default();
        }
        let allows = self.allows.unwrap_or(false);
        Some(self.answer(allows, Reason::CallerDefault, None))
    }

    /// Security 4.4, steps 3 and 4.
    fn specific(&self, forest: &Forest, root: NodeId, question: Question<'_>) -> Option<Answer> {
        let path = relative(question.paths.specific);
        let (fold, verbs) = match question.app {
            AppKind::Http => (Fold::Ascii, specific::Verbs::One(question.verb)),
            AppKind::Grpc => (Fold::Exact, specific::Verbs::Ignored),
        };
        let is_hidden = question.app == AppKind::Http && question.verb == Verb::None;
        if is_hidden && specific::is_denied_by_any(forest, root, path, fold) {
            return Some(self.answer(false, Reason::OperationRule, None));
        }
        let rule = specific::find(forest, root, path, fold, verbs);
        rule.map(|rule| self.by_rule(rule)).or(self.by_default())
    }

    fn by_rule(&self, rule: &Rule) -> Answer {
        self.answer(rule.allows, Reason::OperationRule, Some(rule.operation))
    }

    fn by_default(&self) -> Option<Answer> {
        let allows = self.allows?;
        Some(self.answer(allows, Reason::CallerDefault, None))
    }

    fn answer(&self, allows: bool, reason: Reason, operation: Option<u32>) -> Answer {
        // The reference says `app` only if the entry has a default of its own (security 3.11).
        let source = match self.allows {
            Some(_) => Source::App,
            None => Source::Global,
        };
        let rule = RuleId {
            object: self.object,
            entry: Some(self.index),
            operation,
        };
        Answer {
            allows,
            matched: Matched {
                reason,
                rule: Some(rule),
                source,
            },
        }
    }
}
