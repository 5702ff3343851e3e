//! Paths that stand for all others, for the rules of several trees at once.
//!
//! Goes down the trees side by side and only where a rule goes on, so the number of paths grows with the rules and
//! not with all combinations of their segments. One step beyond every end is enough: deeper paths are like it.

use std::collections::{HashMap, VecDeque};

use super::{
    MOST_BYTES, MOST_PATHS, TooMuch,
    segment::{Pattern, segments},
};
use crate::{
    AppKind,
    compile::Compiled,
    engine::forest::{Forest, Node, NodeId},
    object::{Entry, Style},
};

/// The children of each node of a forest.
#[derive(Debug)]
pub(crate) struct Children(HashMap<NodeId, Vec<NodeId>>);

/// A tree whose rules count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) forest: &'a Forest,
    pub(crate) children: &'a Children,
    pub(crate) root: NodeId,
    /// Matched as the reference does.
    pub(crate) written: bool,
    /// Letters beyond ASCII are folded.
    pub(crate) folds: bool,
}

// === impl Tree ===

impl<'a> Tree<'a> {
    /// The tree of an entry.
    pub(crate) fn of(set: &'a Compiled, children: &'a Children, entry: &Entry) -> Self {
        let object = set.objects.get(entry.object as usize);
        let written = object.is_none_or(|object| object.style != Style::Specific);
        Self {
            forest: &set.forest,
            children,
            root: entry.root,
            written,
            folds: written && set.app == AppKind::Http,
        }
    }
}

/// Where the trees stand: tree and node.
type Active = Vec<(usize, NodeId)>;

// === impl Children ===

impl Children {
    pub(crate) fn of(forest: &Forest) -> Self {
        let mut children: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
        for (id, node) in forest.nodes() {
            children.entry(node.parent()).or_default().push(id);
        }
        Self(children)
    }

    pub(crate) fn below(&self, node: NodeId) -> &[NodeId] {
        self.0.get(&node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Calls `see` with each node of a tree and its pattern.
    pub(crate) fn walk<'a>(
        &self,
        forest: &'a Forest,
        root: NodeId,
        mut see: impl FnMut(NodeId, &'a Node, &str),
    ) {
        let mut open = vec![(root, String::new())];
        while let Some((id, pattern)) = open.pop() {
            let Some(node) = forest.node(id) else {
                continue;
            };
            see(id, node, &pattern);
            for child in self.below(id) {
                if let Some(node) = forest.node(*child) {
                    open.push((*child, format!("{pattern}/{}", forest.segment(node))));
                }
            }
        }
    }
}

// === impl Forest ===

impl Forest {
    /// Returns the text of a node; it was text when it was compiled.
    pub(crate) fn segment(&self, node: &Node) -> &str {
        std::str::from_utf8(self.text(node)).unwrap_or_default()
    }
}

/// Returns the paths, the shorter ones first, each with its leading slash.
pub(crate) fn paths(trees: &[Tree<'_>]) -> Result<Vec<String>, TooMuch> {
    let roots: Active = trees.iter().map(|tree| tree.root).enumerate().collect();
    let mut found = vec!["/".to_owned()];
    let mut bytes = 0;
    let mut known: HashMap<Active, Vec<String>> = HashMap::new();
    let mut open = VecDeque::from([(String::new(), roots)]);
    while let Some((path, active)) = open.pop_front() {
        let below = below(trees, &active);
        let choices = match known.get(&active) {
            Some(choices) => choices.clone(),
            None => {
                let mut patterns: Vec<Pattern<'_>> = below.iter().map(|(_, one)| *one).collect();
                patterns.sort_unstable();
                patterns.dedup();
                let choices = segments(&patterns)?;
                known.insert(active, choices.clone());
                choices
            }
        };
        for segment in choices {
            let next: Active = below
                .iter()
                .filter(|(_, pattern)| pattern.matches(&segment))
                .map(|(place, _)| *place)
                .collect();
            let path = format!("{path}/{segment}");
            bytes += path.len();
            if found.len() == MOST_PATHS || bytes > MOST_BYTES {
                return Err(TooMuch);
            }
            found.push(path.clone());
            if !next.is_empty() {
                open.push_back((path, next));
            }
        }
    }
    Ok(found)
}

/// The children of all active nodes.
fn below<'a>(trees: &[Tree<'a>], active: &Active) -> Vec<((usize, NodeId), Pattern<'a>)> {
    let mut below = Vec::new();
    for (number, node) in active {
        let Some(tree) = trees.get(*number) else {
            continue;
        };
        for child in tree.children.below(*node) {
            let Some(node) = tree.forest.node(*child) else {
                continue;
            };
            let pattern = Pattern {
                text: tree.forest.segment(node),
                kind: node.kind.into(),
                written: tree.written,
                folds: tree.folds,
            };
            below.push(((*number, *child), pattern));
        }
    }
    below
}
