//! The formats of 32 values under one f16 scale, or a scale and a minimum.

use super::{Weighted, fit};
use crate::blocks::rounding::{f16_bits, f16_value, reciprocal_or_zero};
use crate::blocks::{q4_0, q4_1, q5_0, q5_1, q8_0};

fn as_f16(v: f32) -> f32 {
    f16_value(f16_bits(v))
}

/// The searched scale as stored, and the integers under it.
fn symmetric(values: &Weighted<'_, 32>, bounds: (f32, f32)) -> (f32, [i8; 32]) {
    let d = as_f16(fit::symmetric(values, bounds, as_f16));
    (d, fit::round(values.x, (reciprocal_or_zero(d), 0.0), bounds).map(|q| q as i8))
}

fn unsigned(q: [i8; 32], zero: i8) -> [u8; 32] {
    q.map(|q| (q + zero) as u8)
}

pub(super) fn q8_0(values: &Weighted<'_, 32>, block: &mut [u8; q8_0::BYTES]) {
    let (d, q) = symmetric(values, (-127.0, 127.0));
    q8_0::store(block, d, &q);
}

pub(super) fn q5_0(values: &Weighted<'_, 32>, block: &mut [u8; q5_0::BYTES]) {
    let (d, q) = symmetric(values, (-16.0, 15.0));
    q5_0::store(block, d, &unsigned(q, 16));
}

pub(super) fn q4_0(values: &Weighted<'_, 32>, block: &mut [u8; q4_0::BYTES]) {
    let (d, q) = symmetric(values, (-8.0, 7.0));
    q4_0::store(block, d, &unsigned(q, 8));
}

/// The searched scale and minimum as stored, and the integers under them.
fn affine(values: &Weighted<'_, 32>, levels: f32) -> ((f32, f32), [u8; 32]) {
    let (scale, min) = fit::affine(values, levels, f32::INFINITY);
    let stored = (as_f16(scale), as_f16(min));
    let q = fit::round(values.x, (reciprocal_or_zero(stored.0), stored.1), (0.0, levels));
    (stored, q.map(|q| q as u8))
}

pub(super) fn q5_1(values: &Weighted<'_, 32>, block: &mut [u8; q5_1::BYTES]) {
    let (fit, q) = affine(values, 31.0);
    q5_1::store(block, fit, &q);
}

pub(super) fn q4_1(values: &Weighted<'_, 32>, block: &mut [u8; q4_1::BYTES]) {
    let (fit, q) = affine(values, 15.0);
    q4_1::store(block, fit, &q);
}
