//! Muon (Jordan et al., 2024, <https://kellerjordan.github.io/posts/muon/>): momentum whose singular values are all made about 1.
//!
//! ```text
//! M <- momentum M + (1 - momentum) G
//! U  = (1 - momentum) G + momentum M                     Nesterov
//! X  = U / max(|U|, 1e-7)                                Frobenius norm
//! X <- a X + (b A + c A A) X,  A = X X^T                 5 times; of the smaller side: A = X^T X, X on the left
//! W <- (1 - r weight_decay) W - r 0.2 sqrt(max(rows, columns)) X
//! ```
//!
//! The factor in the last line is that of Liu et al., 2025 (arXiv 2502.16982): updates have the root mean square of AdamW's, so that
//! one learning rate and one weight decay `r` serve both. As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, but
//! for the products, which are rounded as the recipe's `precision` says and there to bf16.

use shakti_kernels::{MatMut, MatRef};
use shakti_model::Compute;

/// Coefficients of the iteration: the largest slope at zero.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Smallest norm that is divided by.
const EPS: f64 = 1e-7;
/// Root mean square of an update of AdamW, about.
const UPDATE_RMS: f64 = 0.2;

/// One step of Muon.
pub(super) struct MuonStep {
    pub learning_rate: f64,
    pub momentum: f64,
    pub iterations: u32,
    pub weight_decay: f64,
    pub grad_scale: f64,
}

/// Applies a step to a matrix of this shape.
pub(super) fn update(
    compute: Compute<'_>,
    (param, grad, momentum): (&mut [f32], &[f32], &mut [f32]),
    shape: &[usize],
    step: &MuonStep,
) {
    let cpu = compute.cpu;
    let (keep, new) = (step.momentum as f32, ((1.0 - step.momentum) * step.grad_scale) as f32);
    cpu.axpby(momentum, grad, [keep, new]);
    let mut direction = cpu.buffers.copy(grad);
    cpu.axpby(&mut direction, momentum, [new, keep]);
    let (rows, cols) = (shape[0], shape[1]);
    orthogonalize(compute, &mut direction, (rows, cols), step.iterations);
    let size = step.learning_rate * UPDATE_RMS * (rows.max(cols) as f64).sqrt();
    let decay = 1.0 - step.learning_rate * step.weight_decay;
    cpu.axpby(param, &direction, [decay as f32, -size as f32]);
}

/// Newton-Schulz iterations that bring the singular values of a `[rows, cols]` matrix near 1.
fn orthogonalize(compute: Compute<'_>, x: &mut [f32], (rows, cols): (usize, usize), iterations: u32) {
    let (cpu, precision) = (compute.cpu, compute.precision);
    let norm = cpu.sum_squares(x).sqrt().max(EPS);
    cpu.scale(x, (1.0 / norm) as f32);
    let side = rows.min(cols);
    let square = || cpu.buffers.take(side * side);
    let (mut gram, mut polynomial, mut product) = (square(), square(), cpu.buffers.take(rows * cols));
    let [a, b, c] = COEFFICIENTS;
    for _ in 0..iterations {
        let view = MatRef::new(x, rows, cols);
        let (left, right) = if rows <= cols { (view, view.t()) } else { (view.t(), view) };
        cpu.gemm(precision, false, MatMut::new(&mut gram, side, side), left, right);
        let gram_view = MatRef::new(&gram, side, side);
        cpu.gemm(precision, false, MatMut::new(&mut polynomial, side, side), gram_view, gram_view);
        cpu.axpby(&mut polynomial, &gram, [c, b]);
        let polynomial = MatRef::new(&polynomial, side, side);
        let (left, right) = if rows <= cols { (polynomial, view) } else { (view, polynomial) };
        cpu.gemm(precision, false, MatMut::new(&mut product, rows, cols), left, right);
        cpu.axpby(x, &product, [a, 1.0]);
    }
}
