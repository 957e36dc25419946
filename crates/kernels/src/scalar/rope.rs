//! Rotary position embedding (Su et al., 2021), half-split: element `i` of a head is paired with element `i + Hd/2`.

/// Turns every head of `x [N, heads, Hd]` by the angles in `cos`, `sin [N, Hd/2]`, times `direction` (1 or -1).
#[inline(always)]
pub(crate) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32], head_dim: usize, direction: f32) {
    let half = head_dim / 2;
    let row_len = x.len() / (cos.len() / half);
    let angles = cos.chunks_exact(half).zip(sin.chunks_exact(half));
    for (row, (cos, sin)) in x.chunks_exact_mut(row_len).zip(angles) {
        for head in row.chunks_exact_mut(head_dim) {
            let (low, high) = head.split_at_mut(half);
            for ((a, b), (c, s)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
                let s = s * direction;
                (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
            }
        }
    }
}
