//! Rotary position embedding (Su et al., 2021), half-split: element `i` of a head is paired with element `i + Hd/2`.

/// Turns every head of `x [N, heads, Hd]` by the angles in `cos`, `sin [N, Hd/2]`, times `direction` (1 or -1).
pub(super) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32], head_dim: usize, direction: f32) {
    let half = head_dim / 2;
    let row_len = x.len() / (cos.len() / half);
    for (n, row) in x.chunks_exact_mut(row_len).enumerate() {
        for head in row.chunks_exact_mut(head_dim) {
            for i in 0..half {
                let (c, s) = (cos[n * half + i], sin[n * half + i] * direction);
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * c - b * s;
                head[i + half] = b * c + a * s;
            }
        }
    }
}
