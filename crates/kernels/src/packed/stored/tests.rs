//! Stored matrices against packed ones, bit for bit.

use super::super::tests::{Numbers, bits, shapes, stored};
use crate::blocks::DType;
use crate::{Cpu, KernelSet, PackedMatrix, StoredMatrix};

/// Rows of inputs that make one tile, several, and the widths in between.
const INPUTS: [usize; 5] = [1, 3, 4, 16, 30];

#[test]
fn products_have_the_bits_of_packed_ones() {
    let mut numbers = Numbers(21);
    for dtype in DType::ALL {
        for shape @ [rows, cols] in shapes(dtype) {
            let bytes = stored(dtype, shape, &mut numbers);
            let w = StoredMatrix { dtype, shape, bytes: &bytes, head_rows: None };
            for set in KernelSet::available() {
                for (threads, inputs) in [1, 2].into_iter().flat_map(|t| INPUTS.map(|inputs| (t, inputs))) {
                    let cpu = Cpu::new(set, threads);
                    let packed = PackedMatrix::pack_with(&cpu, dtype, shape, &bytes).unwrap();
                    let x = numbers.take(inputs * cols);
                    let [mut want, mut got, mut again] = [const { Vec::new() }; 3].map(|mut y: Vec<f32>| {
                        y.resize(inputs * rows, f32::NAN);
                        y
                    });
                    cpu.matmul_packed(&mut want, &x, &packed);
                    cpu.matmul_stored_many(&mut [(&mut got, w), (&mut again, w)], &x);
                    let what = format!("{packed:?}, {inputs} rows, {threads} threads of {}", set.name());
                    assert_eq!((bits(&got), bits(&again)), (bits(&want), bits(&want)), "{what}");
                }
            }
        }
    }
}

#[test]
fn interleaved_halves_are_read_in_order() {
    let (dtype, shape @ [rows, cols], head) = (DType::Q4_0, [48, 64], 24);
    let mut numbers = Numbers(22);
    let in_order = stored(dtype, shape, &mut numbers);
    let row_bytes = in_order.len() / rows;
    let row = |row: usize| &in_order[row * row_bytes..(row + 1) * row_bytes];
    let pairs = (0..rows / 2).flat_map(|pair| {
        let first = pair / (head / 2) * head + pair % (head / 2);
        [row(first), row(first + head / 2)]
    });
    let interleaved = pairs.collect::<Vec<_>>().concat();
    let w = StoredMatrix { dtype, shape, bytes: &interleaved, head_rows: Some(head) };
    let cpu = Cpu::new(KernelSet::best().unwrap(), 2);
    let want = PackedMatrix::pack_with(&cpu, dtype, shape, &in_order).unwrap();
    let packed = PackedMatrix::pack_all(&cpu, &[w]).unwrap().pop().unwrap();
    let x = numbers.take(3 * cols);
    let [mut from_order, mut from_packed, mut from_stored] = [[0.0; 3 * 48]; 3];
    cpu.matmul_packed(&mut from_order, &x, &want);
    cpu.matmul_packed(&mut from_packed, &x, &packed);
    cpu.matmul_stored_many(&mut [(&mut from_stored, w)], &x);
    assert_eq!((bits(&from_packed), bits(&from_stored)), (bits(&from_order), bits(&from_order)));
    let (mut got, mut expected) = (vec![0.0; cols], vec![0.0; cols]);
    for row in 0..rows {
        w.dequantize_row(row, &mut got);
        want.dequantize_row(row, &mut expected);
        assert_eq!(bits(&got), bits(&expected), "row {row}");
    }
}
