//! Integers in ascending order, all as wide as the widest needs: 2, 4 or 8 bytes, little-endian.

use crate::buf::Buf;

#[derive(Clone)]
pub(super) struct IntSet {
    buf: Buf,
    width: Width,
}

/// Bytes of one integer. That it has few values leaves room to say beside it which form a set has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Two = 2,
    Four = 4,
    Eight = 8,
}

fn width_of(n: i64) -> Width {
    if i16::try_from(n).is_ok() {
        Width::Two
    } else if i32::try_from(n).is_ok() {
        Width::Four
    } else {
        Width::Eight
    }
}

impl IntSet {
    pub const fn new() -> Self {
        IntSet { buf: Buf::new(), width: Width::Two }
    }

    pub fn len(&self) -> usize {
        self.buf.len() / self.width as usize
    }

    pub fn memory_bytes(&self) -> usize {
        self.buf.memory_bytes()
    }

    pub fn get(&self, index: usize) -> i64 {
        let width = self.width as usize;
        let raw = &self.buf[index * width..(index + 1) * width];
        match *raw {
            [a, b] => i16::from_le_bytes([a, b]) as i64,
            [a, b, c, d] => i32::from_le_bytes([a, b, c, d]) as i64,
            _ => i64::from_le_bytes(raw.try_into().expect("widths are 2, 4 and 8")),
        }
    }

    /// Smallest and largest.
    pub fn ends(&self) -> Option<(i64, i64)> {
        let last = self.len().checked_sub(1)?;
        Some((self.get(0), self.get(last)))
    }

    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The index of `n`, or where it belongs.
    fn search(&self, n: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle).cmp(&n) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub fn contains(&self, n: i64) -> bool {
        self.search(n).is_ok()
    }

    pub fn add(&mut self, n: i64) -> bool {
        let Err(index) = self.search(n) else { return false };
        self.widen(width_of(n));
        let width = self.width as usize;
        self.buf.splice(index * width, 0, width).copy_from_slice(&n.to_le_bytes()[..width]);
        true
    }

    pub fn remove(&mut self, n: i64) -> bool {
        let Ok(index) = self.search(n) else { return false };
        let width = self.width as usize;
        self.buf.splice(index * width, width, 0);
        if self.buf.len() < self.buf.capacity() / 4 {
            self.buf.shrink();
        }
        true
    }

    fn widen(&mut self, width: Width) {
        if width <= self.width {
            return;
        }
        let mut wide = Buf::with_capacity((self.len() + 1) * width as usize);
        for n in self.iter() {
            wide.extend_from_slice(&n.to_le_bytes()[..width as usize]);
        }
        (self.buf, self.width) = (wide, width);
    }
}
