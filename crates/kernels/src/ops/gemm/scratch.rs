//! Memory that a thread keeps between calls.

use crate::aligned::Aligned;
use std::cell::Cell;

thread_local! {
    static PANELS_OF_A: Cell<Option<Aligned<u32>>> = const { Cell::new(None) };
    static PANELS_OF_B: Cell<Option<Aligned<u32>>> = const { Cell::new(None) };
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
            let kept = cell.take().filter(|buffer| buffer.len() >= words);
            let mut buffer = kept.unwrap_or_else(|| Aligned::zeros(words));
            let result = f(&mut buffer[..words]);
            cell.set(Some(buffer));
            result
        })
    }
}
