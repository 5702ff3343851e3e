//! The most specific rule for a path, whatever the order of rules.
//!
//! Patterns are compared segment by segment from the left: literal, glob (more literal characters first), `*`,
//! `**`, covered only by prefix; then an exact end over one for no segment; a full tie goes to deny. The walk
//! visits children from the most specific down and leaves a branch that can no longer win. Source: security 4.4.

use std::cmp::Ordering;

use super::{
    Fold,
    forest::{Forest, Kind, Node, NodeId, RANK_COVERED, RANK_DOUBLE_STAR, RANK_LITERAL, Rule},
    split_segment,
};
use crate::Verb;

/// Segments of the longest pattern: a name has 256 characters at most.
const DEPTH: usize = 130;

/// Which rules count.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verbs {
    /// All: the app does not speak HTTP.
    Ignored,
    /// Those for this verb.
    One(Verb),
}

/// How specific a match is.
#[derive(Clone, Copy)]
struct Key {
    ranks: [u16; DEPTH],
    len: usize,
    /// Rank of all segments after those.
    tail: u16,
    /// The pattern ended with the path, not one wildcard later.
    is_exact_end: bool,
}

struct Search<'a> {
    forest: &'a Forest,
    fold: Fold,
    verbs: Verbs,
    ranks: [u16; DEPTH],
    best: Option<(Key, &'a Rule)>,
}

/// Returns the rule that decides for `path`, given without its leading slash.
pub(crate) fn find<'a>(
    forest: &'a Forest,
    root: NodeId,
    path: &[u8],
    fold: Fold,
    verbs: Verbs,
) -> Option<&'a Rule> {
    let mut search = Search {
        forest,
        fold,
        verbs,
        ranks: [0; DEPTH],
        best: None,
    };
    let path = (!path.is_empty()).then_some(path);
    search.visit(forest.node(root)?, root, path, 0);
    search.best.map(|(_, rule)| rule)
}

/// Returns whether any deny rule covers `path`, whatever its verbs (fact O-A5).
pub(crate) fn is_denied_by_any(forest: &Forest, root: NodeId, path: &[u8], fold: Fold) -> bool {
    any_alone(forest, root, path, fold, |_, _, rule| !rule.allows)
}

/// Returns whether `is_it` holds for a rule that covers `path`, whatever its verbs.
pub(crate) fn any_alone<'a>(
    forest: &'a Forest,
    root: NodeId,
    path: &'a [u8],
    fold: Fold,
    mut is_it: impl FnMut(NodeId, &'a Node, &'a Rule) -> bool,
) -> bool {
    let path = (!path.is_empty()).then_some(path);
    let node = forest.node(root);
    node.is_some_and(|node| alone(forest, node, root, path, fold, &mut is_it))
}

fn alone<'a>(
    forest: &'a Forest,
    node: &'a Node,
    id: NodeId,
    rest: Option<&'a [u8]>,
    fold: Fold,
    is_it: &mut impl FnMut(NodeId, &'a Node, &'a Rule) -> bool,
) -> bool {
    let Some(rest) = rest else {
        let leaves = zero_segments(forest, node);
        let mut ends = std::iter::once((id, node)).chain(leaves);
        return ends.any(|(id, end)| {
            let mut rules = forest.rules(end).iter();
            rules.any(|rule| is_it(id, end, rule))
        });
    };
    if node.covers_deeper(id, forest) {
        let covering = forest.rules(node).iter().filter(|rule| !rule.exact);
        for rule in covering {
            if is_it(id, node, rule) {
                return true;
            }
        }
    }
    let (segment, next) = split_segment(rest);
    let literal = forest.literal(id, segment, fold);
    let literal = literal.into_iter();
    let fitting = forest.fitting(node, segment, fold);
    for (id, child) in literal.chain(fitting) {
        let found = match child.kind {
            Kind::DoubleStar => {
                let mut rules = forest.rules(child).iter();
                rules.any(|rule| is_it(id, child, rule))
            }
            Kind::Literal | Kind::Glob | Kind::Star => alone(forest, child, id, next, fold, is_it),
        };
        if found {
            return true;
        }
    }
    false
}

fn zero_segments<'a>(
    forest: &'a Forest,
    node: &'a Node,
) -> impl Iterator<Item = (NodeId, &'a Node)> {
    let children = forest.patterns(node);
    children.filter(|(_, child)| matches!(child.kind, Kind::Star | Kind::DoubleStar))
}

// === impl Node ===

impl Node {
    /// Whether a rule here may cover deeper paths: not after a lone `*`, and not at the root.
    fn covers_deeper(&self, id: NodeId, forest: &Forest) -> bool {
        self.kind != Kind::Star && !forest.is_root(id)
    }
}

// === impl Forest ===

impl Forest {
    fn literal(&self, parent: NodeId, segment: &[u8], fold: Fold) -> Option<(NodeId, &Node)> {
        let id = self.child(parent, segment, fold)?;
        let node = self.node(id)?;
        (node.kind == Kind::Literal).then_some((id, node))
    }

    fn fitting<'a>(
        &'a self,
        node: &'a Node,
        segment: &'a [u8],
        fold: Fold,
    ) -> impl Iterator<Item = (NodeId, &'a Node)> {
        self.patterns(node)
            .filter(move |(_, child)| match child.kind {
                Kind::Glob => self.is_glob_match(child, segment, fold),
                Kind::Star | Kind::DoubleStar => true,
                Kind::Literal => false,
            })
    }
}

// === impl Search ===

impl<'a> Search<'a> {
    fn visit(&mut self, node: &'a Node, id: NodeId, rest: Option<&[u8]>, depth: usize) {
        let Some(rest) = rest else {
            self.offer(node, depth, 0, End::Exact);
            for (_, leaf) in zero_segments(self.forest, node) {
                self.offer(leaf, depth, 0, End::Zero);
            }
            return;
        };
        let (segment, next) = split_segment(rest);
        if let Some((child_id, child)) = self.forest.literal(id, segment, self.fold)
            && self.enter(depth, RANK_LITERAL)
        {
            self.visit(child, child_id, next, depth + 1);
        }
        let forest = self.forest;
        for (child_id, child) in forest.patterns(node) {
            let rank = child.rank();
            if !self.enter(depth, rank) {
                break;
            }
            match child.kind {
                Kind::DoubleStar => self.offer(child, depth, RANK_DOUBLE_STAR, End::Exact),
                Kind::Glob if !forest.is_glob_match(child, segment, self.fold) => {}
                Kind::Glob | Kind::Star | Kind::Literal => {
                    self.visit(child, child_id, next, depth + 1);
                }
            }
        }
        if node.covers_deeper(id, forest) {
            self.offer(node, depth, RANK_COVERED, End::Covered);
        }
    }

    /// Takes a step, unless what lies there can no longer win.
    fn enter(&mut self, depth: usize, rank: u16) -> bool {
        let Some(slot) = self.ranks.get_mut(depth) else {
            return false;
        };
        *slot = rank;
        let Some((best, _)) = &self.best else {
            return true;
        };
        let way = self.ranks.iter().take(depth + 1);
        let way = way.enumerate().map(|(at, rank)| rank.cmp(&best.rank(at)));
        way.fold(Ordering::Equal, Ordering::then) != Ordering::Less
    }

    /// Compares the rules of a node with the best so far.
    fn offer(&mut self, node: &'a Node, depth: usize, tail: u16, end: End) {
        let rules = self.forest.rules(node).iter();
        let fitting = rules.filter(|rule| {
            let verb = match self.verbs {
                Verbs::Ignored => true,
                Verbs::One(verb) => rule.verbs.contains(verb),
            };
            verb && !(end == End::Covered && rule.exact)
        });
        // The first of those that deny, else the first: deny wins a tie.
        let Some(rule) = fitting.reduce(|best, rule| {
            if best.allows && !rule.allows {
                rule
            } else {
                best
            }
        }) else {
            return;
        };
        let key = Key {
            ranks: self.ranks,
            len: depth,
            tail,
            is_exact_end: end != End::Zero,
        };
        let wins = self.best.is_none_or(|(best, held)| match key.cmp(&best) {
            Ordering::Greater => true,
            Ordering::Equal => held.allows && !rule.allows,
            Ordering::Less => false,
        });
        if wins {
            self.best = Some((key, rule));
        }
    }
}

/// How a pattern ends at the path's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// With it.
    Exact,
    /// A trailing wildcard stood for nothing.
    Zero,
    /// Before it.
    Covered,
}

// === impl Key ===

impl Key {
    fn rank(&self, at: usize) -> u16 {
        if at < self.len {
            self.ranks.get(at).copied().unwrap_or_default()
        } else {
            self.tail
        }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        // One more than the longer of the two: there stand the tails.
        let ranks = 0..=self.len.max(other.len);
        let mut ranks = ranks.map(|at| self.rank(at).cmp(&other.rank(at)));
        let first = ranks.find(|ordering| ordering.is_ne());
        first.unwrap_or_else(|| self.is_exact_end.cmp(&other.is_exact_end))
    }
}
