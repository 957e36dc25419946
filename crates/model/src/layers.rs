//! The layers of a decoder, each with forward and backward side by side.

pub mod attention;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod norm;

use shakti_kernels::{Buffer, Cpu, Precision};

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
    /// Drops elements of a branch's output.
    pub(crate) fn apply(this: Option<Self>, cpu: &Cpu, x: &mut [f32], layer: usize, branch: Branch) {
        if let Some(Self { probability, seed }) = this {
            cpu.dropout(x, probability, crate::rng::mix(seed ^ (2 * layer + branch as usize) as u64));
        }
    }

    /// A copy of the gradient of a branch's output with elements dropped; `None` if there is no dropout.
    pub(crate) fn of_gradient(
        this: Option<Self>,
        cpu: &Cpu,
        dx: &[f32],
        layer: usize,
        branch: Branch,
    ) -> Option<Buffer> {
        this.map(|_| {
            let mut dropped = cpu.buffers.copy(dx);
            Self::apply(this, cpu, &mut dropped, layer, branch);
            dropped
        })
    }
}
