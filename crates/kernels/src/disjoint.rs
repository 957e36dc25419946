//! One mutable slice written by many tasks, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// Hands parts of one mutable slice to tasks that run at the same time.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out `&mut [T]` to other threads and nothing else, which `T: Send` allows; that parts handed out
// at the same time do not overlap is the duty stated at `part`.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), borrow: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two parts that are alive at the same time overlap.
    ///
    /// # Panics
    /// If the range does not lie inside the slice.
    #[expect(clippy::mut_from_ref, reason = "parts do not overlap, which the caller promises")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside the slice (asserted), and overlaps no other living part (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// The start of the slice, for kernels that write rows with a stride: for them, too, no two writes at the same time
    /// may meet.
    pub(crate) fn as_mut_ptr(&self) -> *mut T {
        self.start
    }

    /// The address of one element, for kernels that write rows with a stride.
    ///
    /// # Panics
    /// If the index does not lie inside the slice.
    pub(crate) fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "{index} of {}", self.len);
        // SAFETY: inside the slice (asserted).
        unsafe { self.start.add(index) }
    }
}
