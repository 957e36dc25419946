//! Memory that a thread keeps between calls, aligned to cache lines.

use std::cell::Cell;

/// One cache line of 32-bit words.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "seen through a slice of words")] [u32; 16]);

thread_local! {
    static PANELS_OF_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static PANELS_OF_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Which of the thread's two buffers.
#[derive(Clone, Copy)]
pub(super) enum Scratch {
    A,
    B,
}

impl Scratch {
    /// Calls `f` with `words` words of the thread's buffer, whatever they hold. A nested call gets a fresh buffer.
    pub(super) fn with<R>(self, words: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
        let key = match self {
            Scratch::A => &PANELS_OF_A,
            Scratch::B => &PANELS_OF_B,
        };
        key.with(|cell| {
            let mut lines = cell.take();
            if lines.len() * 16 < words {
                lines.resize(words.div_ceil(16), Line([0; 16]));
            }
            // SAFETY: a `Line` is exactly 16 words without padding, and `words` are not more than there are.
            let result = f(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), words) });
            cell.set(lines);
            result
        })
    }
}
