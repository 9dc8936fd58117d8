//! Small collections in one run of bytes, as Redis keeps them in memory and writes them as one string.
//!
//! Each form is read from front to back and checked on the way: every length lies within the run, what
//! Redis needs to walk backwards is what it must be, and the run ends where its header says. A value that
//! was built from a form with a fault is thrown away, so nothing is checked in advance.

mod intset;
mod listpack;
mod ziplist;
mod zipmap;

pub(crate) use intset::push_intset;
pub(crate) use listpack::{Listpack, ListpackWriter};

use thali_data::Item;

use crate::error::{Error, PartFault};
use crate::input::Blob;
use intset::Intset;
use ziplist::Ziplist;
use zipmap::Zipmap;

/// Elements of an encoded collection, one after the other.
pub(crate) trait Elements<'a> {
    /// The next element, or `None` at the end of an undamaged run. Not called again after either end.
    fn next_element(&mut self) -> Result<Option<Item<'a>>, PartFault>;

    /// The byte that the next element begins at.
    fn at(&self) -> usize;

    /// What a fault calls this form.
    fn part(&self) -> &'static str;

    /// A fault at the next element.
    fn fault(&self, expected: &'static str) -> PartFault {
        PartFault { part: self.part(), at: self.at(), expected }
    }

    /// An element that has to follow.
    fn expect_element(&mut self, expected: &'static str) -> Result<Item<'a>, PartFault> {
        let fault = self.fault(expected);
        self.next_element()?.ok_or(fault)
    }
}

/// The forms of encoded collections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Listpack,
    Ziplist,
    Zipmap,
    Intset,
}

impl Form {
    /// Hands each element to `see`, which may find a fault with it.
    pub fn each(
        self,
        blob: &Blob<'_>,
        see: impl FnMut(Item<'_>) -> Result<(), &'static str>,
    ) -> Result<(), Error> {
        let bytes = &blob.bytes;
        let outcome = match self {
            Form::Listpack => Listpack::new(bytes).and_then(|run| each(run, see)),
            Form::Ziplist => Ziplist::new(bytes).and_then(|run| each(run, see)),
            Form::Zipmap => Zipmap::new(bytes).and_then(|run| each(run, see)),
            Form::Intset => Intset::new(bytes).and_then(|run| each(run, see)),
        };
        outcome.map_err(|fault| fault.at_offset(blob.offset))
    }

    /// As [`Form::each`], for elements of a listpack that come in threes.
    pub fn each_triple(
        self,
        blob: &Blob<'_>,
        see: impl FnMut(Item<'_>, Item<'_>, Item<'_>) -> Result<(), &'static str>,
    ) -> Result<(), Error> {
        assert_eq!(self, Self::Listpack, "only listpacks have threes");
        let outcome = Listpack::new(&blob.bytes).and_then(|run| each_triple(run, see));
        outcome.map_err(|fault| fault.at_offset(blob.offset))
    }

    /// As [`Form::each`], for elements that come in pairs.
    pub fn each_pair(
        self,
        blob: &Blob<'_>,
        see: impl FnMut(Item<'_>, Item<'_>) -> Result<(), &'static str>,
    ) -> Result<(), Error> {
        let bytes = &blob.bytes;
        let outcome = match self {
            Form::Listpack => Listpack::new(bytes).and_then(|run| each_pair(run, see)),
            Form::Ziplist => Ziplist::new(bytes).and_then(|run| each_pair(run, see)),
            Form::Zipmap => Zipmap::new(bytes).and_then(|run| each_pair(run, see)),
            Form::Intset => Intset::new(bytes).and_then(|run| each_pair(run, see)),
        };
        outcome.map_err(|fault| fault.at_offset(blob.offset))
    }
}

fn each_triple<'a>(
    mut run: impl Elements<'a>,
    mut see: impl FnMut(Item<'_>, Item<'_>, Item<'_>) -> Result<(), &'static str>,
) -> Result<(), PartFault> {
    let mut at = run.at();
    while let Some(first) = run.next_element()? {
        let second = run.expect_element("three elements that belong together")?;
        let third = run.expect_element("three elements that belong together")?;
        see(first, second, third).map_err(|expected| PartFault { part: run.part(), at, expected })?;
        at = run.at();
    }
    Ok(())
}

fn each<'a>(
    mut run: impl Elements<'a>,
    mut see: impl FnMut(Item<'_>) -> Result<(), &'static str>,
) -> Result<(), PartFault> {
    let mut at = run.at();
    while let Some(item) = run.next_element()? {
        see(item).map_err(|expected| PartFault { part: run.part(), at, expected })?;
        at = run.at();
    }
    Ok(())
}

fn each_pair<'a>(
    mut run: impl Elements<'a>,
    mut see: impl FnMut(Item<'_>, Item<'_>) -> Result<(), &'static str>,
) -> Result<(), PartFault> {
    let mut at = run.at();
    while let Some(first) = run.next_element()? {
        let second = run.expect_element("a second element of each pair")?;
        see(first, second).map_err(|expected| PartFault { part: run.part(), at, expected })?;
        at = run.at();
    }
    Ok(())
}

/// The little-endian number in these bytes, with its sign.
fn signed_le(bytes: &[u8]) -> i64 {
    let mut raw = [0; 8];
    raw[..bytes.len()].copy_from_slice(bytes);
    let unused_bits = 64 - 8 * bytes.len() as u32;
    i64::from_le_bytes(raw) << unused_bits >> unused_bits
}
