//! Trees of path segments in three flat lists.
//!
//! A child is found by a hash of its parent and its text, so the cost of a step does not grow with the number
//! of siblings; patterns beside it are listed apart, in the order in which the matcher of that tree wants them.
//! A rule costs about 100 bytes.

use std::collections::HashMap;

use super::{Fold, glob};
use crate::verbs::VerbSet;

/// Number of a node.
pub(crate) type NodeId = u32;

/// A rule at the node where its pattern ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Verbs that it decides.
    pub(crate) verbs: VerbSet,
    /// What it says.
    pub(crate) allows: bool,
    /// Whether deeper paths are left out.
    pub(crate) exact: bool,
    /// Its place in the entry, as written.
    pub(crate) operation: u32,
}

/// What the text of a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Itself.
    Literal,
    /// A text with `*` in it.
    Glob,
    /// `*`
    Star,
    /// `**`
    DoubleStar,
}

/// In which order the patterns beside each other are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As written.
    Written,
    /// The most specific first.
    Rank,
}

/// One segment of a pattern.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node {
    parent: NodeId,
    text: Span,
    patterns: Span,
    rules: Span,
    /// Place among the children of the parent, as written.
    pub(crate) order: u32,
    /// Characters that are no star.
    literals: u16,
    pub(crate) kind: Kind,
    /// Whether one of the rules denies.
    pub(crate) denies: bool,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    len: u32,
}

/// All trees.
#[derive(Debug, Default)]
pub(crate) struct Forest {
    nodes: Vec<Node>,
    /// Open addressing, at most half full; a node's number plus one, or 0.
    slots: Vec<u32>,
    texts: Vec<u8>,
    patterns: Vec<NodeId>,
    rules: Vec<Rule>,
}

/// A forest that grows.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    nodes: Vec<Node>,
    orders: Vec<Order>,
    children: Vec<u32>,
    index: HashMap<(NodeId, Box<str>), NodeId>,
    texts: Vec<u8>,
    rules: Vec<(NodeId, Rule)>,
}

/// Rank of a literal: above every pattern.
pub(crate) const RANK_LITERAL: u16 = u16::MAX;
/// Rank of a glob without literal characters; each one counts one more.
const RANK_GLOB: u16 = 4;
/// Rank of `*`.
pub(crate) const RANK_STAR: u16 = 3;
/// Rank of `**`.
pub(crate) const RANK_DOUBLE_STAR: u16 = 2;
/// Rank of a segment that no pattern names: the rule covers what is deeper.
pub(crate) const RANK_COVERED: u16 = 1;

/// Numbers of nodes, rules and bytes: the input is bounded by memory long before.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

// === impl Span ===

impl Span {
    fn of<T>(self, list: &[T]) -> &[T] {
        let start = self.start as usize;
        list.get(start..start + self.len as usize).unwrap_or(&[])
    }
}

// === impl Kind ===

impl Kind {
    fn of(text: &str) -> Self {
        match text {
            "*" => Self::Star,
            "**" => Self::DoubleStar,
            _ if text.contains('*') => Self::Glob,
            _ => Self::Literal,
        }
    }
}

// === impl Node ===

impl Node {
    /// Returns how specific the segment is; greater is more.
    pub(crate) fn rank(&self) -> u16 {
        match self.kind {
            Kind::Literal => RANK_LITERAL,
            Kind::Glob => RANK_GLOB
                .saturating_add(self.literals)
                .min(RANK_LITERAL - 1),
            Kind::Star => RANK_STAR,
            Kind::DoubleStar => RANK_DOUBLE_STAR,
        }
    }

    /// Returns the node above; the number of none for a root.
    pub(crate) fn parent(&self) -> NodeId {
        self.parent
    }

    pub(crate) fn has_rules(&self) -> bool {
        self.rules.len > 0
    }
}

// === impl Builder ===

impl Builder {
    /// Starts a tree.
    pub(crate) fn root(&mut self, order: Order) -> NodeId {
        self.node(NodeId::MAX, "", order)
    }

    /// Puts a rule at the end of a pattern.
    pub(crate) fn insert<'a>(
        &mut self,
        root: NodeId,
        segments: impl IntoIterator<Item = &'a str>,
        rule: Rule,
    ) -> NodeId {
        let mut at = root;
        for segment in segments {
            at = self.child(at, segment);
        }
        self.rules.push((at, rule));
        at
    }

    fn child(&mut self, parent: NodeId, text: &str) -> NodeId {
        let key = (parent, Box::from(text));
        if let Some(known) = self.index.get(&key) {
            return *known;
        }
        let order = self.orders.get(parent as usize).copied();
        let child = self.node(parent, text, order.unwrap_or(Order::Written));
        self.index.insert(key, child);
        child
    }

    fn node(&mut self, parent: NodeId, text: &str, order: Order) -> NodeId {
        let id = number(self.nodes.len());
        let place = self.children.get_mut(parent as usize);
        let place = place.map_or(0, |count| {
            *count += 1;
            *count
        });
        let literals = text.chars().filter(|c| *c != '*').count();
        self.nodes.push(Node {
            parent,
            text: Span {
                start: number(self.texts.len()),
                len: number(text.len()),
            },
            patterns: Span::default(),
            rules: Span::default(),
            order: place,
            literals: u16::try_from(literals).unwrap_or(u16::MAX),
            kind: Kind::of(text),
            denies: false,
        });
        self.texts.extend_from_slice(text.as_bytes());
        self.orders.push(order);
        self.children.push(0);
        id
    }

    /// Ends the building.
    pub(crate) fn build(self) -> Forest {
        let Self {
            mut nodes,
            orders,
            children: _,
            index,
            texts,
            mut rules,
        } = self;
        rules.sort_by_key(|(node, _)| *node);
        for (at, (node, rule)) in rules.iter().enumerate() {
            if let Some(node) = nodes.get_mut(*node as usize) {
                extend(&mut node.rules, at);
                node.denies |= !rule.allows;
            }
        }
        let patterns = pattern_list(&mut nodes, &orders);
        let mut forest = Forest {
            slots: vec![0; (index.len() * 2).next_power_of_two()],
            nodes,
            texts,
            patterns,
            rules: rules.into_iter().map(|(_, rule)| rule).collect(),
        };
        drop(index);
        forest.hash_all();
        forest
    }
}

fn extend(span: &mut Span, at: usize) {
    if span.len == 0 {
        span.start = number(at);
    }
    span.len += 1;
}

/// Lists the patterns of each parent together, in the order of its tree.
fn pattern_list(nodes: &mut [Node], orders: &[Order]) -> Vec<NodeId> {
    let mut listed: Vec<(NodeId, u32, u32, NodeId)> = Vec::new();
    for (id, (node, order)) in nodes.iter().zip(orders).enumerate() {
        if node.kind == Kind::Literal {
            continue;
        }
        let key = match order {
            Order::Written => node.order,
            Order::Rank => u32::from(u16::MAX - node.rank()),
        };
        listed.push((node.parent, key, node.order, number(id)));
    }
    listed.sort_unstable();
    for (at, (parent, ..)) in listed.iter().enumerate() {
        if let Some(parent) = nodes.get_mut(*parent as usize) {
            extend(&mut parent.patterns, at);
        }
    }
    listed.into_iter().map(|(.., id)| id).collect()
}

// === impl Forest ===

impl Forest {
    pub(crate) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    /// Returns whether the node is a root.
    pub(crate) fn is_root(&self, id: NodeId) -> bool {
        self.node(id).is_some_and(|node| node.parent == NodeId::MAX)
    }

    /// Returns the child whose text the segment is, pattern or not.
    pub(crate) fn child(&self, parent: NodeId, segment: &[u8], fold: Fold) -> Option<NodeId> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = hash(parent, segment, fold) & mask;
        loop {
            let id = self.slots.get(slot)?.checked_sub(1)?;
            let node = self.node(id)?;
            if node.parent == parent && self.is_text(node, segment, fold) {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
    }

    fn is_text(&self, node: &Node, segment: &[u8], fold: Fold) -> bool {
        let text = self.text(node);
        text.len() == segment.len() && text.iter().zip(segment).all(|(a, b)| *a == fold.apply(*b))
    }

    /// Returns all nodes with their numbers.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        (0..).zip(&self.nodes)
    }

    /// Returns the text of the segment.
    pub(crate) fn text(&self, node: &Node) -> &[u8] {
        node.text.of(&self.texts)
    }

    /// Returns the children that are patterns, in the order of the tree.
    pub(crate) fn patterns(&self, node: &Node) -> impl Iterator<Item = (NodeId, &Node)> {
        let ids = node.patterns.of(&self.patterns).iter();
        ids.filter_map(|id| Some((*id, self.node(*id)?)))
    }

    /// Returns the rules whose pattern ends here, as written.
    pub(crate) fn rules(&self, node: &Node) -> &[Rule] {
        node.rules.of(&self.rules)
    }

    /// Returns whether a glob matches a segment.
    pub(crate) fn is_glob_match(&self, node: &Node, segment: &[u8], fold: Fold) -> bool {
        glob::matches(self.text(node), segment, fold)
    }

    fn hash_all(&mut self) {
        let mask = self.slots.len().saturating_sub(1);
        for id in 0..number(self.nodes.len()) {
            let Some(node) = self.node(id) else { continue };
            if node.parent == NodeId::MAX {
                continue;
            }
            let mut slot = hash(node.parent, self.text(node), Fold::Exact) & mask;
            while self.slots.get(slot).is_some_and(|taken| *taken != 0) {
                slot = (slot + 1) & mask;
            }
            if let Some(free) = self.slots.get_mut(slot) {
                *free = id + 1;
            }
        }
    }
}

/// FNV-1a over the segment, started with the parent.
///
/// A request can be made to meet a long chain only if the rules form one: the table is never touched by requests.
fn hash(parent: NodeId, segment: &[u8], fold: Fold) -> usize {
    const START: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut state = (START ^ u64::from(parent)).wrapping_mul(PRIME);
    for byte in segment {
        state = (state ^ u64::from(fold.apply(*byte))).wrapping_mul(PRIME);
    }
    state ^= state >> 32;
    state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(state >> 32).unwrap_or_default()
}
