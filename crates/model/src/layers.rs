//! The layers of a decoder, each with forward and backward side by side.

pub mod attention;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod norm;

use shakti_kernels::{Cpu, Precision};

/// Where and how precisely to compute.
#[derive(Clone, Copy)]
pub struct Compute<'a> {
    /// Kernels and threads.
    pub cpu: &'a Cpu,
    /// Precision of dense matrix products; packed weights bring their own.
    pub precision: Precision,
}

/// Dropout of one training step: the mask is a function of this seed, the layer and the branch, so the backward
/// pass draws the same one again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    pub probability: f32,
    pub seed: u64,
}

/// The two residual branches of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Branch {
    Attention,
    Mlp,
}

impl Dropout {
    /// Drops elements of a branch's output, or of its gradient.
    pub(crate) fn apply(this: Option<Self>, cpu: &Cpu, x: &mut [f32], layer: usize, branch: Branch) {
        if let Some(Self { probability, seed }) = this {
            cpu.dropout(x, probability, crate::rng::mix(seed ^ (2 * layer + branch as usize) as u64));
        }
    }
}
