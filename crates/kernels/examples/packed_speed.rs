//! Speed of packing and of packed matmul per format and kernel set: GB/s of stored weights packed, GB/s of packed weights
//! read for one row, Gop/s for batches of rows.
//!
//! `cargo run --release -p shakti-kernels --example packed_speed -- [THREADS [SET [FORMAT [ROWS,ROWS]]]]`
//!
//! Every call takes the next of enough copies of a matrix to leave the caches of a core (48 MB), as a step of a model
//! does. What counts is the call at the fastest tenth of many short calls, so that the figures mean something on a machine
//! that does other work besides.

use shakti_kernels::blocks::{DType, quantize_row};
use shakti_kernels::{Cpu, KernelSet, PackedMatrix};
use std::time::Instant;

/// Output and input features: a square projection, one up, one down, an output head.
const SHAPES: [[usize; 2]; 4] = [[640, 640], [2560, 640], [640, 2560], [4000, 640]];
/// Bytes of copies of a matrix that the calls run through.
const COPY_BYTES: usize = 48 << 20;
/// Rows of the batches, if none are named.
const ROWS: &str = "1,2,4,6,8,12,16,32,64";
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

/// A matrix as stored bytes.
fn stored(dtype: DType, [rows, cols]: [usize; 2]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let row_bytes = dtype.row_bytes(cols)?;
    // One quantized row, rotated by whole blocks from row to row.
    let mut row = vec![0; row_bytes];
    quantize_row(dtype, &numbers(cols), &mut row)?;
    let mut bytes = Vec::with_capacity(rows * row_bytes);
    for _ in 0..rows {
        row.rotate_left(dtype.block_bytes());
        bytes.extend_from_slice(&row);
    }
    Ok(bytes)
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

/// One format and shape: GB/s of packing and of weights for one row, Gop/s for each number of rows.
fn measure(
    cpu: &Cpu,
    dtype: DType,
    [rows, cols]: [usize; 2],
    batches: &[usize],
) -> Result<([f64; 2], Vec<f64>), Box<dyn std::error::Error>> {
    let count = (COPY_BYTES / (rows * dtype.row_bytes(cols)?)).max(1);
    let bytes = stored(dtype, [rows, cols])?;
    let mut copies = Vec::with_capacity(count);
    let mut packing = f64::INFINITY;
    for _ in 0..count {
        let start = Instant::now();
        copies.push(PackedMatrix::pack_with(cpu, dtype, [rows, cols], &bytes)?);
        packing = packing.min(start.elapsed().as_secs_f64());
    }
    let most = batches.iter().copied().max().unwrap_or(1);
    let (x, mut y) = (numbers(most * cols), vec![0.0; most * rows]);
    let mut time = |batch: usize| {
        let calls = if batch == 1 { 5 * copies.len() + CALLS } else { CALLS };
        seconds(calls, |i| {
            cpu.matmul_packed(&mut y[..batch * rows], &x[..batch * cols], &copies[i % copies.len()]);
        })
    };
    let gigabytes = [bytes.len() as f64 / packing / 1e9, copies[0].num_bytes() as f64 / time(1) / 1e9];
    let operations = |batch| 2e-9 * (batch * rows * cols) as f64;
    Ok((gigabytes, batches.iter().map(|&batch| operations(batch) / time(batch)).collect()))
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
    let batches = arguments.get(3).map_or(ROWS, String::as_str);
    let batches = batches.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
    println!("{threads} threads; GB/s of packing and for one row; Gop/s for batches of {batches:?} rows");
    for set in sets {
        let cpu = Cpu::new(set, threads);
        for &dtype in &formats {
            for shape in SHAPES.into_iter().filter(|s| s[1].is_multiple_of(dtype.block_len())) {
                let ([packing, gigabytes], speeds) = measure(&cpu, dtype, shape, &batches)?;
                let speeds: Vec<String> = speeds.iter().map(|speed| format!("{speed:6.1}")).collect();
                let [rows, cols] = shape;
                let shape = format!("{rows}x{cols}");
                println!(
                    "{:12} {dtype:5} {shape:9} {packing:6.2} {gigabytes:6.2}  {}",
                    set.name(),
                    speeds.join(" ")
                );
            }
        }
    }
    Ok(())
}
