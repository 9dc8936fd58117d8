//! The order of a large sorted set: a B+tree that counts.
//!
//! Leaves hold (score, member number) in order and are linked both ways. Inner nodes hold, for each child,
//! its first element and how many elements are below it, so a rank is found and answered in one descent.
//! Member bytes live in [`Members`] and are looked at only where scores are equal.
//!
//! INVARIANT: every node but an empty root leaf has an element; all leaves are equally deep; the counts and
//! first elements in inner nodes are those of the children; no separator outlives its member.
//! An inner node has at least two children. Removal merges a node that is at most half full with a neighbour
//! when both fit in three quarters of a node, and refills one below a quarter from its neighbour, so nodes
//! neither stay sparse nor split and merge in turn.

use super::members::{MemberId, Members};
use super::range::Cut;
use crate::prefetch::prefetch_all;

/// Elements in a leaf and children in an inner node.
pub(super) const NODE_LEN_MAX: usize = 64;
/// Two neighbours are merged when they have no more than this together.
const NODE_MERGE_MAX: usize = NODE_LEN_MAX / 4 * 3;
/// A node that a removal leaves with fewer takes from a neighbour that it cannot merge with.
const NODE_LEN_MIN: usize = NODE_LEN_MAX / 4;

type NodeId = u32;
const NONE: NodeId = NodeId::MAX;

#[derive(Clone)]
struct Leaf {
    len: usize,
    prev: NodeId,
    next: NodeId,
    scores: [f64; NODE_LEN_MAX],
    members: [MemberId; NODE_LEN_MAX],
}

impl Leaf {
    fn new() -> Self {
        Self { len: 0, prev: NONE, next: NONE, scores: [0.0; NODE_LEN_MAX], members: [0; NODE_LEN_MAX] }
    }

    fn insert(&mut self, at: usize, score: f64, member: MemberId) {
        self.scores.copy_within(at..self.len, at + 1);
        self.members.copy_within(at..self.len, at + 1);
        self.scores[at] = score;
        self.members[at] = member;
        self.len += 1;
    }

    fn remove(&mut self, at: usize) -> MemberId {
        let member = self.members[at];
        self.scores.copy_within(at + 1..self.len, at);
        self.members.copy_within(at + 1..self.len, at);
        self.len -= 1;
        member
    }

    /// Whether the element at `at` would stand at this cut, too. Not so for the first and the last: that one is known
    /// further up, and a neighbour of this one is elsewhere.
    fn fits(&self, at: usize, members: &Members, cut: Cut<'_>) -> bool {
        let is_before = |at: usize| cut.is_after(self.scores[at], || members.bytes(self.members[at]));
        at > 0 && at + 1 < self.len && is_before(at - 1) && !is_before(at + 1)
    }

    /// Moves the elements from `at` on to the end of `other`.
    fn move_tail(&mut self, at: usize, other: &mut Leaf) {
        let count = self.len - at;
        other.scores[other.len..other.len + count].copy_from_slice(&self.scores[at..self.len]);
        other.members[other.len..other.len + count].copy_from_slice(&self.members[at..self.len]);
        other.len += count;
        self.len = at;
    }
}

/// What an inner node knows about a child.
#[derive(Clone, Copy)]
struct Child {
    node: NodeId,
    first_member: MemberId,
    first_score: f64,
    count: u64,
}

#[derive(Clone)]
struct Inner {
    children: Vec<Child>,
}

/// Nodes by number, with numbers of freed nodes used again.
#[derive(Clone)]
struct Pool<T> {
    nodes: Vec<Option<Box<T>>>,
    free: Vec<NodeId>,
}

impl<T> Pool<T> {
    fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new() }
    }

    fn add(&mut self, node: T) -> NodeId {
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = Some(Box::new(node));
            return id;
        }
        self.nodes.push(Some(Box::new(node)));
        (self.nodes.len() - 1) as NodeId
    }

    fn take(&mut self, id: NodeId) -> Box<T> {
        self.free.push(id);
        self.nodes[id as usize].take().expect("the node is live")
    }

    fn at(&self, id: NodeId) -> &T {
        self.nodes[id as usize].as_ref().expect("the node is live")
    }

    fn at_mut(&mut self, id: NodeId) -> &mut T {
        self.nodes[id as usize].as_mut().expect("the node is live")
    }

    fn live(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

#[derive(Clone)]
pub(super) struct Tree {
    leaves: Pool<Leaf>,
    inners: Pool<Inner>,
    root: NodeId,
    /// Levels of inner nodes above the leaves.
    height: usize,
    len: usize,
}

/// An element to remove.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// The one with this rank, which must be below [`Tree::len`].
    Rank(usize),
    /// The one with this score and member, which must be there.
    Element(f64, &'a [u8]),
    /// As `Element`, to come back with another score. Where that changes nothing but the score, it gets it and stays.
    Moving(f64, &'a [u8], f64),
}

/// A place in the leaves.
#[derive(Clone, Copy)]
pub(super) struct Position {
    leaf: NodeId,
    at: usize,
}

impl Tree {
    pub fn new() -> Self {
        let mut leaves = Pool::new();
        let root = leaves.add(Leaf::new());
        Self { leaves, inners: Pool::new(), root, height: 0, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// How many elements lie before the cut.
    pub fn count_before(&self, members: &Members, cut: Cut<'_>) -> usize {
        let mut node = self.root;
        let mut before = 0;
        for _ in 0..self.height {
            let children = &self.inners.at(node).children;
            let at = child_before(children, members, cut);
            before += children[..at].iter().map(|child| child.count as usize).sum::<usize>();
            node = children[at].node;
        }
        before + leaf_before(self.leaves.at(node), members, cut)
    }

    /// The place of the element with this rank, which must be below [`Tree::len`].
    pub fn seek(&self, rank: usize) -> Position {
        let mut node = self.root;
        let mut rest = rank;
        for _ in 0..self.height {
            let children = &self.inners.at(node).children;
            let (at, left) = child_with_rank(children, rest);
            rest = left;
            node = children[at].node;
        }
        debug_assert!(rest < self.leaves.at(node).len);
        Position { leaf: node, at: rest }
    }

    pub fn element(&self, position: Position) -> (MemberId, f64) {
        let leaf = self.leaves.at(position.leaf);
        (leaf.members[position.at], leaf.scores[position.at])
    }

    /// The place after this one; meaningless after the last element.
    pub fn after(&self, position: Position) -> Position {
        let leaf = self.leaves.at(position.leaf);
        if position.at + 1 < leaf.len {
            return Position { at: position.at + 1, ..position };
        }
        Position { leaf: leaf.next, at: 0 }
    }

    /// The place before this one; meaningless before the first element.
    pub fn before(&self, position: Position) -> Position {
        if position.at > 0 {
            return Position { at: position.at - 1, ..position };
        }
        let prev = self.leaves.at(position.leaf).prev;
        let at = if prev == NONE { 0 } else { self.leaves.at(prev).len - 1 };
        Position { leaf: prev, at }
    }

    /// Adds an element that is not there yet.
    pub fn insert(&mut self, members: &Members, score: f64, member: MemberId) {
        let cut = Cut::Element(score, members.bytes(member));
        if let Some(right) = self.insert_below(self.root, self.height, members, cut, score, member) {
            let left = self.summary(self.root, self.height);
            self.root = self.inners.add(Inner { children: vec![left, right] });
            self.height += 1;
        }
        self.len += 1;
    }

    /// Inserts below a node; gives the new right neighbour if the node had to be split.
    fn insert_below(
        &mut self,
        node: NodeId,
        height: usize,
        members: &Members,
        cut: Cut<'_>,
        score: f64,
        member: MemberId,
    ) -> Option<Child> {
        if height == 0 {
            let at = leaf_before(self.leaves.at(node), members, cut);
            return self.insert_in_leaf(node, at, score, member).map(|new| self.summary(new, 0));
        }
        let at = child_before(&self.inners.at(node).children, members, cut);
        let child = self.inners.at(node).children[at].node;
        let new = self.insert_below(child, height - 1, members, cut, score, member);
        let updated = match new {
            Some(_) => self.summary(child, height - 1),
            None => {
                let old = self.inners.at(node).children[at];
                // A child behind the first one begins before what comes into it.
                let first = (old.first_member, old.first_score);
                let (first_member, first_score) = if at > 0 { first } else { self.first(child, height - 1) };
                Child { first_member, first_score, count: old.count + 1, ..old }
            }
        };
        let children = &mut self.inners.at_mut(node).children;
        children[at] = updated;
        children.insert(at + 1, new?);
        if children.len() <= NODE_LEN_MAX {
            return None;
        }
        let middle = if at + 2 == children.len() { NODE_LEN_MAX - 1 } else { NODE_LEN_MAX / 2 };
        let mut right = Vec::with_capacity(NODE_LEN_MAX + 1);
        right.extend(children.drain(middle..));
        let new = self.inners.add(Inner { children: right });
        Some(self.summary(new, height))
    }

    /// Inserts into a leaf; gives the number of the new right neighbour if the leaf was full.
    fn insert_in_leaf(&mut self, node: NodeId, at: usize, score: f64, member: MemberId) -> Option<NodeId> {
        let leaf = self.leaves.at_mut(node);
        if leaf.len < NODE_LEN_MAX {
            leaf.insert(at, score, member);
            return None;
        }
        // Appending at the very end leaves full leaves behind: scores that only grow pack densely.
        let appending = at == NODE_LEN_MAX && leaf.next == NONE;
        let middle = if appending { NODE_LEN_MAX } else { NODE_LEN_MAX / 2 };
        let mut right = Leaf { prev: node, next: leaf.next, ..Leaf::new() };
        leaf.move_tail(middle, &mut right);
        if at > middle || appending {
            right.insert(at - middle, score, member);
        } else {
            leaf.insert(at, score, member);
        }
        let after = right.next;
        let new = self.leaves.add(right);
        self.leaves.at_mut(node).next = new;
        if after != NONE {
            self.leaves.at_mut(after).prev = new;
        }
        Some(new)
    }

    /// Removes an element that is there; `None` where it stays.
    pub fn remove(&mut self, members: &Members, target: Target<'_>) -> Option<MemberId> {
        let removed = self.remove_below(self.root, self.height, members, target)?;
        self.len -= 1;
        while self.height > 0 && self.inners.at(self.root).children.len() == 1 {
            let old = self.inners.take(self.root);
            self.root = old.children[0].node;
            self.height -= 1;
        }
        Some(removed)
    }

    fn remove_below(
        &mut self,
        node: NodeId,
        height: usize,
        members: &Members,
        target: Target<'_>,
    ) -> Option<MemberId> {
        if height == 0 {
            let leaf = self.leaves.at_mut(node);
            let at = match target {
                Target::Rank(rank) => rank,
                Target::Element(score, member) | Target::Moving(score, member, _) => {
                    leaf_before(leaf, members, Cut::AfterElement(score, member)) - 1
                }
            };
            if let Target::Moving(_, member, score) = target
                && leaf.fits(at, members, Cut::Element(score, member))
            {
                leaf.scores[at] = score;
                return None;
            }
            return Some(leaf.remove(at));
        }
        let children = &self.inners.at(node).children;
        let (at, target) = match target {
            Target::Rank(rank) => {
                let (at, rest) = child_with_rank(children, rank);
                (at, Target::Rank(rest))
            }
            Target::Element(score, member) | Target::Moving(score, member, _) => {
                (child_before(children, members, Cut::AfterElement(score, member)), target)
            }
        };
        let child = children[at].node;
        let removed = self.remove_below(child, height - 1, members, target)?;
        let len = self.node_len(child, height - 1);
        let old = self.inners.at(node).children[at];
        if len > 0 {
            let first = (old.first_member, old.first_score);
            let (first_member, first_score) =
                if removed == old.first_member { self.first(child, height - 1) } else { first };
            let count = old.count - 1;
            self.inners.at_mut(node).children[at] = Child { first_member, first_score, count, ..old };
        }
        if len <= NODE_LEN_MAX / 2 {
            self.merge_child(node, height, at, len);
        }
        Some(removed)
    }

    /// Merges a thin child with a neighbour where both fit; a very thin one takes from its neighbour instead.
    fn merge_child(&mut self, node: NodeId, height: usize, at: usize, len: usize) {
        let left = at.saturating_sub(1);
        for left in [left, at] {
            let children = &self.inners.at(node).children;
            let Some(right_child) = children.get(left + 1) else { continue };
            let (left_node, right_node) = (children[left].node, right_child.node);
            let both = self.node_len(left_node, height - 1) + self.node_len(right_node, height - 1);
            if both > NODE_MERGE_MAX && len > 0 {
                continue;
            }
            self.merge_nodes(left_node, right_node, height - 1);
            let merged = self.summary(left_node, height - 1);
            let children = &mut self.inners.at_mut(node).children;
            children.remove(left + 1);
            children[left] = merged;
            return;
        }
        if len < NODE_LEN_MIN {
            let children = &self.inners.at(node).children;
            let (left_node, right_node) = (children[left].node, children[left + 1].node);
            self.level_nodes(left_node, right_node, height - 1);
            let pair = [self.summary(left_node, height - 1), self.summary(right_node, height - 1)];
            self.inners.at_mut(node).children[left..left + 2].copy_from_slice(&pair);
        }
    }

    /// Shares the content of two neighbours equally between them.
    fn level_nodes(&mut self, left: NodeId, right: NodeId, height: usize) {
        if height > 0 {
            let mut tail = std::mem::take(&mut self.inners.at_mut(right).children);
            let children = &mut self.inners.at_mut(left).children;
            children.append(&mut tail);
            let tail = children.split_off(children.len() / 2);
            self.inners.at_mut(right).children = tail;
            return;
        }
        let mut elements = Vec::with_capacity(2 * NODE_LEN_MAX);
        for node in [left, right] {
            let leaf = self.leaves.at_mut(node);
            elements.extend((0..leaf.len).map(|at| (leaf.scores[at], leaf.members[at])));
            leaf.len = 0;
        }
        let middle = elements.len() / 2;
        for (node, part) in [(left, &elements[..middle]), (right, &elements[middle..])] {
            let leaf = self.leaves.at_mut(node);
            part.iter().for_each(|&(score, member)| leaf.insert(leaf.len, score, member));
        }
    }

    fn merge_nodes(&mut self, left: NodeId, right: NodeId, height: usize) {
        if height > 0 {
            let mut gone = self.inners.take(right);
            self.inners.at_mut(left).children.append(&mut gone.children);
            return;
        }
        let mut gone = self.leaves.take(right);
        let leaf = self.leaves.at_mut(left);
        gone.move_tail(0, leaf);
        leaf.next = gone.next;
        if gone.next != NONE {
            self.leaves.at_mut(gone.next).prev = left;
        }
    }

    fn node_len(&self, node: NodeId, height: usize) -> usize {
        if height == 0 { self.leaves.at(node).len } else { self.inners.at(node).children.len() }
    }

    fn first(&self, node: NodeId, height: usize) -> (MemberId, f64) {
        if height == 0 {
            let leaf = self.leaves.at(node);
            return (leaf.members[0], leaf.scores[0]);
        }
        let child = &self.inners.at(node).children[0];
        (child.first_member, child.first_score)
    }

    fn summary(&self, node: NodeId, height: usize) -> Child {
        let (first_member, first_score) = self.first(node, height);
        let count = if height == 0 {
            self.leaves.at(node).len as u64
        } else {
            self.inners.at(node).children.iter().map(|child| child.count).sum()
        };
        Child { node, first_member, first_score, count }
    }

    pub fn memory_bytes(&self) -> usize {
        let leaves = self.leaves.live() * size_of::<Leaf>() + self.leaves.nodes.capacity() * 8;
        let inner_bytes = NODE_LEN_MAX * size_of::<Child>() + size_of::<Inner>();
        leaves + self.inners.live() * inner_bytes + self.inners.nodes.capacity() * 8
    }
}

/// The child in which the cut falls: the last whose first element lies before it, else the first.
fn child_before(children: &[Child], members: &Members, cut: Cut<'_>) -> usize {
    let first_member = |at: usize| members.bytes(children[at].first_member);
    cut.position(children.iter().map(|child| child.first_score), first_member).saturating_sub(1)
}

fn leaf_before(leaf: &Leaf, members: &Members, cut: Cut<'_>) -> usize {
    // What is about to be moved is waited for together with what is looked at.
    prefetch_all(leaf);
    cut.position(leaf.scores[..leaf.len].iter().copied(), |at| members.bytes(leaf.members[at]))
}

/// The child that holds the element with this rank, and the rank within it.
fn child_with_rank(children: &[Child], rank: usize) -> (usize, usize) {
    let mut rest = rank;
    for (at, child) in children.iter().enumerate() {
        if rest < child.count as usize {
            return (at, rest);
        }
        rest -= child.count as usize;
    }
    unreachable!("the rank is below the number of elements");
}

#[cfg(test)]
impl Tree {
    /// Checks every invariant of the file's head.
    pub fn check(&self, members: &Members) {
        let mut leaves_in_order = Vec::new();
        let count = self.check_node(self.root, self.height, &mut leaves_in_order);
        assert_eq!(count, self.len);
        assert_eq!(leaves_in_order.len(), self.leaves.live());
        let mut prev = NONE;
        for (i, &leaf) in leaves_in_order.iter().enumerate() {
            assert_eq!(self.leaves.at(leaf).prev, prev);
            assert_eq!(self.leaves.at(leaf).next, *leaves_in_order.get(i + 1).unwrap_or(&NONE));
            prev = leaf;
        }
        let elements: Vec<_> = leaves_in_order
            .iter()
            .flat_map(|&leaf| (0..self.leaves.at(leaf).len).map(move |at| Position { leaf, at }))
            .map(|position| self.element(position))
            .collect();
        for pair in elements.windows(2) {
            let cut = Cut::Element(pair[1].1, members.bytes(pair[1].0));
            assert!(cut.is_after(pair[0].1, || members.bytes(pair[0].0)), "elements are in order");
        }
        for (member, score) in elements {
            assert!(members.score(member) == score);
        }
    }

    fn check_node(&self, node: NodeId, height: usize, leaves: &mut Vec<NodeId>) -> usize {
        let len = self.node_len(node, height);
        assert!(len <= NODE_LEN_MAX && (len > 0 || self.len == 0));
        assert!(height == 0 || len >= 2);
        if height == 0 {
            leaves.push(node);
            return len;
        }
        let mut total = 0;
        for child in &self.inners.at(node).children {
            let count = self.check_node(child.node, height - 1, leaves);
            assert_eq!(count, child.count as usize);
            assert_eq!((child.first_member, child.first_score), self.first(child.node, height - 1));
            total += count;
        }
        total
    }
}
