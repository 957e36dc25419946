//! GFLOP/s of `gemm` for the products of a training step, per kernel set and precision, and the share of the fastest
//! rate any of them reached for that set. Run with `--release`, alone on the machine.
//!
//! Arguments: threads (default: all), then names of kernel sets (default: every one but `scalar`).

use shakti_kernels::{Cpu, KernelSet, MatMut, MatRef, Precision};
use std::time::{Duration, Instant};

/// Tokens in a batch, input and output features of the linear layers of the nano and 100M shapes.
const LAYERS: [(usize, usize, usize); 9] = [
    (2048, 256, 256),
    (2048, 256, 128),
    (2048, 256, 768),
    (2048, 768, 256),
    (2048, 256, 4096),
    (2048, 640, 640),
    (2048, 640, 2560),
    (2048, 2560, 640),
    (2048, 640, 8192),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let threads = match arguments.next() {
        Some(threads) => threads.parse()?,
        None => std::thread::available_parallelism()?.get(),
    };
    let names: Vec<String> = arguments.collect();
    let sets: Vec<_> = match names.is_empty() {
        true => KernelSet::available().iter().copied().filter(|set| set.name() != "scalar").collect(),
        false => names.iter().map(|name| KernelSet::by_name(name)).collect::<Result<_, _>>()?,
    };
    for set in sets {
        let cpu = Cpu::new(set, threads);
        for precision in [Precision::F32, Precision::Bf16] {
            println!("{} {precision:?}, {} threads, GFLOP/s", set.name(), cpu.pool.threads());
            println!(
                "{:>6} {:>6} {:>6} {:>9} {:>9} {:>9}",
                "tokens", "in", "out", "forward", "input", "weight"
            );
            for layer in LAYERS {
                let [forward, input, weight] = speeds(&cpu, precision, layer);
                let (tokens, inputs, outputs) = layer;
                println!("{tokens:>6} {inputs:>6} {outputs:>6} {forward:>9.1} {input:>9.1} {weight:>9.1}");
            }
        }
    }
    Ok(())
}

/// GFLOP/s of `y = x w^T`, `dx = dy w` and `dw += dy^T x`.
fn speeds(cpu: &Cpu, precision: Precision, (tokens, inputs, outputs): (usize, usize, usize)) -> [f64; 3] {
    let value = |i: usize| (i % 1000) as f32 / 1000.0 - 0.5;
    let mut x: Vec<f32> = (0..tokens * inputs).map(value).collect();
    let mut w: Vec<f32> = (0..outputs * inputs).map(value).collect();
    let mut y: Vec<f32> = (0..tokens * outputs).map(value).collect();
    let flops = 2.0 * (tokens * inputs * outputs) as f64;
    let forward = best(|| {
        let (x, w) = (MatRef::new(&x, tokens, inputs), MatRef::new(&w, outputs, inputs));
        cpu.gemm(precision, false, MatMut::new(&mut y, tokens, outputs), x, w.t());
    });
    let input = best(|| {
        let (y, w) = (MatRef::new(&y, tokens, outputs), MatRef::new(&w, outputs, inputs));
        cpu.gemm(precision, false, MatMut::new(&mut x, tokens, inputs), y, w);
    });
    let weight = best(|| {
        let (y, x) = (MatRef::new(&y, tokens, outputs), MatRef::new(&x, tokens, inputs));
        cpu.gemm(precision, true, MatMut::new(&mut w, outputs, inputs), y.t(), x);
    });
    [forward, input, weight].map(|time| flops / time.as_secs_f64() / 1e9)
}

/// The shortest of several calls: on a shared machine the one that was disturbed least.
fn best(mut call: impl FnMut()) -> Duration {
    let mut shortest = Duration::MAX;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(150) {
        let start = Instant::now();
        call();
        shortest = shortest.min(start.elapsed());
    }
    shortest
}
