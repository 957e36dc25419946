//! Dropout whose mask is a function of a seed and the element's index, so it is never stored.

use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// Elements that share a key; a multiple of the part of a task.
const KEY_SPAN: u64 = 1 << 32;

/// What decides whether an element stays: see `scalar/dropout.rs`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DropoutRule {
    pub keys: [u32; 2],
    /// An element is kept if its hash is at least this.
    pub threshold: u32,
    /// `1 / (1 - probability)`.
    pub scale: f32,
}

impl Cpu {
    /// Sets each element to zero with `probability` and multiplies the others by `1 / (1 - probability)`.
    ///
    /// Whether element `i` stays depends on `seed` and `i` alone, so the same call on the gradient is the backward
    /// pass. Probabilities are multiples of 2^-32.
    ///
    /// # Panics
    /// If `probability` is not in `0..1`.
    pub fn dropout(&self, x: &mut [f32], probability: f32, seed: u64) {
        assert!((0.0..1.0).contains(&probability), "dropout probability {probability} is not in 0..1");
        if probability == 0.0 {
            return;
        }
        let _counting = self.clock.count(Work::Elements);
        let threshold = (f64::from(probability) * KEY_SPAN as f64) as u32;
        let scale = 1.0 / (1.0 - probability);
        let len = x.len();
        let x = Disjoint::new(x);
        self.for_rows(len, 1, &|part| {
            let first = part.start as u64;
            let key = mix(mix(seed) ^ (first / KEY_SPAN));
            let rule = DropoutRule { keys: [key as u32, (key >> 32) as u32], threshold, scale };
            // SAFETY: the ranges of different tasks do not overlap.
            let x = unsafe { x.part(part) };
            kernel!(self, dropout(x, first, &rule));
        });
    }
}

/// The output function of SplitMix64.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
