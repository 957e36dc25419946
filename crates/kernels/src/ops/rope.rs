//! Rotary position embedding, half-split layout: element `i` of a head turns with element `i + Hd/2`.

use super::{check_len, elements};
use crate::buffers::{Buffer, Buffers};
use crate::clock::Work;
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;

/// How fast each pair of a head turns: `theta^(-2 i / head_dim)` radians a position, for `i < head_dim / 2`.
#[derive(Debug, Clone)]
pub struct RopeFrequencies(Vec<f64>);

impl RopeFrequencies {
    /// The frequencies of heads of `head_dim` elements.
    ///
    /// # Panics
    /// If `head_dim` is odd.
    pub fn new(head_dim: usize, theta: f64) -> Self {
        assert!(head_dim.is_multiple_of(2), "rope turns pairs, head_dim {head_dim} is odd");
        Self((0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64)).collect())
    }

    /// The angles of `n` rows at `positions`, computed in f64.
    ///
    /// # Panics
    /// If there are fewer positions.
    pub fn angles(
        &self,
        buffers: &Buffers,
        n: usize,
        mut positions: impl Iterator<Item = i64>,
    ) -> RopeAngles {
        let half = self.0.len();
        let (mut cos, mut sin) = (buffers.take(n * half), buffers.take(n * half));
        for (cos, sin) in cos.chunks_exact_mut(half.max(1)).zip(sin.chunks_exact_mut(half.max(1))) {
            let position = positions.next().expect("a position for each row") as f64;
            for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&self.0) {
                let (s, c) = (position * frequency).sin_cos();
                (*cos, *sin) = (c as f32, s as f32);
            }
        }
        RopeAngles { cos, sin, head_dim: 2 * half }
    }
}

/// Cosines and sines of the rotation of every row and frequency.
#[derive(Debug)]
pub struct RopeAngles {
    /// `[N, Hd/2]`.
    cos: Buffer,
    /// `[N, Hd/2]`.
    sin: Buffer,
    head_dim: usize,
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
        let _counting = self.clock.count(Work::Elements);
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
