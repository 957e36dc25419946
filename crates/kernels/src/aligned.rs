//! Arrays of 32-bit values on huge pages, from the start of a cache line: no vector crosses two lines, and few accesses wait for
//! an address to be translated.

use crate::memory::Region;
use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A slice of fixed length, of f32 if nothing else is said, whose first element starts a cache line of 64 bytes.
pub struct Aligned<T: Plain = f32> {
    region: Region,
    len: usize,
    elements: PhantomData<T>,
}

/// Values of which any bits are one, zero among them.
///
/// # Safety
/// As said; aligned to at most 64 bytes.
pub unsafe trait Plain: Copy {}
// SAFETY: any 32 bits are an f32, all zeros are 0.0.
unsafe impl Plain for f32 {}
// SAFETY: any 32 bits are a u32.
unsafe impl Plain for u32 {}

impl<T: Plain> Aligned<T> {
    /// `len` zeros; the system gives their pages when they are first written.
    pub fn zeros(len: usize) -> Self {
        let layout = Layout::array::<T>(len);
        match layout.as_ref().ok().and_then(|layout| Region::zeroed(layout.size()).ok()) {
            Some(region) => Self { region, len, elements: PhantomData },
            // As a vector does.
            None => handle_alloc_error(layout.unwrap_or(Layout::new::<T>())),
        }
    }
}

impl<T: Plain> Default for Aligned<T> {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl<T: Plain> From<&[T]> for Aligned<T> {
    fn from(values: &[T]) -> Self {
        let mut copy = Self::zeros(values.len());
        copy.copy_from_slice(values);
        copy
    }
}

impl<T: Plain> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl<T: Plain + PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Plain> std::fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Aligned").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T: Plain> Deref for Aligned<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let bytes = self.region.bytes();
        // SAFETY: a region is initialized, aligned to a cache line, and was taken with the bytes of `len` elements, of
        // which any bits are one.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.len) }
    }
}

impl<T: Plain> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let bytes = self.region.bytes_mut();
        // SAFETY: as in `deref`; the region is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_and_their_copies_start_at_a_cache_line() {
        for len in [0, 1, 15, 16, 1000, 100_000] {
            let mut array = Aligned::<f32>::zeros(len);
            assert!(array.len() == len && array.iter().all(|value| *value == 0.0));
            array.fill(2.0);
            let copy = array.clone();
            assert_eq!(*copy, *array);
            for array in [array, copy] {
                assert!(len == 0 || array.as_ptr().addr().is_multiple_of(64), "{len}");
            }
        }
    }
}
