//! Scratch memory that is used again: large allocations are returned to the system when freed, and getting them
//! back costs a page fault every 4 KiB, more than many operations on them.

use crate::aligned::Aligned;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Freed buffers, by no order; few, because a forward pass asks for the same sizes again and again.
#[derive(Debug, Default)]
struct Shelf {
    free: Mutex<Vec<Aligned>>,
    made: AtomicUsize,
}

/// Lends f32 buffers and takes them back when they are dropped.
#[derive(Clone, Debug, Default)]
pub struct Buffers(Arc<Shelf>);

impl Buffers {
    /// `len` values that the caller overwrites: what they hold is arbitrary, but initialized.
    pub fn take(&self, len: usize) -> Buffer {
        let values = self.0.pick(len).unwrap_or_else(|| {
            self.0.made.fetch_add(1, Ordering::Relaxed);
            Aligned::zeros(len)
        });
        Buffer { values, len, home: self.0.clone() }
    }

    /// How many buffers were made, because none that fitted was free.
    pub fn made(&self) -> usize {
        self.0.made.load(Ordering::Relaxed)
    }

    /// `len` zeros.
    pub fn zeros(&self, len: usize) -> Buffer {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of `values`.
    pub fn copy(&self, values: &[f32]) -> Buffer {
        let mut buffer = self.take(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl Shelf {
    /// The smallest free buffer that holds `len` values and wastes at most half of itself.
    fn pick(&self, len: usize) -> Option<Aligned> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |values: &Aligned| values.len() >= len && values.len() <= 2 * len.max(512);
        let fitting = free.iter().enumerate().filter(|(_, values)| fits(values));
        let (index, _) = fitting.min_by_key(|(_, values)| values.len())?;
        Some(free.swap_remove(index))
    }
}

/// Borrowed scratch memory; a slice of f32.
#[derive(Debug)]
pub struct Buffer {
    values: Aligned,
    len: usize,
    home: Arc<Shelf>,
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        self.home.free.lock().unwrap_or_else(PoisonError::into_inner).push(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_and_never_by_two() {
        let buffers = Buffers::default();
        let (mut a, b) = (buffers.zeros(2000), buffers.zeros(2000));
        assert_ne!(a.as_ptr(), b.as_ptr());
        a.fill(3.0);
        let place = a.as_ptr();
        drop(a);
        let again = buffers.take(1800);
        assert_eq!((again.as_ptr(), again.len()), (place, 1800));
        assert_eq!(again[0], 3.0, "not cleared");
        drop(again);
        assert!(buffers.zeros(2000).iter().all(|value| *value == 0.0));
        assert_eq!(buffers.made(), 2);
        // A small request does not tie up a large buffer.
        assert_ne!(buffers.take(10).as_ptr(), place);
    }
}
