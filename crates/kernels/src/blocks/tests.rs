//! Byte equality with ggml's reference quantizers, and the properties of every format.

use std::path::PathBuf;

use proptest::prelude::*;
use safetensors::SafeTensors;

use super::*;

/// One golden file of `golden/blocks`.
fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden/blocks").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn quantized(dtype: DType, x: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0xa5; dtype.row_bytes(x.len()).unwrap()];
    quantize_row(dtype, x, &mut bytes).unwrap();
    bytes
}

fn dequantized(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut x = vec![0.0; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    dequantize_row(dtype, bytes, &mut x).unwrap();
    x
}

const QUANTIZED: [(DType, &str); 8] = [
    (DType::Q8_0, "q8_0"),
    (DType::Q5_0, "q5_0"),
    (DType::Q5_1, "q5_1"),
    (DType::Q4_0, "q4_0"),
    (DType::Q4_1, "q4_1"),
    (DType::Q6_K, "q6_K"),
    (DType::Q5_K, "q5_K"),
    (DType::Q4_K, "q4_K"),
];

#[test]
fn bytes_equal_the_reference_quantizers() {
    let input = golden("input.safetensors");
    let input = SafeTensors::deserialize(&input).unwrap();
    let rows = floats(input.tensor("rows").unwrap().data());
    let names: Vec<String> = String::from_utf8(golden("names.json"))
        .unwrap()
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_eq!(rows.len(), names.len() * 256);
    for (dtype, name) in QUANTIZED {
        let file = golden(&format!("{name}.safetensors"));
        let file = SafeTensors::deserialize(&file).unwrap();
        let want = file.tensor("bytes").unwrap().data();
        let row_bytes = dtype.row_bytes(256).unwrap();
        for (i, name) in names.iter().enumerate() {
            let got = quantized(dtype, &rows[256 * i..256 * (i + 1)]);
            assert_eq!(got, &want[row_bytes * i..row_bytes * (i + 1)], "{dtype}, row {i}: {name}");
        }
        let values = floats(file.tensor("dequantized").unwrap().data());
        for (i, want) in values.chunks(256).enumerate() {
            let got = dequantized(dtype, &file.tensor("bytes").unwrap().data()[row_bytes * i..][..row_bytes]);
            let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(got.iter().zip(want).all(same), "{dtype}, row {i}: {}", names[i]);
        }
    }
}

#[test]
fn names_ids_and_sizes() {
    for dtype in DType::ALL {
        assert_eq!(dtype.name().parse::<DType>(), Ok(dtype));
        assert_eq!(dtype.name().to_uppercase().parse::<DType>(), Ok(dtype));
        assert_eq!(dtype.to_string(), dtype.name());
        assert_eq!(DType::from_ggml_id(dtype.ggml_id()), Ok(dtype));
        let bytes = dtype.row_bytes(dtype.block_len() * 3).unwrap();
        assert_eq!(bytes, dtype.block_bytes() * 3);
    }
    assert_eq!(DType::Q4_0.bits_per_value(), 4.5);
    assert_eq!("q3_k".parse::<DType>(), Err(BlockError::UnknownName { name: "q3_k".into() }));
    assert_eq!(DType::from_ggml_id(4), Err(BlockError::UnknownId { id: 4 }));
}

#[test]
fn wrong_sizes_and_values_are_refused() {
    let mut out = [0u8; 17];
    assert_eq!(
        quantize_row(DType::Q4_0, &[0.0; 32], &mut out),
        Err(BlockError::ByteLength { dtype: DType::Q4_0, expected: 18, found: 17 })
    );
    assert_eq!(
        DType::Q4_K.row_bytes(640).unwrap_err(),
        BlockError::RowLength { dtype: DType::Q4_K, len: 640 }
    );
    assert_eq!(
        DType::F32.matrix_bytes(usize::MAX, 3).unwrap_err(),
        BlockError::TooLarge { rows: usize::MAX, cols: 3 }
    );
    let mut x = [0.5f32; 256];
    for (value, word) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        x[41] = value;
        for (dtype, _) in QUANTIZED {
            let refused = quantize_row(dtype, &x, &mut vec![0; dtype.row_bytes(256).unwrap()]);
            assert_eq!(refused, Err(BlockError::NotFinite { dtype, index: 41, value: word.into() }));
        }
        for dtype in [DType::F32, DType::F16, DType::BF16] {
            let back = dequantized(dtype, &quantized(dtype, &x));
            assert_eq!(back[41].is_nan(), value.is_nan());
            assert_eq!(back[41] < -1e38, value < 0.0);
        }
    }
}

#[test]
fn rows_that_are_not_whole_blocks_fall_back() {
    let cases = [
        (DType::Q4_K, DType::Q5_0),
        (DType::Q5_K, DType::Q5_1),
        (DType::Q6_K, DType::Q8_0),
        (DType::Q4_0, DType::Q4_0),
        (DType::BF16, DType::BF16),
    ];
    for (asked, given) in cases {
        assert_eq!(asked.for_row_len(640), given);
        assert_eq!(asked.for_row_len(512), asked);
    }
    assert_eq!(DType::Q4_K.for_row_len(100), DType::F16);
    assert_eq!(DType::BF16.for_row_len(100), DType::BF16);
}

/// Bound of |dequantize(quantize(x)) - x| for one block, from the step sizes that were stored.
fn bound(dtype: DType, block: &[u8], x: &[f32]) -> f32 {
    let half_at = |at| rounding::f16_value(rounding::read_u16(block, at)).abs();
    let extreme = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    // The stored scale is the ideal one rounded to f16: 2^-11 of it per step away from zero (or half the smallest f16).
    let drift = |steps: f32| (half_at(0) / 1024.0 + 6e-8) * steps;
    match dtype {
        DType::Q8_0 => 0.5 * half_at(0) + drift(127.0),
        // Values near the extreme but of the other sign are clipped: up to a whole step.
        DType::Q5_0 => half_at(0) + drift(16.0),
        DType::Q4_0 => half_at(0) + drift(8.0),
        DType::Q5_1 => 0.5 * half_at(0) + drift(31.0) + extreme / 1024.0 + 6e-8,
        DType::Q4_1 => 0.5 * half_at(0) + drift(15.0) + extreme / 1024.0 + 6e-8,
        // The searched formats may clip on purpose: bounded by the range only; their mean is tested below.
        _ => 2.0 * extreme,
    }
}

proptest! {
    #[test]
    fn errors_stay_within_half_a_step(seed in prop::collection::vec(-1.0f32..1.0, 256), power in -4i32..5) {
        let x: Vec<f32> = seed.iter().map(|v| v * 10f32.powi(power)).collect();
        for (dtype, _) in QUANTIZED {
            let bytes = quantized(dtype, &x);
            let back = dequantized(dtype, &bytes);
            for (b, block) in bytes.chunks(dtype.block_bytes()).enumerate() {
                let range = b * dtype.block_len()..(b + 1) * dtype.block_len();
                let values = &x[range.clone()];
                for i in range {
                    let error = (back[i] - x[i]).abs();
                    let bound = bound(dtype, block, values);
                    prop_assert!(error <= bound, "{dtype}: {} became {}, bound {bound}", x[i], back[i]);
                }
            }
        }
    }

    #[test]
    fn symmetric_formats_are_idempotent(seed in prop::collection::vec(-1.0f32..1.0, 256), power in -2i32..4) {
        let x: Vec<f32> = seed.iter().map(|v| v * 10f32.powi(power)).collect();
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q5_0, DType::Q4_0] {
            let once = quantized(dtype, &x);
            let twice = quantized(dtype, &dequantized(dtype, &once));
            prop_assert_eq!(once, twice, "{}", dtype);
        }
    }

    #[test]
    fn any_bytes_dequantize_and_any_row_quantizes(bytes in prop::collection::vec(any::<u8>(), 210), x in prop::collection::vec(any::<f32>(), 256)) {
        for dtype in DType::ALL {
            dequantized(dtype, &bytes[..bytes.len() / dtype.block_bytes() * dtype.block_bytes()]);
            let _ = quantize_row(dtype, &x, &mut vec![0; dtype.row_bytes(256).unwrap()]);
        }
    }
}

/// Root mean square error of normal values must fall from format to format as their bits rise.
#[test]
fn more_bits_less_error() {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let x: Vec<f32> = (0..256 * 64).map(|_| (0..12).map(|_| uniform()).sum()).collect();
    let rms = |dtype| {
        let back = dequantized(dtype, &quantized(dtype, &x));
        (back.iter().zip(&x).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / x.len() as f64).sqrt()
    };
    let errors = DType::ALL.map(rms);
    let table: Vec<String> =
        DType::ALL.iter().zip(errors).map(|(dtype, error)| format!("{dtype} {error:.5}")).collect();
    for pair in [
        (DType::F32, DType::F16),
        (DType::F16, DType::BF16),
        (DType::BF16, DType::Q8_0),
        (DType::Q8_0, DType::Q6_K),
        (DType::Q6_K, DType::Q5_K),
        (DType::Q5_K, DType::Q5_0),
        (DType::Q5_K, DType::Q4_K),
        (DType::Q4_K, DType::Q4_0),
        (DType::Q5_1, DType::Q4_1),
    ] {
        assert!(rms(pair.0) < rms(pair.1), "{pair:?} of {table:?}");
    }
    assert!(rms(DType::Q4_0) < 0.11, "{table:?}");
}
