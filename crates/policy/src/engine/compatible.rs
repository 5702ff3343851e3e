//! The matcher of the reference: the first child that fits, in the order written, without a way back.
//!
//! A rule on an inner node decides for everything below it. Nothing here is better than the reference on
//! purpose. Source: security 3.5.

use super::{
    Fold,
    forest::{Forest, Kind, Node, NodeId, Rule},
    split_segment,
};

/// Returns the rule that decides for `path`, given without its leading slash.
pub(crate) fn find<'a>(
    forest: &'a Forest,
    root: NodeId,
    path: &[u8],
    fold: Fold,
) -> Option<&'a Rule> {
    let mut at = root;
    let mut rest = path;
    loop {
        let (segment, next) = split_segment(rest);
        at = choose(forest, at, segment, next.is_none(), fold)?;
        let node = forest.node(at)?;
        if node.has_rules() && (next.is_none() || node.kind != Kind::Star) {
            return forest.rules(node).first();
        }
        let Some(next) = next else {
            return zero_segments(forest, node).find_map(|child| forest.rules(child).first());
        };
        rest = next;
    }
}

/// The first child that fits.
fn choose(
    forest: &Forest,
    parent: NodeId,
    segment: &[u8],
    is_last: bool,
    fold: Fold,
) -> Option<NodeId> {
    let equal = forest.child(parent, segment, fold);
    let before = equal.and_then(|id| forest.node(id)).map(|node| node.order);
    let earlier = |node: &Node| before.is_none_or(|order| node.order < order);
    let mut patterns = forest.patterns(forest.node(parent)?);
    let pattern = patterns.find_map(|(id, node)| {
        (earlier(node) && fits(forest, node, segment, is_last, fold)).then_some(id)
    });
    pattern.or(equal)
}

fn fits(forest: &Forest, node: &Node, segment: &[u8], is_last: bool, fold: Fold) -> bool {
    match node.kind {
        Kind::Literal => false,
        Kind::Star => is_last,
        Kind::DoubleStar => true,
        Kind::Glob => forest.is_glob_match(node, segment, fold),
    }
}

/// The children `*` and `**` that have a rule: they stand for nothing as well.
fn zero_segments<'a>(forest: &'a Forest, node: &'a Node) -> impl Iterator<Item = &'a Node> {
    let children = forest.patterns(node).map(|(_, child)| child);
    children
        .filter(|child| matches!(child.kind, Kind::Star | Kind::DoubleStar) && child.has_rules())
}

/// Returns whether a deny rule would decide for `path` if it were the only one (fact O-A5).
pub(crate) fn is_denied_by_any(forest: &Forest, root: NodeId, path: &[u8], fold: Fold) -> bool {
    any_alone(forest, root, path, fold, |_, node| node.denies)
}

/// Returns whether `is_it` holds for a node whose rules would decide for `path` if each were the only one.
///
/// A node may be shown more than once; it has rules.
pub(crate) fn any_alone<'a>(
    forest: &'a Forest,
    root: NodeId,
    path: &[u8],
    fold: Fold,
    mut is_it: impl FnMut(NodeId, &'a Node) -> bool,
) -> bool {
    // A rule's name may be of any length, so the way is kept in a list and not on the stack of calls.
    let mut open = Open::default();
    open.push((root, path));
    while let Some((parent, rest)) = open.pop() {
        let (segment, next) = split_segment(rest);
        let Some(node) = forest.node(parent) else {
            continue;
        };
        let equal = forest.child(parent, segment, fold);
        let patterns = forest.patterns(node);
        let patterns = patterns
            .filter(|(id, child)| {
                Some(*id) != equal && fits(forest, child, segment, next.is_none(), fold)
            })
            .map(|(id, _)| id);
        for id in patterns.chain(equal) {
            let Some(child) = forest.node(id) else {
                continue;
            };
            let decides = next.is_none() || child.kind != Kind::Star;
            if child.has_rules() && decides && is_it(id, child) {
                return true;
            }
            match next {
                Some(next) => open.push((id, next)),
                None => {
                    let mut leaves = forest.patterns(child);
                    let is_leaf = |leaf: &Node| {
                        matches!(leaf.kind, Kind::Star | Kind::DoubleStar) && leaf.has_rules()
                    };
                    if leaves.any(|(id, leaf)| is_leaf(leaf) && is_it(id, leaf)) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

/// Places still to be looked at. Few of them need no allocation.
#[derive(Default)]
struct Open<'p> {
    near: [(NodeId, &'p [u8]); 32],
    count: usize,
    far: Vec<(NodeId, &'p [u8])>,
}

// === impl Open ===

impl<'p> Open<'p> {
    fn push(&mut self, place: (NodeId, &'p [u8])) {
        match self.near.get_mut(self.count) {
            Some(slot) => {
                *slot = place;
                self.count += 1;
            }
            None => self.far.push(place),
        }
    }

    fn pop(&mut self) -> Option<(NodeId, &'p [u8])> {
        if let Some(place) = self.far.pop() {
            return Some(place);
        }
        self.count = self.count.checked_sub(1)?;
        self.near.get(self.count).copied()
    }
}
