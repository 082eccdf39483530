//! Byte-pair merging: join neighbours, the best pair first, until no pair can be joined.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

const NONE: u32 = u32::MAX;

/// A part of a word during merging: a stretch of its bytes and the token for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    pub id: u32,
    /// First byte in the word.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
    /// Length in characters, where the model asks for it.
    pub chars: u32,
    /// Whether it may be joined with a neighbour.
    pub joins: bool,
    next: u32,
    prev: u32,
    alive: bool,
}

/// Working memory of [`merge`](Merger::merge), kept between words. `K` is the priority of a pair: the smallest is joined first.
pub(super) struct Merger<K> {
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Candidate<K>>>,
}

/// A pair that could be joined; of equal priorities the leftmost comes first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate<K> {
    priority: K,
    left: u32,
    id: u32,
    end: u32,
}

impl<K: Ord> Merger<K> {
    pub fn new() -> Self {
        Merger {
            symbols: Vec::new(),
            queue: BinaryHeap::new(),
        }
    }

    /// Forgets the last word.
    pub fn clear(&mut self) {
        self.symbols.clear();
        self.queue.clear();
    }

    /// Adds a symbol at the end of the word. Words are shorter than 2^32 bytes (the caller checks).
    pub fn push(&mut self, id: u32, start: u32, end: u32, chars: u32, joins: bool) {
        let at = self.symbols.len() as u32;
        if let Some(last) = self.symbols.last_mut() {
            last.next = at;
        }
        self.symbols.push(Symbol {
            id,
            start,
            end,
            chars,
            joins,
            next: NONE,
            prev: at.checked_sub(1).unwrap_or(NONE),
            alive: true,
        });
    }

    /// The symbol pushed last.
    pub fn last_mut(&mut self) -> Option<&mut Symbol> {
        self.symbols.last_mut()
    }

    /// Joins pairs, the one with the smallest priority first, and appends the ids that remain to `out`.
    /// `pair` says whether two neighbours join: with what priority, into which token. O(n log n) calls for n symbols.
    pub fn merge(&mut self, pair: impl Fn(&Symbol, &Symbol) -> Option<(K, u32)>, out: &mut Vec<u32>) {
        for left in 1..self.symbols.len() {
            self.consider(left as u32 - 1, &pair);
        }
        while let Some(Reverse(best)) = self.queue.pop() {
            let Some(&left) = self.symbols.get(best.left as usize) else {
                continue;
            };
            let Some(&right) = self.symbols.get(left.next as usize) else {
                continue;
            };
            // Since it was queued, either side may have been joined with another neighbour.
            if !left.alive || right.end != best.end {
                continue;
            }
            if let Some(s) = self.symbols.get_mut(best.left as usize) {
                s.id = best.id;
                s.end = right.end;
                s.chars = left.chars.saturating_add(right.chars);
                s.next = right.next;
            }
            if let Some(s) = self.symbols.get_mut(left.next as usize) {
                s.alive = false;
            }
            if let Some(s) = self.symbols.get_mut(right.next as usize) {
                s.prev = best.left;
            }
            self.consider(left.prev, &pair);
            self.consider(best.left, &pair);
        }
        out.extend(self.symbols.iter().filter(|s| s.alive).map(|s| s.id));
    }

    /// Queues the pair whose left side is at `left`, if it joins.
    fn consider(&mut self, left: u32, pair: &impl Fn(&Symbol, &Symbol) -> Option<(K, u32)>) {
        let Some(a) = self.symbols.get(left as usize) else {
            return;
        };
        let Some(b) = self.symbols.get(a.next as usize) else {
            return;
        };
        if !(a.joins && b.joins) {
            return;
        }
        if let Some((priority, id)) = pair(a, b) {
            self.queue.push(Reverse(Candidate {
                priority,
                left,
                id,
                end: b.end,
            }));
        }
    }
}
