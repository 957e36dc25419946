//! The signatures of the float kernels: what each instruction set must provide, one part of the work at a time.
//!
//! The methods of `Cpu` check shapes, split the work into parts that do not depend on the number of threads, and call
//! these on the parts. Formulas stand in `scalar/`, which is the definition of each of them.
//!
//! The fields are `unsafe fn` because their code may use instructions that not every CPU has. They have no other
//! duty: a [`KernelSet`](crate::KernelSet) exists only where its instructions do, so calling through one is sound.
//!
//! Letters: `N` rows of the part, `D` row length, `Hd` head dimension, `V` vocabulary, `M` query rows of a tile.

use crate::matrix::{MatRef, Precision};
use crate::ops::attention::{TileGrads, TileKeys, TilePart, TileSaved};
use crate::ops::dropout::DropoutRule;
use crate::ops::gemm::PackedGemm;
use crate::ops::optimizer::AdamWFactors;
use crate::scalar::moments8::Block as Moments8;
use half::f16;
use std::ops::Range;

/// Calls a float kernel of a `Cpu`'s set.
macro_rules! kernel {
    ($cpu:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let kernel = $cpu.kernels.floats.$name;
        // SAFETY: a `KernelSet` can only be obtained after the CPU was found to have its instructions.
        unsafe { kernel($($argument),*) }
    }};
}
pub(crate) use kernel;

/// Rows `rows` of `C[M, N] (+)= A[M, K] B[K, N]`; `c` starts at row `rows.start` and has the given row stride.
pub(crate) type GemmRows = unsafe fn(
    Precision,
    accumulate: bool,
    c: &mut [f32],
    c_stride: usize,
    a: MatRef<'_>,
    b: MatRef<'_>,
    Range<usize>,
);

/// One function per operation, for a part of its rows or elements.
#[derive(Clone, Copy)]
#[expect(clippy::type_complexity, reason = "each signature stands once, with the shapes of its arguments")]
pub(crate) struct FloatKernels {
    pub gemm: Gemm,
    /// `y [N, D]`, `rstd [N]`, `x [N, D]`, `weight [D]`, `eps`.
    pub rms_norm: unsafe fn(&mut [f32], &mut [f32], &[f32], &[f32], f32),
    /// `dx [N, D] +=`, `dweight [D] +=`, `dy [N, D]`, `x [N, D]`, `weight [D]`, `rstd [N]`.
    pub rms_norm_backward: unsafe fn(&mut [f32], &mut [f32], &[f32], &[f32], &[f32], &[f32]),
    /// `y [N, D]`, `[mean [N], rstd [N]]`, `x [N, D]`, `[weight [D], bias [D]]`, `eps`.
    pub layer_norm: unsafe fn(&mut [f32], [&mut [f32]; 2], &[f32], [&[f32]; 2], f32),
    /// `dx [N, D] +=`, `[dweight [D], dbias [D]] +=`, `dy [N, D]`, `x [N, D]`, `weight [D]`, `[mean [N], rstd [N]]`.
    pub layer_norm_backward: unsafe fn(&mut [f32], [&mut [f32]; 2], &[f32], &[f32], &[f32], [&[f32]; 2]),
    /// `x [N, heads, Hd]` in place, `cos [N, Hd/2]`, `sin [N, Hd/2]`, `Hd`, direction 1 or -1.
    pub rope: unsafe fn(&mut [f32], &[f32], &[f32], usize, f32),
    /// `y`, `gate`, `up`.
    pub silu_mul: unsafe fn(&mut [f32], &[f32], &[f32]),
    /// `dy` (becomes `dgate`), `dup`, `y`, `gate`, `up`.
    pub silu_mul_backward: unsafe fn(&mut [f32], &mut [f32], &mut [f32], &[f32], &[f32]),
    /// `y += x`.
    pub add: unsafe fn(&mut [f32], &[f32]),
    /// `x *= s`.
    pub scale: unsafe fn(&mut [f32], f32),
    /// Log-sum-exp of `logits [V]`.
    pub log_sum_exp: unsafe fn(&[f32]) -> f32,
    /// `logits [V]` becomes `scale * softmax(logits)`; returns the log-sum-exp.
    pub scaled_softmax: unsafe fn(&mut [f32], f32) -> f32,
    /// `x`, index of its first element in the whole, the rule.
    pub dropout: unsafe fn(&mut [f32], u64, &DropoutRule),
    /// `param`, `grad`, `m`, `v`, the factors of the step.
    pub adamw: unsafe fn(&mut [f32], &[f32], &mut [f32], &mut [f32], &AdamWFactors),
    /// `param`, `grad`, both moments of one block in 8 bits, the factors of the step.
    pub adamw8: unsafe fn(&mut [f32], &[f32], Moments8<'_>, &AdamWFactors),
    /// `y = a y + b x`: `y`, `x`, `[a, b]`.
    pub axpby: unsafe fn(&mut [f32], &[f32], [f32; 2]),
    pub sum_squares: unsafe fn(&[f32]) -> f64,
    /// The halves nearest to `x`, finite where `x` is.
    pub to_f16: unsafe fn(&mut [f16], x: &[f32]),
    /// Integers for `x`; returns their scale.
    pub to_q8: unsafe fn(&mut [i8], x: &[f32]) -> f16,
    /// What one tile sums over its keys; `q [M, Hd]` is already scaled.
    pub attention: unsafe fn(TilePart<'_>, q: &[f32], &TileKeys<'_>),
    /// Gradients of one tile.
    pub attention_backward: unsafe fn(TileGrads<'_>, &TileSaved<'_>, &TileKeys<'_>),
}

/// How a set multiplies matrices.
#[derive(Clone, Copy)]
pub(crate) enum Gemm {
    /// Plain loops over the views.
    Rows(GemmRows),
    /// Packed panels, one way for each precision.
    Packed { f32: &'static PackedGemm, bf16: &'static PackedGemm, int16: &'static PackedGemm },
}
