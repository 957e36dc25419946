//! A grid says what dequantization says, and other integers leave the scales alone.

use super::*;
use crate::blocks::{dequantize_row, quantize_row};

fn quantized() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|dtype| dtype.is_quantized())
}

#[test]
fn values_are_those_of_the_dequantized_block_whatever_the_integers() {
    for dtype in quantized() {
        let len = dtype.block_len();
        let x: Vec<f32> = (0..len).map(|i| ((i * i) as f32 * 0.37).sin() * (1.0 + (i / 16) as f32)).collect();
        let mut block = vec![0; dtype.block_bytes()];
        quantize_row(dtype, &x, &mut block).unwrap();
        let mut grid = Grid::default();
        grid.read(dtype, &block).unwrap();
        let mut q = vec![0; len];
        read_integers(dtype, &block, &mut q).unwrap();
        let same = block.clone();
        replace_integers(dtype, &mut block, &q).unwrap();
        assert_eq!(block, same, "{dtype}");
        for (i, q) in q.iter_mut().enumerate() {
            *q = (i * 7 % (usize::from(grid.levels) + 1)) as u8;
        }
        replace_integers(dtype, &mut block, &q).unwrap();
        let mut back = vec![0.0; len];
        dequantize_row(dtype, &block, &mut back).unwrap();
        for i in 0..len {
            let value = grid.value(i, q[i]);
            assert!((value - back[i]).abs() <= 1e-6 * back[i].abs(), "{dtype} {i}: {value} for {}", back[i]);
            assert!(grid.steps[i] == 0.0 || grid.nearest(i, value) == q[i], "{dtype} {i}");
        }
        let far = grid.steps[0].signum() * f32::MAX;
        assert_eq!((grid.nearest(0, -far), grid.nearest(0, far)), (0, grid.levels), "{dtype}");
    }
}

#[test]
fn what_is_no_block_is_refused() {
    let mut grid = Grid::default();
    let expected = BlockError::ByteLength { dtype: DType::Q4_0, expected: 18, found: 17 };
    assert_eq!(grid.read(DType::Q4_0, &[0; 17]), Err(expected.clone()));
    assert_eq!(replace_integers(DType::Q4_0, &mut [0; 17], &[0; 32]), Err(expected));
    assert_eq!(
        read_integers(DType::Q4_0, &[0; 18], &mut [0; 31]),
        Err(BlockError::RowLength { dtype: DType::Q4_0, len: 31 })
    );
    assert_eq!(grid.read(DType::F16, &[0; 2]), Err(BlockError::NoGrid { dtype: DType::F16 }));
}
