//! `Form`: a small structure, or a box of a large one, in one pointer.
//!
//! A value has room for one pointer beside its type. Were it that of a box with both forms in it, a small
//! collection would cost one allocation more than the buffer that it is. Here the pointer is the small
//! structure's own, or the box's with the lowest bit set, and both are used where they are.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::mem::ManuallyDrop;

use crate::packed::Packed;
use crate::sorted_set::PackedElements;

const LARGE: usize = 1;

/// A structure that can be the small form.
///
/// # Safety
/// It is one pointer, whose lowest bit is never set, whatever is done to the structure.
pub unsafe trait Thin {}

// SAFETY: a transparent wrapper of `Counted`, which is one of `Buf`: no pointer, or one aligned to 8.
unsafe impl<const BOTH_WAYS: bool> Thin for Packed<BOTH_WAYS> {}
// SAFETY: as above.
unsafe impl Thin for PackedElements {}

/// INVARIANT: `small` is initialised where the lowest bit of `ptr` is clear; else `ptr`, less that bit, is of
/// a box of `L` that is owned here.
pub struct Form<S: Thin, L> {
    is: Is<S>,
    owns: PhantomData<(S, Box<L>)>,
}

#[repr(C)]
union Is<S> {
    small: ManuallyDrop<S>,
    ptr: *mut u8,
}

// SAFETY: a Form owns the one or the other and gives it out by the usual borrow rules.
unsafe impl<S: Thin + Send, L: Send> Send for Form<S, L> {}
// SAFETY: as above.
unsafe impl<S: Thin + Sync, L: Sync> Sync for Form<S, L> {}

pub enum Ref<'a, S, L> {
    Small(&'a S),
    Large(&'a L),
}

pub enum Mut<'a, S, L> {
    Small(&'a mut S),
    Large(&'a mut L),
}

impl<S: Thin, L> Form<S, L> {
    const FITS: () = assert!(size_of::<S>() == size_of::<*mut u8>() && align_of::<L>() > LARGE);

    pub const fn small(small: S) -> Self {
        const { Self::FITS };
        Form { is: Is { small: ManuallyDrop::new(small) }, owns: PhantomData }
    }

    pub fn large(large: L) -> Self {
        const { Self::FITS };
        let ptr = Box::into_raw(Box::new(large)).cast::<u8>();
        Form { is: Is { ptr: ptr.wrapping_add(LARGE) }, owns: PhantomData }
    }

    /// The box's pointer, where the form is large.
    fn large_ptr(&self) -> Option<*mut L> {
        // SAFETY: either form is one pointer.
        let ptr = unsafe { self.is.ptr };
        if ptr.addr() & LARGE == 0 { None } else { Some(ptr.wrapping_sub(LARGE).cast()) }
    }

    pub fn get(&self) -> Ref<'_, S, L> {
        match self.large_ptr() {
            // SAFETY: by the invariant a box that lives as long as self.
            Some(large) => Ref::Large(unsafe { &*large }),
            // SAFETY: by the invariant the small form.
            None => Ref::Small(unsafe { &self.is.small }),
        }
    }

    pub fn get_mut(&mut self) -> Mut<'_, S, L> {
        match self.large_ptr() {
            // SAFETY: as in `get`, exclusively.
            Some(large) => Mut::Large(unsafe { &mut *large }),
            // SAFETY: as in `get`; what it is changed to is a small form, too.
            None => Mut::Small(unsafe { &mut self.is.small }),
        }
    }
}

impl<S: Thin, L> Drop for Form<S, L> {
    fn drop(&mut self) {
        match self.large_ptr() {
            // SAFETY: made by `Box::into_raw` and given up here.
            Some(large) => drop(unsafe { Box::from_raw(large) }),
            // SAFETY: by the invariant the small form, which is not used again.
            None => unsafe { ManuallyDrop::drop(&mut self.is.small) },
        }
    }
}

impl<S: Thin + Clone, L: Clone> Clone for Form<S, L> {
    fn clone(&self) -> Self {
        match self.get() {
            Ref::Small(small) => Self::small(small.clone()),
            Ref::Large(large) => Self::large(large.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::Item;

    type Either = Form<Packed, Vec<u64>>;

    fn numbers(form: &Either) -> Vec<i64> {
        match form.get() {
            Ref::Small(packed) => packed.iter().filter_map(|item| item.as_int()).collect(),
            Ref::Large(numbers) => numbers.iter().map(|&n| n as i64).collect(),
        }
    }

    #[test]
    fn either_form_is_changed_where_it_is() {
        let mut form = Either::small(Packed::new());
        assert_eq!(numbers(&form), []);
        for n in 0..100 {
            let Mut::Small(packed) = form.get_mut() else { panic!("small") };
            packed.push_back(Item::Int(n));
        }
        let copy = form.clone();
        let Mut::Small(packed) = form.get_mut() else { panic!("small") };
        *packed = Packed::new();
        assert_eq!((numbers(&form).len(), numbers(&copy).len()), (0, 100));

        form = Form::large(vec![1]);
        let Mut::Large(vec) = form.get_mut() else { panic!("large") };
        vec.push(2);
        assert_eq!((numbers(&form), numbers(&form.clone())), (vec![1, 2], vec![1, 2]));
        assert_eq!(size_of::<Either>(), 8);
    }
}
