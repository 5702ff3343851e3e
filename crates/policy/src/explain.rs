//! Why a decision is what it is, in words and in full.
//!
//! A decision carries numbers; here they become names. An explanation asks every object by itself and every
//! reading by itself; it allocates and is for people, never for the way of a request.

use std::fmt;

mod nearest;

pub use nearest::Nearest;

use crate::{
    Caller, Decision, Operation, PolicySet, RuleId, Verdict,
    compile::{Compiled, fixed},
    engine::reading,
    object::{Entry, Object, Question, Style},
    survey::Spelled,
};

/// Where a rule stands.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub(crate) object: &'a Object,
    pub(crate) rule: RuleId,
}

/// The JSON pointer of a rule within its object, without the set that holds the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    is_block: bool,
    rule: RuleId,
}

/// Everything about one decision.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision.
    pub decision: Decision,
    /// The path as policy sees it.
    pub canonical: String,
    /// Ways to read it, and the answer to each; empty if there are none to speak of.
    pub readings: Vec<(String, Verdict)>,
    /// Objects that apply, in order, and what each of them says by itself of the path as it is.
    pub objects: Vec<ObjectAnswer>,
    /// For a denial, the rule that comes nearest to allowing it.
    pub nearest: Option<Nearest>,
}

/// An object of a set, and what it says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectAnswer {
    /// `namespace/name`, or `Configuration/name`.
    pub name: Box<str>,
    /// Watched only.
    pub is_audit: bool,
    /// What it says; `None` if it was not asked, as when the app calls itself.
    pub verdict: Option<Verdict>,
}

// === impl Place ===

impl<'a> Place<'a> {
    /// Returns the object: `namespace/name`, or `Configuration/name`.
    #[must_use]
    pub fn object(&self) -> &'a str {
        &self.object.name
    }

    /// Returns the JSON pointer within the object, which may outlive the set.
    #[must_use]
    pub fn pointer(&self) -> Pointer {
        Pointer {
            is_block: self.object.style == Style::Block,
            rule: self.rule,
        }
    }
}

/// The JSON pointer within the object.
impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pointer().fmt(f)
    }
}

// === impl Pointer ===

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/spec")?;
        if self.is_block {
            f.write_str("/accessControl")?;
        }
        let RuleId {
            object: _,
            entry,
            operation,
        } = self.rule;
        match (entry, operation) {
            (Some(entry), Some(rule)) => write!(f, "/policies/{entry}/operations/{rule}"),
            (Some(entry), None) => write!(f, "/policies/{entry}"),
            (None, _) => f.write_str("/defaultAction"),
        }
    }
}

// === impl PolicySet ===

impl PolicySet {
    /// Returns where a rule of this set stands.
    #[must_use]
    pub fn place(&self, rule: RuleId) -> Option<Place<'_>> {
        let object = self.rules()?.objects.get(rule.object as usize)?;
        Some(Place { object, rule })
    }

    /// Returns the objects that apply, the block included.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectAnswer> {
        let objects = self.rules().map(|rules| rules.objects.as_slice());
        let answer = |object: &Object| ObjectAnswer {
            name: object.name.clone(),
            is_audit: object.is_audit,
            verdict: None,
        };
        objects.unwrap_or_default().iter().map(answer).collect()
    }

    /// What is decided if a path has this reading only.
    fn one_reading(&self, caller: Caller<'_>, operation: &Operation<'_>, text: &str) -> Verdict {
        let (Some(set), Caller::Peer(peer)) = (self.rules(), caller) else {
            return self.decide(caller, operation).verdict;
        };
        let spelled = Spelled::new(set.app, text);
        let view = set.peer(peer);
        let ask = |verb| {
            let question = Question {
                form: operation.form,
                ..spelled.ask(set.app, verb)
            };
            view.decide(question).verdict
        };
        let others = operation.overrides.iter();
        others.fold(ask(operation.verb), |verdict, verb| verdict.and(ask(verb)))
    }

    /// Returns what each object that applies says by itself.
    fn answers(&self, caller: Caller<'_>, operation: &Operation<'_>) -> Vec<ObjectAnswer> {
        let mut answers = self.objects();
        let objects = self.rules().map(|rules| (rules, (0..).zip(&rules.objects)));
        if let Some((set, objects)) = objects {
            for (answer, (id, object)) in answers.iter_mut().zip(objects) {
                answer.verdict = says(set, id, object, caller, operation);
            }
        }
        answers
    }

    /// Returns a decision with everything that led to it.
    #[must_use]
    pub fn explain(&self, caller: Caller<'_>, operation: &Operation<'_>) -> Explanation {
        let mut texts = Vec::new();
        if !reading::is_plain(operation.method) {
            // A path without definite readings is denied as a whole.
            let _unreadable = reading::each(operation.method, |text| {
                texts.push(text.to_owned());
                true
            });
        }
        let judge = |text: String| {
            let verdict = self.one_reading(caller, operation, &text);
            (text, verdict)
        };
        let readings: Vec<(String, Verdict)> = texts.into_iter().map(judge).collect();
        let relative = operation.method.strip_prefix('/');
        let decision = self.decide(caller, operation);
        // Of a path that can be read in several ways, the one that is denied.
        let denied = readings.iter().find(|(_, verdict)| !verdict.is_allowed());
        let method = denied.map_or(operation.method, |(text, _)| text);
        let denied = Operation {
            method,
            ..*operation
        };
        let nearest = if decision.is_allowed() {
            None
        } else {
            self.nearest(caller, &denied)
        };
        Explanation {
            decision,
            canonical: format!("/{}", relative.unwrap_or(operation.method)),
            readings,
            objects: self.answers(caller, operation),
            nearest,
        }
    }
}

/// What one object says of the path as it is (security 4.4, rule M7).
fn says(
    set: &Compiled,
    id: u32,
    object: &Object,
    caller: Caller<'_>,
    operation: &Operation<'_>,
) -> Option<Verdict> {
    let default = fixed::default_of(id, object);
    let peer = match caller {
        Caller::Peer(peer) if !set.callee.is(peer) || object.style == Style::Block => peer,
        Caller::Own if object.style == Style::Block => return Some(default),
        Caller::Peer(_) | Caller::Own => return None,
        Caller::Anonymous => return Some(fixed::anonymous_of(id, object)),
    };
    let spelled = Spelled::new(set.app, operation.method);
    let question = Question {
        form: operation.form,
        ..spelled.ask(set.app, operation.verb)
    };
    let mut entries: Vec<&Entry> = set
        .entries
        .iter()
        .filter(|entry| entry.object == id && entry.names(peer))
        .collect();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
    let mut answers = entries
        .iter()
        .filter_map(|entry| entry.ask(object.style, &set.forest, question));
    Some(match answers.next() {
        Some(answer) if answer.allows => Verdict::Allow(answer.matched),
        Some(answer) => Verdict::Deny(answer.matched),
        None => default,
    })
}
