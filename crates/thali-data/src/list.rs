//! `List`: a packed sequence while small, a deque of packed nodes when large.
//!
//! Elements are addressed by number from the front; signs and clamping are the caller's. Nodes keep to
//! `list-max-listpack-size`; an element longer than a node is a node of its own. Finding element `n`
//! walks node counts (16 bytes each, side by side) and then one node. In a long list, a new node takes a whole
//! node's memory at once, so that pushes copy nothing; what it did not need it gives back when the next one begins.
//! Forms change as in Redis 7.2: to "quicklist" when one node no longer suffices, back to "listpack"
//! when one node is left and it is below half of the limit.

use std::collections::VecDeque;

use crate::form::{Form, Mut, Ref};
use crate::item::Item;
use crate::limits::Limits;
use crate::packed::{self, Packed};
use crate::str::Str;

#[derive(Clone)]
pub struct List(Form<Node, Chain>);

/// Elements that stand together.
pub type Node = Packed<true>;

/// INVARIANT: no node is empty; `len` is the sum of their lengths.
#[derive(Clone, Default)]
struct Chain {
    links: VecDeque<Link>,
    len: usize,
}

/// A node and how many elements it has, which is asked for more often than for the elements.
#[derive(Clone, Default)]
struct Link {
    node: Node,
    /// INVARIANT: the node's.
    len: u32,
}

impl Link {
    fn new(node: Node) -> Self {
        Link { len: node.len() as u32, node }
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    fn edit<R>(&mut self, change: impl FnOnce(&mut Node) -> R) -> R {
        let outcome = change(&mut self.node);
        self.len = self.node.len() as u32;
        outcome
    }
}

/// An end of the list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Front,
    Back,
}

/// Redis compares the limit with a listpack's whole size; its header and end mark are 7 bytes.
const LISTPACK_FRAME_BYTES: usize = 7;
/// So many nodes have 16 times the memory of one.
const LINKS_LONG: usize = 16;

fn exceeds(limits: &Limits, node: &Node, extra: Item<'_>) -> bool {
    let bytes = node.bytes() + LISTPACK_FRAME_BYTES + Node::encoded_len(extra);
    limits.list_node_exceeds(bytes, node.len() + 1)
}

impl List {
    pub const fn new() -> Self {
        List(Form::small(Node::new()))
    }

    pub fn len(&self) -> usize {
        match self.0.get() {
            Ref::Small(p) => p.len(),
            Ref::Large(c) => c.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// "listpack" or "quicklist".
    pub fn encoding(&self) -> &'static str {
        match self.0.get() {
            Ref::Small(_) => "listpack",
            Ref::Large(_) => "quicklist",
        }
    }

    /// Bytes taken from the allocator.
    pub fn memory_bytes(&self) -> usize {
        match self.0.get() {
            Ref::Small(p) => p.memory_bytes(),
            Ref::Large(c) => {
                size_of::<Chain>()
                    + c.links.capacity() * size_of::<Link>()
                    + c.links.iter().map(|link| link.node.memory_bytes()).sum::<usize>()
            }
        }
    }

    pub fn push(&mut self, end: End, value: &[u8], limits: &Limits) {
        self.push_item(end, Item::parse(value), limits);
    }

    /// As [`List::push`], for an element of another collection.
    pub fn push_item(&mut self, end: End, item: Item<'_>, limits: &Limits) {
        if let Mut::Small(p) = self.0.get_mut()
            && !exceeds(limits, p, item)
        {
            match end {
                End::Front => p.push_front(item),
                End::Back => p.push_back(item),
            }
            return;
        }
        self.chain().push(end, item, limits);
    }

    pub fn push_front(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Front, value, limits);
    }

    pub fn push_back(&mut self, value: &[u8], limits: &Limits) {
        self.push(End::Back, value, limits);
    }

    pub fn pop(&mut self, end: End, limits: &Limits) -> Option<Str> {
        let value = match (self.0.get_mut(), end) {
            (Mut::Small(p), End::Front) => return p.pop_front(),
            (Mut::Small(p), End::Back) => return p.pop_back(),
            (Mut::Large(c), _) => c.pop(end),
        };
        self.unchain(limits);
        value
    }

    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        match self.0.get() {
            Ref::Small(p) => p.get_index(index),
            Ref::Large(c) => {
                let (number, within) = c.locate(index)?;
                c.links[number].node.get_index(within)
            }
        }
    }

    /// Puts `value` in the place of element `index`; false when there is none.
    pub fn set(&mut self, index: usize, value: &[u8], limits: &Limits) -> bool {
        if index >= self.len() {
            return false;
        }
        let item = Item::parse(value);
        // As Redis: judged as if the element came beside the one that goes.
        if let Mut::Small(p) = self.0.get_mut()
            && !exceeds(limits, p, item)
        {
            let pos = p.seek(index).expect("index is below len");
            p.replace(pos, item);
            return true;
        }
        self.chain().set(index, item, limits);
        self.unchain(limits);
        true
    }

    /// Inserts so that `value` becomes element `index`; `index <= len`.
    pub fn insert(&mut self, index: usize, value: &[u8], limits: &Limits) {
        let item = Item::parse(value);
        if let Mut::Small(p) = self.0.get_mut()
            && !exceeds(limits, p, item)
        {
            match p.seek(index) {
                Some(pos) => p.insert_before(pos, item),
                None => p.push_back(item),
            }
            return;
        }
        self.chain().insert(index, item, limits);
    }

    /// Removes up to `count` elements equal to `value` from the given end on; returns how many.
    pub fn remove_equal(&mut self, from: End, count: usize, value: &[u8], limits: &Limits) -> usize {
        let removed = match self.0.get_mut() {
            Mut::Small(p) => remove_equal_in(p, from, count, value),
            Mut::Large(c) => {
                let mut removed = 0;
                let links = c.links.len();
                for i in 0..links {
                    if removed == count {
                        break;
                    }
                    let number = if from == End::Front { i } else { links - 1 - i };
                    let left = count - removed;
                    removed += c.links[number].edit(|node| remove_equal_in(node, from, left, value));
                }
                c.len -= removed;
                c.links.retain(|link| link.len > 0);
                removed
            }
        };
        self.unchain(limits);
        removed
    }

    /// Removes `count` elements from number `start` on, or as many as there are.
    pub fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        match self.0.get_mut() {
            Mut::Small(p) => p.remove_range(start, count),
            Mut::Large(c) => c.remove_range(start, count, limits),
        }
        self.unchain(limits);
    }

    /// All elements, from either end.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0, self.len())
    }

    /// `count` elements from number `start` on, or as many as there are, from either end.
    pub fn range(&self, start: usize, count: usize) -> Iter<'_> {
        let start = start.min(self.len());
        Iter { list: self, at: start, end: start + count.min(self.len() - start), front: None, back: None }
    }

    /// The nodes from the front, none of them empty.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        let len = match self.0.get() {
            Ref::Small(node) => usize::from(!node.is_empty()),
            Ref::Large(chain) => chain.links.len(),
        };
        (0..len).map(|number| self.node(number).expect("number is below the count of nodes"))
    }

    fn chain(&mut self) -> &mut Chain {
        if let Mut::Small(p) = self.0.get_mut() {
            let p = std::mem::take(p);
            let len = p.len();
            let links = if len > 0 { VecDeque::from([Link::new(p)]) } else { VecDeque::new() };
            self.0 = Form::large(Chain { links, len });
        }
        match self.0.get_mut() {
            Mut::Large(c) => c,
            Mut::Small(_) => unreachable!("made a chain above"),
        }
    }

    fn unchain(&mut self, limits: &Limits) {
        let Mut::Large(c) = self.0.get_mut() else { return };
        let small = match c.links.front() {
            None => true,
            Some(Link { node, .. }) => {
                let bytes = node.bytes() + LISTPACK_FRAME_BYTES;
                c.links.len() == 1 && !limits.list_node_exceeds(bytes * 2, node.len() * 2)
            }
        };
        if small {
            self.0 = Form::small(c.links.pop_front().unwrap_or_default().node);
        }
    }

    /// Walks a node; `None` past the last one.
    fn node(&self, number: usize) -> Option<&Node> {
        match self.0.get() {
            Ref::Small(p) => (number == 0).then_some(p),
            Ref::Large(c) => c.links.get(number).map(|link| &link.node),
        }
    }

    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        match self.0.get() {
            Ref::Small(p) => (index < p.len()).then_some((0, index)),
            Ref::Large(c) => c.locate(index),
        }
    }
}

fn remove_equal_in(node: &mut Node, from: End, count: usize, value: &[u8]) -> usize {
    let mut removed = 0;
    match from {
        End::Front => {
            let mut pos = node.find(node.first(), value, 1);
            while let Some(p) = pos.filter(|_| removed < count) {
                let after = node.remove(p);
                removed += 1;
                pos = node.find(after, value, 1);
            }
        }
        End::Back => {
            let wanted = Item::parse(value);
            let mut pos = node.last();
            while let Some(p) = pos.filter(|_| removed < count) {
                pos = node.prev(p);
                if node.get(p) == wanted {
                    node.remove(p);
                    removed += 1;
                }
            }
        }
    }
    removed
}

impl Chain {
    /// Node and index within it of element `index`, from the nearer end.
    fn locate(&self, index: usize) -> Option<(usize, usize)> {
        if index >= self.len {
            return None;
        }
        if index < self.len / 2 {
            let mut left = index;
            for (number, link) in self.links.iter().enumerate() {
                if left < link.len() {
                    return Some((number, left));
                }
                left -= link.len();
            }
        } else {
            let mut first = self.len;
            for (number, link) in self.links.iter().enumerate().rev() {
                first -= link.len();
                if index >= first {
                    return Some((number, index - first));
                }
            }
        }
        unreachable!("node lengths sum up to len")
    }

    fn push(&mut self, end: End, item: Item<'_>, limits: &Limits) {
        self.len += 1;
        let link = match end {
            End::Front => self.links.front_mut(),
            End::Back => self.links.back_mut(),
        };
        match link {
            Some(link) if !exceeds(limits, &link.node, item) => link.edit(|node| match end {
                End::Front => node.push_front(item),
                End::Back => node.push_back(item),
            }),
            full => {
                full.into_iter().for_each(|link| link.node.shrink());
                let link = self.begin(item, limits);
                match end {
                    End::Front => self.links.push_front(link),
                    End::Back => self.links.push_back(link),
                }
            }
        }
    }

    /// A new node at an end. Its memory is all that it may come to need, where the list is so long that this is
    /// a small part of it.
    fn begin(&self, item: Item<'_>, limits: &Limits) -> Link {
        let room = if self.links.len() < LINKS_LONG { 0 } else { limits.list_node_bytes().unwrap_or(0) };
        let mut node = Node::with_capacity(room.saturating_sub(LISTPACK_FRAME_BYTES));
        node.push_back(item);
        Link::new(node)
    }

    fn pop(&mut self, end: End) -> Option<Str> {
        let link = match end {
            End::Front => self.links.front_mut()?,
            End::Back => self.links.back_mut()?,
        };
        let value = link.edit(|node| match end {
            End::Front => node.pop_front(),
            End::Back => node.pop_back(),
        });
        if link.len == 0 {
            match end {
                End::Front => self.links.pop_front(),
                End::Back => self.links.pop_back(),
            };
        }
        self.len -= 1;
        value
    }

    fn set(&mut self, index: usize, item: Item<'_>, limits: &Limits) {
        let (number, within) = self.locate(index).expect("index is below len");
        let node = &mut self.links[number].node;
        let pos = node.seek(within).expect("located");
        let grown = (node.bytes() + LISTPACK_FRAME_BYTES + Node::encoded_len(item))
            .saturating_sub(Node::encoded_len(node.get(pos)));
        if node.len() == 1 || !limits.list_node_exceeds(grown, node.len()) {
            node.replace(pos, item);
            return;
        }
        self.remove_range(index, 1, limits);
        self.insert(index, item, limits);
    }

    fn insert(&mut self, index: usize, item: Item<'_>, limits: &Limits) {
        if index == 0 {
            return self.push(End::Front, item, limits);
        }
        let Some((number, within)) = self.locate(index) else {
            return self.push(End::Back, item, limits);
        };
        self.len += 1;
        let link = &mut self.links[number];
        if !exceeds(limits, &link.node, item) {
            return link.edit(|node| {
                let pos = node.seek(within).expect("located");
                node.insert_before(pos, item);
            });
        }
        if within == 0 {
            // The node in front may have room where this one has none.
            let before = &mut self.links[number - 1];
            if exceeds(limits, &before.node, item) {
                self.links.insert(number, Link::new(Node::from_iter([item])));
            } else {
                before.edit(|node| node.push_back(item));
            }
            return;
        }
        let mut tail = link.edit(|node| node.split_off(within));
        if !exceeds(limits, &link.node, item) {
            link.edit(|node| node.push_back(item));
        } else if !exceeds(limits, &tail, item) {
            tail.push_front(item);
        } else {
            self.links.insert(number + 1, Link::new(Node::from_iter([item])));
            self.links.insert(number + 2, Link::new(tail));
            return;
        }
        self.links.insert(number + 1, Link::new(tail));
        self.join(number, limits);
    }

    /// Joins small neighbours around node `number`, where a split or a removal may have left some.
    fn join(&mut self, number: usize, limits: &Limits) {
        for left in [Some(number + 1), Some(number), number.checked_sub(1)] {
            let Some(left) = left.filter(|l| l + 1 < self.links.len()) else { continue };
            let (a, b) = (&self.links[left], &self.links[left + 1]);
            let bytes = a.node.bytes() + b.node.bytes() + LISTPACK_FRAME_BYTES;
            if !limits.list_node_exceeds(bytes, a.len() + b.len()) {
                let tail = self.links.remove(left + 1).expect("checked above");
                self.links[left].edit(|node| node.append(&tail.node));
            }
        }
    }

    fn remove_range(&mut self, start: usize, count: usize, limits: &Limits) {
        let Some((mut number, mut within)) = self.locate(start) else { return };
        let mut left = count.min(self.len - start);
        self.len -= left;
        let first = number;
        let mut emptied = number..number;
        while left > 0 {
            let link = &mut self.links[number];
            let here = left.min(link.len() - within);
            if here == link.len() {
                if emptied.is_empty() {
                    emptied.start = number;
                }
                emptied.end = number + 1;
            } else {
                link.edit(|node| node.remove_range(within, here));
            }
            left -= here;
            within = 0;
            number += 1;
        }
        self.links.drain(emptied);
        self.join(first, limits);
    }
}

impl Default for List {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for List {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Elements of a [`List`] from both ends.
#[derive(Clone)]
pub struct Iter<'a> {
    list: &'a List,
    /// Elements left: `at..end`.
    at: usize,
    end: usize,
    /// What is left of the node under either end, and that node's number.
    front: Option<(usize, packed::Iter<'a, true>)>,
    back: Option<(usize, packed::Iter<'a, true>)>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        if self.at >= self.end {
            return None;
        }
        if self.front.is_none() {
            let (number, within) = self.list.locate(self.at)?;
            self.front = Some((number, self.list.node(number)?.iter_from(within)));
        }
        let (number, iter) = self.front.as_mut()?;
        let item = match iter.next() {
            Some(item) => item,
            None => {
                *number += 1;
                *iter = self.list.node(*number)?.iter();
                iter.next()?
            }
        };
        self.at += 1;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.at, Some(self.end - self.at))
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> DoubleEndedIterator for Iter<'a> {
    fn next_back(&mut self) -> Option<Item<'a>> {
        if self.at >= self.end {
            return None;
        }
        if self.back.is_none() {
            let (number, within) = self.list.locate(self.end - 1)?;
            self.back = Some((number, self.list.node(number)?.iter_to(within)));
        }
        let (number, iter) = self.back.as_mut()?;
        let item = match iter.next_back() {
            Some(item) => item,
            None => {
                *number = number.checked_sub(1)?;
                *iter = self.list.node(*number)?.iter();
                iter.next_back()?
            }
        };
        self.end -= 1;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(size: i32) -> Limits {
        Limits { list_max_listpack_size: size, ..Limits::default() }
    }

    fn check(list: &List, model: &[Vec<u8>]) {
        assert_eq!(list.len(), model.len());
        assert!(list.iter().map(|i| i.to_vec()).eq(model.iter().cloned()));
        assert!(list.iter().rev().map(|i| i.to_vec()).eq(model.iter().rev().cloned()));
        if let Ref::Large(c) = list.0.get() {
            assert_eq!(c.len, c.links.iter().map(Link::len).sum::<usize>());
            assert!(c.links.iter().all(|link| link.len > 0 && link.len() == link.node.len()));
        }
    }

    #[test]
    fn a_node_over_the_limit_makes_a_quicklist_and_half_a_node_a_listpack() {
        let limits = limits(4);
        let mut list = List::new();
        for n in 0..4 {
            list.push_back(format!("{n}").as_bytes(), &limits);
        }
        assert_eq!(list.encoding(), "listpack");
        list.push_back(b"4", &limits);
        assert_eq!(list.encoding(), "quicklist");
        list.pop(End::Back, &limits);
        assert_eq!(list.encoding(), "quicklist");
        list.pop(End::Back, &limits);
        list.pop(End::Back, &limits);
        assert_eq!((list.encoding(), list.len()), ("listpack", 2));
    }

    #[test]
    fn one_large_element_makes_a_quicklist() {
        let mut list = List::new();
        list.push_back(&[b'x'; 8000], &Limits::default());
        assert_eq!(list.encoding(), "listpack");
        let mut list = List::new();
        list.push_back(&[b'x'; 8192], &Limits::default());
        assert_eq!((list.encoding(), list.len()), ("quicklist", 1));
    }

    #[test]
    fn a_million_elements_stay_compact_and_reachable() {
        let limits = Limits::default();
        let mut list = List::new();
        for n in 0..1_000_000u32 {
            list.push_back(format!("element:{n}").as_bytes(), &limits);
        }
        assert!(list.memory_bytes() < 18_300_000, "{}", list.memory_bytes());
        for n in (0..1_000_000).step_by(99_991) {
            assert_eq!(list.get(n).unwrap().to_vec(), format!("element:{n}").into_bytes());
        }
        list.remove_range(10, 999_980, &limits);
        assert_eq!((list.len(), list.encoding()), (20, "listpack"));
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            6 => (0u32..12).prop_map(|n| n.to_string().into_bytes()),
            3 => "[a-z]{0,12}".prop_map(String::into_bytes),
            1 => Just(vec![b'x'; 5000]),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn acts_as_a_vec(
            size in prop_oneof![Just(-1), Just(-2), 1i32..6],
            ops in prop::collection::vec((0u8..10, any::<prop::sample::Index>(), 0usize..6, element()), 0..120),
        ) {
            let limits = limits(size);
            let mut model: Vec<Vec<u8>> = Vec::new();
            let mut list = List::new();
            for (op, index, count, value) in ops {
                let at = if model.is_empty() { 0 } else { index.index(model.len()) };
                match op {
                    0 | 1 => { list.push_front(&value, &limits); model.insert(0, value); }
                    2 | 3 => { list.push_back(&value, &limits); model.push(value); }
                    4 => {
                        let want = if model.is_empty() { None } else { Some(model.remove(0)) };
                        prop_assert_eq!(list.pop(End::Front, &limits).map(|s| s.to_vec()), want);
                    }
                    5 => prop_assert_eq!(list.pop(End::Back, &limits).map(|s| s.to_vec()), model.pop()),
                    6 => {
                        prop_assert_eq!(list.set(at, &value, &limits), !model.is_empty());
                        if let Some(slot) = model.get_mut(at) { *slot = value; }
                    }
                    7 => { list.insert(at, &value, &limits); model.insert(at, value); }
                    8 => {
                        list.remove_range(at, count, &limits);
                        model.drain(at..(at + count).min(model.len()));
                    }
                    _ => {
                        let end = if count % 2 == 0 { End::Front } else { End::Back };
                        let mut hits: Vec<usize> = (0..model.len()).filter(|&i| model[i] == value).collect();
                        if end == End::Back { hits.reverse(); }
                        hits.truncate(count);
                        prop_assert_eq!(list.remove_equal(end, count, &value, &limits), hits.len());
                        hits.sort();
                        for i in hits.into_iter().rev() { model.remove(i); }
                    }
                }
                check(&list, &model);
                let at = at.min(model.len());
                let range = list.range(at, count);
                let want = &model[at..(at + count).min(model.len())];
                prop_assert!(range.clone().map(|i| i.to_vec()).eq(want.iter().cloned()));
                prop_assert!(range.rev().map(|i| i.to_vec()).eq(want.iter().rev().cloned()));
                prop_assert_eq!(list.get(at).map(|i| i.to_vec()), model.get(at).cloned());
            }
        }
    }
}
