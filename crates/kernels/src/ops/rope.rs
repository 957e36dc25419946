//! Rotary position embedding, half-split layout: element `i` of a head turns with element `i + Hd/2`.

use super::{check_len, elements};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// Cosines and sines of the rotation of every row and frequency.
#[derive(Debug, Clone)]
pub struct RopeAngles {
    /// `[N, Hd/2]`.
    cos: Vec<f32>,
    /// `[N, Hd/2]`.
    sin: Vec<f32>,
    head_dim: usize,
}

impl RopeAngles {
    /// The angles of rows at `positions` for heads of `head_dim` elements: row `n`, frequency `i` turns by
    /// `positions[n] * theta^(-2 i / head_dim)` radians, computed in f64.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    pub fn new(head_dim: usize, theta: f64, positions: &[i64]) -> Self {
        assert!(head_dim.is_multiple_of(2), "rope turns pairs, head_dim {head_dim} is odd");
        let frequencies: Vec<f64> =
            (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect();
        let angles =
            positions.iter().flat_map(|&position| frequencies.iter().map(move |f| position as f64 * f));
        let (sin, cos) = angles.map(f64::sin_cos).map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        Self { cos, sin, head_dim }
    }
}

impl Cpu {
    /// Turns every head of every row of `x` by the row's angles, backwards if `inverse`.
    ///
    /// With `c`, `s` the cosine and sine of row `n` and frequency `i`, and `h = Hd/2`:
    /// `x'[i] = x[i] c - x[i + h] s`, `x'[i + h] = x[i + h] c + x[i] s`. Being a rotation, its gradient is the inverse.
    ///
    /// # Shapes
    /// `x [N, heads, Hd]` for angles of `N` rows.
    pub fn rope(&self, x: &mut [f32], heads: usize, angles: &RopeAngles, inverse: bool) {
        let (half, row_len) = (angles.head_dim / 2, heads * angles.head_dim);
        let n = angles.cos.len().checked_div(half).unwrap_or(0);
        check_len("rope: x", x, n * row_len);
        let direction = if inverse { -1.0 } else { 1.0 };
        let x = Disjoint::new(x);
        self.for_rows(n, row_len, &|rows| {
            let part = elements(&rows, half);
            // SAFETY: the rows of different tasks do not overlap.
            let x = unsafe { x.part(elements(&rows, row_len)) };
            let (cos, sin) = (&angles.cos[part.clone()], &angles.sin[part]);
            kernel!(self, rope(x, cos, sin, angles.head_dim, direction));
        });
    }
}
