//! RMSNorm (Zhang and Sennrich, 2019) and LayerNorm (Ba et al., 2016) of rows `[N, D]`, sums in f32.
//!
//! RMSNorm: `rstd = 1 / sqrt(mean(x^2) + eps)`, `y = x rstd w`. With `g = dy w` and `h = x rstd`:
//! `dx += rstd (g - h mean(g h))`, `dw += sum over rows of dy h`.
//!
//! LayerNorm: `rstd = 1 / sqrt(mean((x - mean)^2) + eps)`, `y = (x - mean) rstd w + b`. With `h = (x - mean) rstd`:
//! `dx += rstd (g - mean(g) - h mean(g h))`, `dw += sum over rows of dy h`, `db += sum over rows of dy`.

pub(super) fn rms_norm(y: &mut [f32], rstd: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let d = weight.len();
    for (row, rstd) in rstd.iter_mut().enumerate() {
        let x = &x[row * d..(row + 1) * d];
        let mean = x.iter().map(|x| x * x).sum::<f32>() / d as f32;
        *rstd = 1.0 / (mean + eps).sqrt();
        for i in 0..d {
            y[row * d + i] = x[i] * *rstd * weight[i];
        }
    }
}

pub(super) fn rms_norm_backward(
    dx: &mut [f32],
    dweight: &mut [f32],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    rstd: &[f32],
) {
    let d = weight.len();
    for (row, &rstd) in rstd.iter().enumerate() {
        let (x, dy) = (&x[row * d..(row + 1) * d], &dy[row * d..(row + 1) * d]);
        let mean_gh = (0..d).map(|i| dy[i] * weight[i] * x[i] * rstd).sum::<f32>() / d as f32;
        for i in 0..d {
            let h = x[i] * rstd;
            dx[row * d + i] += rstd * (dy[i] * weight[i] - h * mean_gh);
            dweight[i] += dy[i] * h;
        }
    }
}

pub(super) fn layer_norm(y: &mut [f32], stats: [&mut [f32]; 2], x: &[f32], affine: [&[f32]; 2], eps: f32) {
    let [means, rstds] = stats;
    let [weight, bias] = affine;
    let d = weight.len();
    for row in 0..rstds.len() {
        let x = &x[row * d..(row + 1) * d];
        let mean = x.iter().sum::<f32>() / d as f32;
        let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / d as f32;
        let rstd = 1.0 / (variance + eps).sqrt();
        for i in 0..d {
            y[row * d + i] = (x[i] - mean) * rstd * weight[i] + bias[i];
        }
        (means[row], rstds[row]) = (mean, rstd);
    }
}

pub(super) fn layer_norm_backward(
    dx: &mut [f32],
    daffine: [&mut [f32]; 2],
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    stats: [&[f32]; 2],
) {
    let [dweight, dbias] = daffine;
    let d = weight.len();
    for (row, (&mean, &rstd)) in stats[0].iter().zip(stats[1]).enumerate() {
        let (x, dy) = (&x[row * d..(row + 1) * d], &dy[row * d..(row + 1) * d]);
        let mean_g = (0..d).map(|i| dy[i] * weight[i]).sum::<f32>() / d as f32;
        let mean_gh = (0..d).map(|i| dy[i] * weight[i] * (x[i] - mean) * rstd).sum::<f32>() / d as f32;
        for i in 0..d {
            let h = (x[i] - mean) * rstd;
            dx[row * d + i] += rstd * (dy[i] * weight[i] - mean_g - h * mean_gh);
            dweight[i] += dy[i] * h;
            dbias[i] += dy[i];
        }
    }
}
