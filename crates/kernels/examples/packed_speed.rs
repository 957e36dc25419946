//! Speed of packed matmul: GB/s of weights read while decoding, Gop/s while prefilling, per format and kernel set.
//!
//! `cargo run --release -p shakti-kernels --example packed_speed -- [THREADS [SET [FORMAT]]]`
//!
//! Decoding runs through enough copies of a matrix to leave the caches of a core (48 MB). What counts is the call at the
//! fastest tenth of many short calls, so that the figures mean something on a machine that does other work besides.

use shakti_kernels::blocks::{DType, quantize_row};
use shakti_kernels::{Cpu, KernelSet, PackedMatrix};
use std::time::Instant;

/// Output and input features: a projection down, one up, an output head.
const SHAPES: [[usize; 2]; 3] = [[640, 2560], [2560, 640], [64000, 640]];
/// Bytes of copies of a matrix that decoding runs through.
const DECODE_BYTES: usize = 48 << 20;
/// Rows of a prefill.
const PREFILL_ROWS: usize = 48;
/// Calls of each kind, at least.
const CALLS: usize = 40;

/// Uniform numbers around zero.
fn numbers(n: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

fn matrix(dtype: DType, [rows, cols]: [usize; 2]) -> Result<PackedMatrix, Box<dyn std::error::Error>> {
    let row_bytes = dtype.row_bytes(cols)?;
    // One quantized row, rotated by whole blocks from row to row.
    let mut row = vec![0; row_bytes];
    quantize_row(dtype, &numbers(cols), &mut row)?;
    let mut bytes = Vec::with_capacity(rows * row_bytes);
    for _ in 0..rows {
        row.rotate_left(dtype.block_bytes());
        bytes.extend_from_slice(&row);
    }
    Ok(PackedMatrix::pack(dtype, rows, cols, &bytes)?)
}

/// Seconds at the fastest tenth of `calls` calls of `f` with 0, 1, 2 and so on, after a warm-up.
fn seconds(calls: usize, mut f: impl FnMut(usize)) -> f64 {
    f(0);
    let mut times: Vec<f64> = (0..calls)
        .map(|i| {
            let start = Instant::now();
            f(i);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[calls / 10]
}

/// GB/s of decoding and Gop/s of prefilling with one format and shape.
fn measure(cpu: &Cpu, dtype: DType, shape: [usize; 2]) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let [rows, cols] = shape;
    let count = (DECODE_BYTES / (rows * dtype.row_bytes(cols)?)).max(1);
    let copies = (0..count).map(|_| matrix(dtype, shape)).collect::<Result<Vec<_>, _>>()?;
    let x = numbers(PREFILL_ROWS * cols);
    let mut y = vec![0.0; PREFILL_ROWS * rows];
    let calls = 5 * copies.len() + CALLS;
    let decode = seconds(calls, |i| {
        cpu.matmul_packed(&mut y[..rows], &x[..cols], &copies[i % copies.len()]);
    });
    let prefill = seconds(CALLS, |_| cpu.matmul_packed(&mut y, &x, &copies[0]));
    let operations = 2.0 * (PREFILL_ROWS * rows * cols) as f64;
    Ok((copies[0].num_bytes() as f64 / decode / 1e9, operations / prefill / 1e9))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = arguments.first().map_or(Ok(1), |a| a.parse())?;
    let sets = match arguments.get(1) {
        Some(name) => vec![KernelSet::by_name(name)?],
        None => KernelSet::available().to_vec(),
    };
    let formats = match arguments.get(2) {
        Some(name) => vec![name.parse()?],
        None => DType::ALL.to_vec(),
    };
    println!("{threads} threads; decode GB/s, prefill ({PREFILL_ROWS} rows) Gop/s");
    for set in sets {
        let cpu = Cpu::new(set, threads);
        for &dtype in &formats {
            print!("{:12} {dtype:5}", set.name());
            for shape in SHAPES.into_iter().filter(|s| s[1].is_multiple_of(dtype.block_len())) {
                let (decode, prefill) = measure(&cpu, dtype, shape)?;
                print!("  {}x{}: {decode:6.2} {prefill:6.1}", shape[0], shape[1]);
            }
            println!();
        }
    }
    Ok(())
}
