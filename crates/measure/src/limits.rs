//! What bounds a model's speed on a machine: bytes read and operations done per second.

use shakti_kernels::blocks::{BlockError, DType};
use shakti_kernels::{Cpu, PackedMatrix};

use crate::spread::seconds;

/// Seconds that one quantity is measured for, about.
const BRIEFLY: f64 = 0.15;
/// A working set that stands for main memory; larger ones are read no slower.
const MAIN_MEMORY: usize = 256 << 20;
/// Rows, output and input features of the products that are timed: a feed-forward layer of a small model.
const PRODUCT: [usize; 3] = [256, 2560, 640];

/// Input features of a matrix that is only read: whole blocks in every format.
const WIDE: usize = 1024;

/// Limits of a machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Bytes read from memory per second.
    pub bytes_per_s: f64,
    /// Operations per second of products with 8-bit integers, a multiplication and an addition counted as two.
    pub int8_per_s: f64,
    /// The same with f32 numbers.
    pub f32_per_s: f64,
}

impl Limits {
    /// Measures this machine for about a second by our own products: what one of a single row reads of a large matrix,
    /// and what those of many rows multiply.
    ///
    /// # Errors
    /// Memory is short.
    pub fn measure(cpu: &Cpu) -> Result<Self, BlockError> {
        Ok(Self {
            bytes_per_s: reading_rate(cpu, DType::Q8_0, MAIN_MEMORY)?,
            int8_per_s: product(cpu, DType::Q8_0)?,
            f32_per_s: product(cpu, DType::F32)?,
        })
    }
}

/// The best of repeated calls: what stands in the way of one of them is not the machine's limit.
fn best(mut call: impl FnMut()) -> f64 {
    let (mut shortest, mut total) = (f64::MAX, 0.0);
    call();
    while total < BRIEFLY {
        let taken = seconds(&mut call).max(1e-9);
        shortest = shortest.min(taken);
        total += taken;
    }
    shortest
}

/// Bytes per second at which a product with one row reads a matrix of `bytes`, which is what decoding does all the time.
/// Caches hold small ones; ones larger than a quarter of a gigabyte are read as fast as that.
///
/// # Errors
/// Memory is short.
pub fn reading_rate(cpu: &Cpu, dtype: DType, bytes: usize) -> Result<f64, BlockError> {
    let inputs = WIDE;
    let outputs = (bytes.min(MAIN_MEMORY) / dtype.row_bytes(inputs)?).max(1);
    let weight = zeros(dtype, outputs, inputs)?;
    let (x, mut y) = (vec![1.0; inputs], vec![0.0; outputs]);
    let taken = best(|| cpu.matmul_packed(&mut y, &x, &weight));
    Ok(weight.num_bytes() as f64 / taken)
}

fn zeros(dtype: DType, outputs: usize, inputs: usize) -> Result<PackedMatrix, BlockError> {
    PackedMatrix::pack(dtype, outputs, inputs, &vec![0; dtype.matrix_bytes(outputs, inputs)?])
}

fn product(cpu: &Cpu, dtype: DType) -> Result<f64, BlockError> {
    let [rows, outputs, inputs] = PRODUCT;
    let weight = zeros(dtype, outputs, inputs)?;
    let (x, mut y) = (vec![1.0; rows * inputs], vec![0.0; rows * outputs]);
    let taken = best(|| cpu.matmul_packed(&mut y, &x, &weight));
    Ok(2.0 * PRODUCT.iter().product::<usize>() as f64 / taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_a_computer() {
        let cpu = Cpu::detect(Some(1)).expect("a CPU");
        let limits = Limits::measure(&cpu).expect("memory");
        let cached = reading_rate(&cpu, DType::Q4_K, 4 << 20).expect("memory");
        for rate in [limits.bytes_per_s, cached] {
            assert!((1e8..1e13).contains(&rate), "{limits:?}, {cached}");
        }
        for rate in [limits.int8_per_s, limits.f32_per_s] {
            assert!((1e7..1e15).contains(&rate), "{limits:?}");
        }
    }
}
