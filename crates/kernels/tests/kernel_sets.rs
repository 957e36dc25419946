//! Every operation of every kernel set this CPU can run, by name: against the plain loops, and on 1, 2 and 3 threads.
//! Matrix products have a file of their own.

mod common;

use common::{Attention, Rng, Shape, assert_close, assert_same_bits};
use shakti_kernels::{
    AdamWStep, AttentionGrads, AttentionSaved, Cpu, KernelSet, KvType, LayerNormGrads, LayerNormOutput,
    Moment8, RopeFrequencies,
};
use std::io::Write;

/// An operation on numbers that are the same in every run, with what it wrote.
struct Case {
    name: &'static str,
    /// Largest difference from the plain loops, relative to the largest element of an output (or to 1). The unit is
    /// 2^-24 (half a unit in the last place of 1), the factor covers the order of summation and the exponential.
    units: f32,
    run: fn(&Cpu) -> Vec<Vec<f32>>,
}

/// Operations without sums or exponentials have the same bits in every set.
const EXACT: f32 = 0.0;

const CASES: &[Case] = &[
    // Sums of a row of up to 645: partial sums of lanes in another order.
    Case { name: "rms_norm", units: 16.0, run: rms_norm },
    Case { name: "layer_norm", units: 16.0, run: layer_norm },
    Case { name: "rope", units: EXACT, run: rope },
    // exp: 2 units of the last place on each side.
    Case { name: "silu_mul", units: 8.0, run: silu_mul },
    Case { name: "add, scale, bias", units: EXACT, run: sums },
    Case { name: "embedding", units: EXACT, run: embedding },
    // Sums of up to 5003 exponentials.
    Case { name: "cross_entropy", units: 32.0, run: cross_entropy },
    Case { name: "dropout", units: EXACT, run: dropout },
    Case { name: "adamw", units: EXACT, run: adamw },
    Case { name: "adamw8, axpby", units: EXACT, run: adamw8 },
    Case { name: "sum_squares", units: 16.0, run: sum_squares },
    // Scores, exponentials of them, sums over up to 200 keys, and for keys over rows.
    Case { name: "attention", units: 64.0, run: attention },
    Case { name: "compact_attention", units: 64.0, run: compact_attention },
];

#[test]
fn every_set_this_cpu_has_runs_and_agrees_with_scalar() {
    let sets: Vec<_> = KernelSet::available().iter().map(|set| set.name()).collect();
    // Past the capture of `println!`, so that a plain `cargo test` says what it ran.
    writeln!(std::io::stderr(), "kernel sets under test: {}", sets.join(", ")).expect("standard error");
    for expected in sets_by_system() {
        assert!(sets.contains(&expected), "this CPU has what `{expected}` needs, but it did not run");
    }
    let scalar = Cpu::new(KernelSet::by_name("scalar").expect("always there"), 1);
    for case in CASES {
        let wanted = (case.run)(&scalar);
        for set in KernelSet::available() {
            let what = |i: usize| format!("{} output {i} of {}", case.name, set.name());
            let outputs = (case.run)(&Cpu::new(set, 1));
            for (i, (got, want)) in outputs.iter().zip(&wanted).enumerate() {
                let largest = want.iter().filter(|x| x.is_finite()).fold(1.0f32, |max, x| max.max(x.abs()));
                assert_close(&what(i), got, want, case.units / (1 << 24) as f32 * largest, 0.0);
            }
            for threads in [2, 3] {
                for (i, (got, want)) in (case.run)(&Cpu::new(set, threads)).iter().zip(&outputs).enumerate() {
                    assert_same_bits(&format!("{} on {threads} threads", what(i)), got, want);
                }
            }
        }
    }
}

/// What the system says about the CPU, independently of the detection under test.
fn sets_by_system() -> Vec<&'static str> {
    let sets = if cfg!(target_arch = "aarch64") { arm_sets() } else { x86_sets() };
    ["scalar"].into_iter().chain(sets.into_iter().filter(|(has, _)| *has).map(|(_, name)| name)).collect()
}

/// By the flags that Linux lists.
fn x86_sets() -> Vec<(bool, &'static str)> {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags: Vec<&str> =
        info.lines().find(|line| line.starts_with("flags")).unwrap_or("").split(' ').collect();
    let has = |names: &[&str]| cfg!(target_arch = "x86_64") && names.iter().all(|name| flags.contains(name));
    let avx2 = has(&["avx2", "fma", "f16c"]);
    let avx2_vnni = avx2 && has(&["avx_vnni"]);
    let avx512_bw = avx2 && has(&["avx512f", "avx512bw", "avx512dq", "avx512vl"]);
    let avx512 = avx512_bw && has(&["avx512_vnni"]);
    let bf16 = avx512 && has(&["avx512_bf16"]);
    let amx = bf16 && has(&["amx_tile", "amx_bf16"]);
    vec![
        (avx2, "avx2"),
        (avx2_vnni, "avx2-vnni"),
        (avx512_bw, "avx512-bw"),
        (avx512, "avx512"),
        (bf16, "avx512-bf16"),
        (amx, "amx"),
    ]
}

/// By the bits that Linux hands to every program; an emulator's list of flags may be that of the machine it runs on.
fn arm_sets() -> Vec<(bool, &'static str)> {
    const HARDWARE: u64 = 16;
    const HARDWARE_2: u64 = 26;
    let vector = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let words: Vec<u64> = vector.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    let entries = words.as_chunks::<2>().0;
    let word = |key| entries.iter().find(|entry| entry[0] == key).map_or(0, |entry| entry[1]);
    let neon = word(HARDWARE) >> 1 & 1 == 1;
    let dotprod = neon && word(HARDWARE) >> 20 & 1 == 1;
    let i8mm = dotprod && word(HARDWARE_2) >> 13 & 1 == 1;
    vec![(neon, "neon"), (dotprod, "neon-dotprod"), (i8mm, "neon-i8mm")]
}

/// Rows and row lengths: several tasks, several groups of rows, vectors that are not full.
const ROWS: [(usize, usize); 4] = [(1, 1), (3, 17), (130, 256), (70, 645)];

fn rms_norm(cpu: &Cpu) -> Vec<Vec<f32>> {
    let mut outputs = Vec::new();
    for (n, d) in ROWS {
        let mut rng = Rng(1);
        let (x, weight, dy) = (rng.values(n * d), rng.values(d), rng.values(n * d));
        let (mut y, mut rstd) = (vec![0.0; n * d], vec![0.0; n]);
        cpu.rms_norm(&mut y, &mut rstd, &x, &weight, 1e-5);
        let (mut dx, mut dweight) = (rng.values(n * d), rng.values(d));
        cpu.rms_norm_backward(&mut dx, &mut dweight, &dy, &x, &weight, &rstd);
        outputs.extend([y, rstd, dx, dweight]);
    }
    outputs
}

fn layer_norm(cpu: &Cpu) -> Vec<Vec<f32>> {
    let mut outputs = Vec::new();
    for (n, d) in ROWS {
        let mut rng = Rng(2);
        let (x, weight, bias) = (rng.values(n * d), rng.values(d), rng.values(d));
        let (mut y, mut mean, mut rstd) = (vec![0.0; n * d], vec![0.0; n], vec![0.0; n]);
        let out = LayerNormOutput { y: &mut y, mean: &mut mean, rstd: &mut rstd };
        cpu.layer_norm(out, &x, &weight, &bias, 1e-2);
        let dy = rng.values(n * d);
        let (mut dx, mut dweight, mut dbias) = (rng.values(n * d), rng.values(d), rng.values(d));
        let grads = LayerNormGrads { dx: &mut dx, dweight: &mut dweight, dbias: &mut dbias };
        cpu.layer_norm_backward(grads, &dy, &x, &weight, &mean, &rstd);
        outputs.extend([y, mean, rstd, dx, dweight, dbias]);
    }
    outputs
}

fn rope(cpu: &Cpu) -> Vec<Vec<f32>> {
    let mut outputs = Vec::new();
    for (n, heads, head_dim) in [(1, 1, 2), (5, 3, 20), (200, 4, 64)] {
        let positions = (0..n).map(|i| i * 3);
        let frequencies = RopeFrequencies::new(head_dim, 10_000.0);
        let angles = frequencies.angles(&cpu.buffers, n as usize, positions);
        let mut x = Rng(3).values(n as usize * heads * head_dim);
        cpu.rope(&mut x, heads, &angles, false);
        outputs.push(x.clone());
        cpu.rope(&mut x, heads, &angles, true);
        outputs.push(x);
    }
    outputs
}

fn silu_mul(cpu: &Cpu) -> Vec<Vec<f32>> {
    let (len, mut rng) = (40_007, Rng(4));
    // From where exp(-gate) overflows to where it vanishes.
    let gate: Vec<f32> = rng.values(len).iter().map(|x| 120.0 * x * x * x).collect();
    let (up, dy) = (rng.values(len), rng.values(len));
    let (mut y, mut again, mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len], dy, vec![0.0; len]);
    cpu.silu_mul(&mut y, &gate, &up);
    cpu.silu_mul_backward(&mut dgate, &mut dup, &mut again, &gate, &up);
    vec![y, again, dgate, dup]
}

fn sums(cpu: &Cpu) -> Vec<Vec<f32>> {
    let (n, d, mut rng) = (150, 333, Rng(5));
    let (mut y, x, bias, mut dbias) = (rng.values(n * d), rng.values(n * d), rng.values(d), rng.values(d));
    cpu.add(&mut y, &x);
    cpu.scale(&mut y, 0.37);
    cpu.add_bias(&mut y, &bias);
    cpu.bias_backward(&mut dbias, &x);
    vec![y, dbias]
}

fn embedding(cpu: &Cpu) -> Vec<Vec<f32>> {
    let (n, v, d, mut rng) = (300, 50, 200, Rng(6));
    let (table, dy) = (rng.values(v * d), rng.values(n * d));
    let ids: Vec<u32> = (0..n).map(|_| rng.below(v as u64) as u32).collect();
    let (mut y, mut dtable) = (vec![0.0; n * d], rng.values(v * d));
    cpu.embedding(&mut y, &table, &ids);
    cpu.embedding_backward(&mut dtable, &dy, &ids);
    vec![y, dtable]
}

fn cross_entropy(cpu: &Cpu) -> Vec<Vec<f32>> {
    let mut outputs = Vec::new();
    for (n, v) in [(1, 1), (5, 13), (40, 5003)] {
        let mut rng = Rng(7);
        let mut logits: Vec<f32> = rng.values(n * v).iter().map(|x| 20.0 * x).collect();
        let targets: Vec<u32> = (0..n).map(|_| rng.below(v as u64) as u32).collect();
        let weights: Vec<f32> = (0..n).map(|i| [1.0, 0.5, 0.0][i % 3]).collect();
        let (mut losses, mut fused) = (vec![0.0; n], vec![0.0; n]);
        cpu.cross_entropy(&logits, &mut losses, &targets, &weights);
        cpu.cross_entropy_backward(&mut logits, &mut fused, &targets, &weights);
        outputs.extend([losses, fused, logits]);
    }
    outputs
}

fn dropout(cpu: &Cpu) -> Vec<Vec<f32>> {
    let mut x = vec![1.0; 100_000];
    cpu.dropout(&mut x, 0.25, 42);
    let kept = x.iter().filter(|x| **x != 0.0).count();
    // 100,000 draws: the standard deviation is 137.
    assert!(kept.abs_diff(75_000) < 700, "{kept} of 100,000 kept with probability 0.75");
    vec![x]
}

fn adamw_step(step: u64) -> AdamWStep {
    AdamWStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        step,
        grad_scale: 0.5,
    }
}

fn adamw(cpu: &Cpu) -> Vec<Vec<f32>> {
    let (len, mut rng) = (50_001, Rng(8));
    let (mut param, mut m, mut v) = (rng.values(len), vec![0.0; len], vec![0.0; len]);
    for step in 1..4 {
        cpu.adamw(&mut param, &rng.values(len), &mut m, &mut v, &adamw_step(step));
    }
    vec![param, m, v]
}

fn adamw8(cpu: &Cpu) -> Vec<Vec<f32>> {
    let (len, mut rng) = (50_001, Rng(8));
    let (mut param, mut m, mut v) = (rng.values(len), Moment8::zeros(len, true), Moment8::zeros(len, false));
    for step in 1..4 {
        cpu.adamw8(&mut param, &rng.values(len), [&mut m, &mut v], &adamw_step(step));
    }
    cpu.axpby(&mut param, &rng.values(len), [0.75, -0.1]);
    let codes = |moment: &Moment8| moment.codes.iter().map(|code| f32::from(*code)).collect();
    vec![param, codes(&m), codes(&v), m.scales, v.scales]
}

fn sum_squares(cpu: &Cpu) -> Vec<Vec<f32>> {
    let lengths = [0, 1, 100, 16_384, 100_003];
    lengths.iter().map(|&len| vec![cpu.sum_squares(&Rng(9).values(len)) as f32]).collect()
}

fn attention(cpu: &Cpu) -> Vec<Vec<f32>> {
    let base = Shape { heads: 4, kv_heads: 2, head_dim: 32, window: None, sinks: 0, tile_rows: 64 };
    let shapes = [
        (base, vec![1, 63, 64, 65, 200]),
        (Shape { heads: 2, kv_heads: 2, head_dim: 64, ..base }, vec![130]),
        (Shape { heads: 5, kv_heads: 1, head_dim: 20, tile_rows: 7, ..base }, vec![70, 3]),
        (Shape { window: Some(40), tile_rows: 33, ..base }, vec![150]),
        (Shape { head_dim: 80, window: Some(64), sinks: 1, ..base }, vec![200, 20]),
        (Shape { heads: 1, kv_heads: 1, head_dim: 3, window: Some(1), ..base }, vec![66]),
    ];
    shapes.iter().flat_map(|(shape, lengths)| attention_of(cpu, &Attention::new(*shape, lengths))).collect()
}

/// Keys and values in fewer bits.
fn compact_attention(cpu: &Cpu) -> Vec<Vec<f32>> {
    let base = Shape { heads: 4, kv_heads: 2, head_dim: 64, window: None, sinks: 0, tile_rows: 64 };
    let shapes = [
        (base, vec![1, 65, 300]),
        (Shape { heads: 3, kv_heads: 1, head_dim: 43, tile_rows: 7, ..base }, vec![70]),
        (Shape { head_dim: 80, window: Some(64), sinks: 1, ..base }, vec![200, 20]),
    ];
    let mut results = Vec::new();
    for (shape, lengths) in &shapes {
        for kind in [KvType::F16, KvType::Q8_0] {
            let problem = Attention { kind, ..Attention::new(*shape, lengths) };
            let (q, k, v) = inputs(&problem);
            let (out, lse) = problem.forward(cpu, &q, &k, &v);
            results.extend([out, lse]);
        }
    }
    results
}

/// Queries, keys and values of a problem.
fn inputs(problem: &Attention) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (plan, mut rng) = (&problem.plan, Rng(10));
    let (q_len, kv_len) =
        (problem.rows * plan.num_heads * plan.head_dim, problem.rows * plan.num_kv_heads * plan.head_dim);
    let q: Vec<f32> = rng.values(q_len).iter().map(|x| 3.0 * x).collect();
    (q, rng.values(kv_len), rng.values(kv_len))
}

fn attention_of(cpu: &Cpu, problem: &Attention) -> Vec<Vec<f32>> {
    let (plan, (q, k, v)) = (&problem.plan, inputs(problem));
    let mut rng = Rng(13);
    let (dout, kv_len) = (rng.values(q.len()), k.len());
    let (out, lse) = problem.forward(cpu, &q, &k, &v);
    let stored = problem.store(cpu, &k, &v);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], rng.values(kv_len), rng.values(kv_len));
    let saved = AttentionSaved { dout: &dout, out: &out, lse: &lse, q: &q };
    let grads = AttentionGrads { dq: &mut dq, dk: &mut dk, dv: &mut dv };
    cpu.attention_backward(grads, saved, &problem.views(&stored), plan);
    vec![out, lse, dq, dk, dv]
}

#[test]
fn attention_of_a_row_has_the_same_bits_alone_and_in_a_tile() {
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 2);
        let exact = [(None, 0, KvType::F32), (Some(50), 1, KvType::F32)];
        for (window, sinks, kind) in
            exact.into_iter().chain([(None, 0, KvType::F16), (None, 0, KvType::Q8_0)])
        {
            let shape = Shape { heads: 6, kv_heads: 2, head_dim: 32, window, sinks, tile_rows: 64 };
            let problem = |shape| Attention { kind, ..Attention::new(shape, &[300]) };
            let together = problem(shape);
            let mut rng = Rng(11);
            let (q, k, v) = (rng.values(300 * 6 * 32), rng.values(300 * 2 * 32), rng.values(300 * 2 * 32));
            let (out, lse) = together.forward(&cpu, &q, &k, &v);
            // Sinks are listed where they lie behind the window of the whole tile, so tiles are cut at blocks.
            for tile_rows in if sinks == 0 { vec![1, 5, 64] } else { vec![32, 64] } {
                let (alone_out, alone_lse) = problem(Shape { tile_rows, ..shape }).forward(&cpu, &q, &k, &v);
                let what = format!("{} by {tile_rows}, window {window:?}, {}", set.name(), kind.name());
                assert_same_bits(&what, &alone_out, &out);
                assert_same_bits(&what, &alone_lse, &lse);
            }
        }
    }
}

#[test]
fn a_row_that_sees_no_key_is_zero() {
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 1);
        let shape = Shape { heads: 2, kv_heads: 1, head_dim: 16, window: None, sinks: 0, tile_rows: 64 };
        let mut problem = Attention::new(shape, &[70]);
        problem.plan.tiles.iter_mut().for_each(|tile| tile.blocks = 0..0);
        let mut rng = Rng(12);
        let (q, k, v) = (rng.values(70 * 32), rng.values(70 * 16), rng.values(70 * 16));
        let (out, lse) = problem.forward(&cpu, &q, &k, &v);
        assert!(out.iter().all(|x| *x == 0.0) && lse.iter().all(|x| *x == f32::NEG_INFINITY));
    }
}

#[test]
fn nan_is_not_hidden() {
    for set in KernelSet::available() {
        let cpu = Cpu::new(set, 1);
        for at in [0, 20, 36] {
            let mut logits = vec![0.5; 37];
            logits[at] = f32::NAN;
            let mut losses = [0.0];
            cpu.cross_entropy(&logits, &mut losses, &[3], &[1.0]);
            assert!(losses[0].is_nan(), "loss of {} with NaN at {at}", set.name());
            let mut y = [0.0; 37];
            cpu.silu_mul(&mut y, &logits, &[1.0; 37]);
            assert!(y[at].is_nan(), "silu_mul of {} with NaN at {at}", set.name());
        }
    }
}
