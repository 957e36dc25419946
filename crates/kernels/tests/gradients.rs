//! Every backward pass of every kernel set against central differences of its own forward pass.

mod common;

use common::{Attention, Rng, Shape, assert_close, cpus};
use shakti_kernels::{
    AttentionGrads, AttentionSaved, Cpu, LayerNormGrads, LayerNormOutput, MatMut, MatRef, Precision,
    RopeFrequencies,
};

/// Step of the central differences. In f32 the rounding of the outputs (about 1e-7 each) is divided by it, and the
/// third derivative (order 1 here) is multiplied by its square: both come to about 1e-4 of values of order 1.
const STEP: f32 = 1e-2;
/// So gradients agree within this, absolute, for outputs and weights of order 1.
const TOLERANCE: f32 = 2e-3;

/// The gradient of `sum_i weights[i] * f(x)[i]` by central differences.
fn numeric(x: &[f32], weights: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
    let total =
        |x: &[f32]| -> f64 { f(x).iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum() };
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let old = x[i];
            x[i] = old + STEP;
            let up = total(&x);
            x[i] = old - STEP;
            let down = total(&x);
            x[i] = old;
            ((up - down) / f64::from(2.0 * STEP)) as f32
        })
        .collect()
}

/// What a backward pass that adds has added.
fn added(len: usize, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let before = Rng(99).values(len);
    let mut after = before.clone();
    f(&mut after);
    after.iter().zip(&before).map(|(after, before)| after - before).collect()
}

fn close(cpu: &Cpu, what: &str, got: &[f32], want: &[f32]) {
    let largest = want.iter().fold(1.0f32, |max, x| max.max(x.abs()));
    assert_close(&format!("{what} of {:?}", cpu.kernels), got, want, TOLERANCE * largest, 0.0);
}

#[test]
fn rms_norm() {
    for cpu in cpus(2) {
        let (n, d, mut rng) = (67, 19, Rng(1));
        let (x, weight, dy) = (rng.values(n * d), rng.values(d), rng.values(n * d));
        let forward = |x: &[f32], weight: &[f32]| {
            let (mut y, mut rstd) = (vec![0.0; n * d], vec![0.0; n]);
            cpu.rms_norm(&mut y, &mut rstd, x, weight, 1e-5);
            (y, rstd)
        };
        let rstd = forward(&x, &weight).1;
        let mut dx = Vec::new();
        let dweight = added(d, |dweight| {
            dx = added(n * d, |dx| cpu.rms_norm_backward(dx, dweight, &dy, &x, &weight, &rstd));
        });
        close(&cpu, "dx", &dx, &numeric(&x, &dy, |x| forward(x, &weight).0));
        close(&cpu, "dweight", &dweight, &numeric(&weight, &dy, |w| forward(&x, w).0));
    }
}

#[test]
fn layer_norm() {
    for cpu in cpus(2) {
        let (n, d, mut rng) = (66, 21, Rng(2));
        let (x, weight, bias) = (rng.values(n * d), rng.values(d), rng.values(d));
        let dy = rng.values(n * d);
        let forward = |x: &[f32], weight: &[f32], bias: &[f32]| {
            let (mut y, mut mean, mut rstd) = (vec![0.0; n * d], vec![0.0; n], vec![0.0; n]);
            let out = LayerNormOutput { y: &mut y, mean: &mut mean, rstd: &mut rstd };
            cpu.layer_norm(out, x, weight, bias, 1e-5);
            (y, mean, rstd)
        };
        let (_, mean, rstd) = forward(&x, &weight, &bias);
        let (mut dx, mut dweight) = (Vec::new(), Vec::new());
        let dbias = added(d, |dbias| {
            dweight = added(d, |dweight| {
                dx = added(n * d, |dx| {
                    let grads = LayerNormGrads { dx, dweight, dbias };
                    cpu.layer_norm_backward(grads, &dy, &x, &weight, &mean, &rstd);
                });
            });
        });
        close(&cpu, "dx", &dx, &numeric(&x, &dy, |x| forward(x, &weight, &bias).0));
        close(&cpu, "dweight", &dweight, &numeric(&weight, &dy, |w| forward(&x, w, &bias).0));
        close(&cpu, "dbias", &dbias, &numeric(&bias, &dy, |b| forward(&x, &weight, b).0));
    }
}

#[test]
fn rope() {
    for cpu in cpus(2) {
        let (heads, head_dim, mut rng) = (3, 22, Rng(3));
        let positions = [0, 1, 5, 2047];
        let angles = RopeFrequencies::new(head_dim, 10_000.0).angles(&cpu.buffers, 4, positions.into_iter());
        let len = positions.len() * heads * head_dim;
        let (x, dy) = (rng.values(len), rng.values(len));
        let forward = |x: &[f32]| {
            let mut y = x.to_vec();
            cpu.rope(&mut y, heads, &angles, false);
            y
        };
        let mut dx = dy.clone();
        cpu.rope(&mut dx, heads, &angles, true);
        close(&cpu, "dx", &dx, &numeric(&x, &dy, forward));
    }
}

#[test]
fn silu_mul() {
    for cpu in cpus(2) {
        let mut rng = Rng(4);
        let (len, dy) = (77, rng.values(77));
        let gate: Vec<f32> = rng.values(len).iter().map(|x| 4.0 * x).collect();
        let up = rng.values(len);
        let forward = |gate: &[f32], up: &[f32]| {
            let mut y = vec![0.0; len];
            cpu.silu_mul(&mut y, gate, up);
            y
        };
        let (mut dgate, mut dup, mut y) = (dy.clone(), vec![7.0; len], vec![7.0; len]);
        cpu.silu_mul_backward(&mut dgate, &mut dup, &mut y, &gate, &up);
        assert_eq!(y, forward(&gate, &up), "{cpu:?}");
        close(&cpu, "dgate", &dgate, &numeric(&gate, &dy, |gate| forward(gate, &up)));
        close(&cpu, "dup", &dup, &numeric(&up, &dy, |up| forward(&gate, up)));
    }
}

#[test]
fn bias_and_embedding() {
    for cpu in cpus(2) {
        let (n, d, v, mut rng) = (130, 70, 5, Rng(5));
        let (bias, dy, table) = (rng.values(d), rng.values(n * d), rng.values(v * d));
        let ids: Vec<u32> = (0..n).map(|_| rng.below(v as u64) as u32).collect();
        let dbias = added(d, |dbias| cpu.bias_backward(dbias, &dy));
        let plus_bias = |bias: &[f32]| {
            let mut y = vec![0.5; n * d];
            cpu.add_bias(&mut y, bias);
            y
        };
        close(&cpu, "dbias", &dbias, &numeric(&bias, &dy, plus_bias));
        let dtable = added(v * d, |dtable| cpu.embedding_backward(dtable, &dy, &ids));
        let rows = |table: &[f32]| {
            let mut y = vec![0.0; n * d];
            cpu.embedding(&mut y, table, &ids);
            y
        };
        close(&cpu, "dtable", &dtable, &numeric(&table, &dy, rows));
    }
}

#[test]
fn cross_entropy() {
    for cpu in cpus(2) {
        let (n, v, mut rng) = (5, 37, Rng(6));
        let logits: Vec<f32> = rng.values(n * v).iter().map(|x| 3.0 * x).collect();
        // The row without weight has a target that does not exist: it must not be looked at.
        let (targets, weights) = ([0, 36, 7, u32::MAX, 20], [1.0, 0.25, 0.5, 0.0, 1.0]);
        let forward = |logits: &[f32]| {
            let mut losses = vec![7.0; n];
            cpu.cross_entropy(logits, &mut losses, &targets, &weights);
            losses
        };
        let (mut dlogits, mut losses) = (logits.clone(), vec![7.0; n]);
        cpu.cross_entropy_backward(&mut dlogits, &mut losses, &targets, &weights);
        close(&cpu, "losses", &losses, &forward(&logits));
        assert_eq!(losses[3], 0.0);
        close(&cpu, "dlogits", &dlogits, &numeric(&logits, &weights, forward));
    }
}

#[test]
fn dropout() {
    for cpu in cpus(2) {
        let (x, dy) = (Rng(7).values(50), Rng(8).values(50));
        let forward = |x: &[f32]| {
            let mut y = x.to_vec();
            cpu.dropout(&mut y, 0.3, 11);
            y
        };
        close(&cpu, "dx", &forward(&dy), &numeric(&x, &dy, forward));
    }
}

#[test]
fn gemm() {
    for cpu in cpus(2) {
        let (m, n, k, mut rng) = (5, 7, 9, Rng(9));
        let (a, b, dc) = (rng.values(m * k), rng.values(k * n), rng.values(m * n));
        let product = |c: &mut [f32], a: MatRef<'_>, b: MatRef<'_>| {
            let c = MatMut::new(c, a.rows, b.cols);
            cpu.gemm(Precision::F32, true, c, a, b);
        };
        let forward = |a: &[f32], b: &[f32]| {
            let mut c = vec![0.0; m * n];
            product(&mut c, MatRef::new(a, m, k), MatRef::new(b, k, n));
            c
        };
        let da = added(m * k, |da| product(da, MatRef::new(&dc, m, n), MatRef::new(&b, k, n).t()));
        let db = added(k * n, |db| product(db, MatRef::new(&a, m, k).t(), MatRef::new(&dc, m, n)));
        close(&cpu, "da", &da, &numeric(&a, &dc, |a| forward(a, &b)));
        close(&cpu, "db", &db, &numeric(&b, &dc, |b| forward(&a, b)));
    }
}

#[test]
fn attention() {
    let base = Shape { heads: 2, kv_heads: 2, head_dim: 6, window: None, sinks: 0, tile_rows: 64 };
    let shapes = [
        (base, vec![9, 3]),
        (Shape { heads: 6, kv_heads: 2, head_dim: 4, tile_rows: 5, ..base }, vec![13]),
        (Shape { kv_heads: 1, head_dim: 2, window: Some(9), tile_rows: 32, ..base }, vec![80]),
        (Shape { heads: 1, kv_heads: 1, head_dim: 2, window: Some(3), sinks: 1, ..base }, vec![132]),
    ];
    for cpu in cpus(2) {
        for (shape, lengths) in &shapes {
            attention_gradients(&cpu, &Attention::new(*shape, lengths));
        }
    }
}

fn attention_gradients(cpu: &Cpu, problem: &Attention) {
    let (plan, mut rng) = (&problem.plan, Rng(10));
    let (q_len, kv_len) =
        (problem.rows * plan.num_heads * plan.head_dim, problem.rows * plan.num_kv_heads * plan.head_dim);
    let (q, dout) = (rng.values(q_len), rng.values(q_len));
    let (k, v) = (rng.values(kv_len), rng.values(kv_len));
    let (out, lse) = problem.forward(cpu, &q, &k, &v);
    let stored = problem.store(cpu, &k, &v);
    let (mut dq, mut dk) = (vec![7.0; q_len], Vec::new());
    let dv = added(kv_len, |dv| {
        dk = added(kv_len, |dk| {
            let saved = AttentionSaved { dout: &dout, out: &out, lse: &lse, q: &q };
            let grads = AttentionGrads { dq: &mut dq, dk, dv };
            cpu.attention_backward(grads, saved, &problem.views(&stored), plan);
        });
    });
    close(cpu, "dq", &dq, &numeric(&q, &dout, |q| problem.forward(cpu, q, &k, &v).0));
    close(cpu, "dk", &dk, &numeric(&k, &dout, |k| problem.forward(cpu, &q, k, &v).0));
    close(cpu, "dv", &dv, &numeric(&v, &dout, |v| problem.forward(cpu, &q, &k, v).0));
}
