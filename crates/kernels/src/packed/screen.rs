//! The highest outputs of one row's product, exactly, from about half of the bytes.
//!
//! A copy of the weight in 4 bits, `S`, gives every output nearly; the Cauchy-Schwarz inequality bounds what it may be
//! off. With `x'` the activations as both products see them (8 bits a value) and `E = W - S`:
//!
//! ```text
//! |W_n x' - S_n x'| <= |E_n| |x'|
//! ```
//!
//! plus what rounding adds to the two sums. A row whose upper bound is below the k-th highest lower bound is not among
//! the k highest. The others are computed with the weight itself, by the same kernel: the same bits as the whole product.

use super::{PackedMatrix, layout::LANES};
use crate::blocks::{BlockError, DType, quantize_row};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What an output that is not among the highest is set to: finite, and below all others.
pub const NOT_AMONG_TOP: f32 = f32::MIN;

thread_local! {
    /// The best scores so far and the panels that may hold the best, kept so that a call allocates nothing once they have grown.
    static SCRATCH: RefCell<(Vec<f32>, Vec<u32>)> = RefCell::default();
}

/// Panels out of which more than one has to be computed make the whole product cheaper.
const WORTH: usize = 3;

/// Most calls without a look at the copy after it did not pay.
const LONGEST_PAUSE: u32 = 256;

/// A copy of a weight in 4 bits that tells which rows can be among the highest.
#[derive(Debug)]
pub struct Screen {
    copy: PackedMatrix,
    /// Of each row of whole panels: what its output may differ by, for activations of length 1.
    slack: Vec<f32>,
    /// Calls to come that do not look at the copy, and how many there will be after the next one in vain.
    pause: [AtomicU32; 2],
    panels: AtomicU64,
    of: AtomicU64,
}

impl Screen {
    /// The copy of a weight; `None` where reading it would not save half of the bytes: then `w` is not Q8_0 or Q6_K.
    ///
    /// # Errors
    /// Memory is short.
    pub fn new(cpu: &Cpu, w: &PackedMatrix) -> Result<Option<Self>, BlockError> {
        let (rows, cols) = (w.rows(), w.cols());
        if !matches!(w.dtype(), DType::Q8_0 | DType::Q6_K) || rows == 0 || cols == 0 {
            return Ok(None);
        }
        let row_bytes = DType::Q4_0.row_bytes(cols)?;
        let mut bytes = vec![0; rows * row_bytes];
        let mut slack = vec![0.0; rows.next_multiple_of(LANES)];
        let (copies, slacks) = (Disjoint::new(&mut bytes), Disjoint::new(&mut slack));
        let failed = std::sync::Mutex::new(None);
        cpu.pool.run(rows.div_ceil(LANES), &|panel| {
            let (mut exact, mut coarse) = (vec![0.0; cols], vec![0.0; cols]);
            for row in panel * LANES..rows.min((panel + 1) * LANES) {
                // SAFETY: each row is written by the one task of its panel.
                let (copy, slack) = unsafe {
                    (copies.part(row * row_bytes..(row + 1) * row_bytes), slacks.part(row..row + 1))
                };
                w.dequantize_row(row, &mut exact);
                let copied = quantize_row(DType::Q4_0, &exact, copy)
                    .and_then(|()| crate::blocks::dequantize_row(DType::Q4_0, copy, &mut coarse));
                match copied {
                    Ok(()) => slack[0] = bound(&exact, &coarse),
                    Err(error) => {
                        *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error)
                    }
                }
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            return Err(error);
        }
        let copy = PackedMatrix::pack_with(cpu, DType::Q4_0, [rows, cols], &bytes)?;
        let pause = [AtomicU32::new(0), AtomicU32::new(1)];
        Ok(Some(Self { copy, slack, pause, panels: AtomicU64::new(0), of: AtomicU64::new(0) }))
    }

    /// Memory held besides the weight, in bytes.
    pub fn num_bytes(&self) -> usize {
        self.copy.num_bytes() + 4 * self.slack.len()
    }

    /// The share of the weight that was read, over all calls.
    pub fn share_read(&self) -> f64 {
        self.panels.load(Ordering::Relaxed) as f64 / self.of.load(Ordering::Relaxed).max(1) as f64
    }

    /// Whether to look at the copy this time.
    fn is_due(&self) -> bool {
        let left = self.pause[0].load(Ordering::Relaxed);
        self.pause[0].store(left.saturating_sub(1), Ordering::Relaxed);
        left == 0
    }

    /// Counts the panels computed; looks less and less often while it does not pay. Results never depend on it.
    fn note(&self, panels: usize, of: usize, looked: bool) {
        self.panels.fetch_add(panels as u64, Ordering::Relaxed);
        self.of.fetch_add(of as u64, Ordering::Relaxed);
        if looked {
            let wait = self.pause[1].load(Ordering::Relaxed);
            let (pause, next) = if panels < of { (0, 1) } else { (wait, (2 * wait).min(LONGEST_PAUSE)) };
            self.pause[0].store(pause, Ordering::Relaxed);
            self.pause[1].store(next, Ordering::Relaxed);
        }
    }

    /// The panels that hold a row which can be among the `top` highest, for activations of length `length`.
    fn candidates(
        &self,
        near: &[f32],
        (length, top): (f32, usize),
        (best, found): (&mut Vec<f32>, &mut Vec<u32>),
    ) {
        let slack = &self.slack[..near.len()];
        let bar = kth_highest((near, slack), length, top, best);
        let (near, slack) = (near.chunks(LANES), slack.chunks(LANES));
        let can_win = |(near, slack): (&[f32], &[f32])| {
            near.iter().zip(slack).fold(false, |any, (near, slack)| {
                let upper = near + length * slack;
                any | (upper >= bar) | upper.is_nan()
            })
        };
        let panels = near.zip(slack).enumerate();
        found.clear();
        found.extend(panels.filter(|(_, panel)| can_win(*panel)).map(|(index, _)| index as u32));
    }
}

/// What an output may differ by for activations of length 1, rounded up: the difference of the rows, and the rounding of
/// two sums over `cols / 16` scaled parts, each within some units of 2^-24 of its size.
fn bound(exact: &[f32], coarse: &[f32]) -> f32 {
    let length = |squares: f64| squares.sqrt();
    let square = |v: f32| f64::from(v) * f64::from(v);
    let difference: f64 =
        exact.iter().zip(coarse).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let sizes =
        length(exact.iter().copied().map(square).sum()) + length(coarse.iter().copied().map(square).sum());
    let roundings = (exact.len() / 8 + 16) as f64 / f64::from(1 << 24);
    ((length(difference) + roundings * sizes) * (1.0 + 1e-6)) as f32 + f32::MIN_POSITIVE
}

/// An upper bound of the length of `x` after it was rounded to 8 bits a value: a step is a 127th of the largest of 32, and a
/// value moves by half of one.
fn rounded_length(x: &[f32]) -> f32 {
    let square = |v: f64| v * v;
    let length: f64 = x.iter().map(|v| square(f64::from(*v))).sum::<f64>().sqrt();
    let moved = x.chunks(32).map(|block| {
        let largest = block.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
        32.0 * square(f64::from(largest) / 253.0)
    });
    ((length + moved.sum::<f64>().sqrt()) * (1.0 + 1e-6)) as f32
}

/// The `top`-th highest of the lower bounds `near - length * slack`; `best` is memory to work in.
fn kth_highest((near, slack): (&[f32], &[f32]), length: f32, top: usize, best: &mut Vec<f32>) -> f32 {
    best.clear();
    best.reserve(2 * top);
    let mut bar = f32::NEG_INFINITY;
    let keep_best = |best: &mut Vec<f32>| {
        best.select_nth_unstable_by(top - 1, |a, b| b.total_cmp(a));
        best.truncate(top);
        best[top - 1]
    };
    for (near, slack) in near.chunks(64).zip(slack.chunks(64)) {
        let lower = |(near, slack): (&f32, &f32)| near - length * slack;
        // Most of these hold nothing above the bar and are left after a comparison of vectors.
        if near.iter().zip(slack).fold(false, |any, pair| any | (lower(pair) > bar)) {
            for pair in near.iter().zip(slack) {
                if lower(pair) > bar {
                    best.push(lower(pair));
                    if best.len() == 2 * top {
                        bar = keep_best(best);
                    }
                }
            }
        }
    }
    if best.len() < top { f32::NEG_INFINITY } else { keep_best(best) }
}

impl Cpu {
    /// The `top` highest of `y [N] = w [N, K] x [K]` (and all that equal them), the same bits as
    /// [`matmul_packed`](Self::matmul_packed) gives; other outputs may be [`NOT_AMONG_TOP`]. `screen` is that of `w`.
    ///
    /// # Panics
    /// If `top` is 0 or the lengths do not fit.
    pub fn matmul_packed_top(&self, y: &mut [f32], x: &[f32], w: &PackedMatrix, screen: &Screen, top: usize) {
        assert!(top > 0 && x.len() == w.cols() && screen.copy.rows() == w.rows(), "the top {top} of {w:?}");
        let length = rounded_length(x);
        let looks = screen.is_due() && length.is_finite();
        if looks {
            self.matmul_packed(y, x, &screen.copy);
            let (mut best, mut panels) = SCRATCH.take();
            screen.candidates(y, (length, top), (&mut best, &mut panels));
            let found = panels.len();
            let worth = found * WORTH <= w.panels();
            if worth {
                y.fill(NOT_AMONG_TOP);
                self.matmul_packed_panels(y, x, w, &panels);
            }
            SCRATCH.set((best, panels));
            if worth {
                return screen.note(found, w.panels(), true);
            }
        }
        self.matmul_packed(y, x, w);
        screen.note(w.panels(), w.panels(), looks);
    }
}

#[cfg(test)]
mod tests;
