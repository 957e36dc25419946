//! Packing of full panels with the vectors of an instruction set: words of 16 stored rows are transposed, then all
//! lanes are rearranged at once.
//!
//! No closures here: they would be compiled without the instructions of the set.

use super::layout::{
    self, BLOCK, BYTE_MINS, BYTE_SCALES, BlockLayout, Format, HALVES, LANES, Scales, VECTOR,
};
use super::pack::pack_panel;
use crate::blocks::{DType, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0};

/// A 32-bit word of each of the 16 lanes of a panel.
///
/// All functions need the instructions of the set that the type belongs to.
pub(crate) trait Words: Copy {
    /// Sixteen consecutive bytes of each of 16 rows, as words: word `j` of row `l` in lane `l` of vector `j`.
    ///
    /// # Safety
    /// 16 bytes lie at `first + l * row_bytes` for every `l` below 16.
    unsafe fn load(first: *const u8, row_bytes: usize) -> [Self; 4];

    /// Writes the words lane by lane.
    ///
    /// # Safety
    /// 64 bytes at `to` may be written.
    unsafe fn store(self, to: *mut u8);

    /// Writes the low half of each word, lane by lane.
    ///
    /// # Safety
    /// 32 bytes at `to` may be written.
    unsafe fn store_halves(self, to: *mut u8);

    /// Writes the lowest byte of each word, lane by lane, then the second bytes, the third, the fourth.
    ///
    /// # Safety
    /// 64 bytes at `to` may be written.
    unsafe fn store_bytes(self, to: *mut u8);

    /// Every word and `mask`.
    unsafe fn and(self, mask: u32) -> Self;

    /// Every word or the other's.
    unsafe fn or(self, other: Self) -> Self;

    /// Every word exclusive or `mask`.
    unsafe fn xor(self, mask: u32) -> Self;

    /// Every word shifted to the left.
    unsafe fn shl(self, bits: u32) -> Self;

    /// Every word shifted to the right.
    unsafe fn shr(self, bits: u32) -> Self;
}

/// The low four bits of each byte.
const NIBBLES: u32 = 0x0f0f_0f0f;
/// The lowest bit of each byte.
const ONES: u32 = 0x0101_0101;
/// The low two bits of each byte.
const PAIRS: u32 = 0x0303_0303;
/// The low six bits of each byte.
const SIXES: u32 = 0x3f3f_3f3f;
/// The sign of each byte.
const SIGNS: u32 = 0x8080_8080;

/// What [`pack_panel`] does, for a full panel with the vectors `W`.
///
/// # Safety
/// The instructions of `W`.
#[inline(always)]
pub(crate) unsafe fn pack_with<W: Words>(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    let full = rows.len() == LANES * row_bytes
        && panel.len() == layout::panel_bytes(dtype, values(dtype, row_bytes));
    if !full {
        return pack_panel(dtype, rows, row_bytes, panel);
    }
    let (from, to) = (rows.as_ptr(), panel.as_mut_ptr());
    let row = Row { first: from, row_bytes };
    // SAFETY: there are 16 rows of `row_bytes` bytes, and the panel has the bytes of the layout.
    unsafe {
        match dtype {
            DType::F32 => floats::<W, 4>(row, to),
            DType::F16 | DType::BF16 => floats::<W, 2>(row, to),
            DType::Q8_0 => short_blocks::<W, layout::Q8_0, { q8_0::BYTES }>(row, to),
            DType::Q5_0 => short_blocks::<W, layout::Q5_0, { q5_0::BYTES }>(row, to),
            DType::Q5_1 => short_blocks::<W, layout::Q5_1, { q5_1::BYTES }>(row, to),
            DType::Q4_0 => short_blocks::<W, layout::Q4_0, { q4_0::BYTES }>(row, to),
            DType::Q4_1 => short_blocks::<W, layout::Q4_1, { q4_1::BYTES }>(row, to),
            DType::Q6_K => long_blocks::<W, layout::Q6_K, { q6_k::BYTES }>(row, to),
            DType::Q5_K => long_blocks::<W, layout::Q5_K, { q5_k::BYTES }>(row, to),
            DType::Q4_K => long_blocks::<W, layout::Q4_K, { q4_k::BYTES }>(row, to),
        }
    }
}

/// Values of a row of so many bytes.
fn values(dtype: DType, row_bytes: usize) -> usize {
    row_bytes / dtype.block_bytes() * dtype.block_len()
}

/// 16 stored rows from some byte on.
#[derive(Clone, Copy)]
struct Row {
    /// That byte of the first row.
    first: *const u8,
    /// Bytes from row to row.
    row_bytes: usize,
}

impl Row {
    /// Asks for a share of the 16 rows behind these, which are packed next: as many bytes as `bytes` bytes of each of these
    /// rows from `at` on are. A core that reads 16 rows at a time sees no stream that it would run ahead of.
    #[inline(always)]
    fn ask_ahead(self, at: usize, bytes: usize) {
        let next = self.first.wrapping_add(LANES * (self.row_bytes + at));
        for offset in (0..LANES * bytes).step_by(VECTOR) {
            prefetch(next.wrapping_add(offset));
        }
    }

    /// The rows from `bytes` bytes further on.
    #[inline(always)]
    fn at(self, bytes: usize) -> Self {
        Self { first: self.first.wrapping_add(bytes), ..self }
    }

    /// The next four words.
    ///
    /// # Safety
    /// The instructions of `W`; 16 bytes of each row lie there.
    #[inline(always)]
    unsafe fn load<W: Words>(self) -> [W; 4] {
        // SAFETY: the caller's promise.
        unsafe { W::load(self.first, self.row_bytes) }
    }

    /// The next eight words.
    ///
    /// # Safety
    /// The instructions of `W`; 32 bytes of each row lie there.
    #[inline(always)]
    unsafe fn load_block<W: Words>(self) -> [W; 8] {
        // SAFETY: the caller's promise.
        let [[a, b, c, d], [e, f, g, h]] = unsafe { [self.load(), self.at(16).load()] };
        [a, b, c, d, e, f, g, h]
    }
}

/// Asks for a cache line.
#[inline(always)]
fn prefetch(at: *const u8) {
    // SAFETY: a prefetch of any address has no effect but on the cache.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Packs rows of floats of `WIDTH` bytes.
///
/// # Safety
/// The instructions of `W`; 16 rows, and a panel for them at `to`.
#[inline(always)]
unsafe fn floats<W: Words, const WIDTH: usize>(row: Row, to: *mut u8) {
    let whole = row.row_bytes / 16 * 16;
    for at in (0..whole).step_by(16) {
        row.ask_ahead(at, 16);
        // SAFETY: 16 bytes of each row; `16 / WIDTH` values further are `16 * LANES` bytes further in the panel.
        unsafe {
            let words: [W; 4] = row.at(at).load();
            let to = to.add(at * LANES);
            for (j, word) in words.into_iter().enumerate() {
                if WIDTH == 4 {
                    word.store(to.add(VECTOR * j));
                } else {
                    word.store_halves(to.add(VECTOR * j));
                    word.shr(16).store_halves(to.add(VECTOR * j + HALVES));
                }
            }
        }
    }
    for at in (whole..row.row_bytes).step_by(WIDTH) {
        for lane in 0..LANES {
            // SAFETY: a value of a row and its place in the panel.
            unsafe {
                let value = row.first.add(lane * row.row_bytes + at);
                std::ptr::copy_nonoverlapping(value, to.add(at * LANES + lane * WIDTH), WIDTH);
            }
        }
    }
}

/// Packs rows of blocks of 32 values and `BYTES` bytes: d, then the minimum, then fifth bits, then integers.
///
/// # Safety
/// The instructions of `W`; 16 rows, and a panel for them at `to`.
#[inline(always)]
unsafe fn short_blocks<W: Words, F: Format, const BYTES: usize>(row: Row, to: *mut u8) {
    let layout = F::LAYOUT;
    for b in 0..row.row_bytes / BYTES {
        row.ask_ahead(b * BYTES, BYTES);
        let (block, slot) = (row.at(b * BYTES), b % layout.unit_blocks());
        let unit = to.wrapping_add(b / layout.unit_blocks() * layout.unit_bytes());
        let fifth_bits = if layout.has_min() { 4 } else { 2 };
        let integers = fifth_bits + if layout.bits == 5 { 4 } else { 0 };
        // SAFETY: the integers of a block are its last 16 or 32 bytes; all stores are in the unit of the block.
        unsafe {
            let [start, ..]: [W; 4] = block.load();
            start.store_halves(unit.add(HALVES * slot));
            if layout.has_min() {
                start.shr(16).store_halves(unit.add(HALVES * (2 + slot)));
            }
            let mut groups = [start; 8];
            if layout.bits == 8 {
                let words: [W; 8] = block.at(integers).load_block();
                for g in 0..8 {
                    groups[g] = words[g].xor(SIGNS);
                }
            } else {
                let words: [W; 4] = block.at(integers).load();
                let [fifth, ..]: [W; 4] = block.at(fifth_bits).load();
                for g in 0..8 {
                    groups[g] = words[g % 4].shr(4 * (g as u32 / 4)).and(NIBBLES);
                    if layout.bits == 5 {
                        groups[g] = join(groups[g], spread(fifth.shr(4 * g as u32)));
                    }
                }
            }
            store_block(layout, groups, unit.add(layout.head_bytes() + slot * layout.block_bytes()));
        }
    }
}

/// The lowest four bits of each word as the lowest bits of its bytes.
///
/// # Safety
/// The instructions of `W`.
#[inline(always)]
unsafe fn spread<W: Words>(bits: W) -> W {
    // SAFETY: the caller's promise.
    unsafe {
        let bits = bits.and(15);
        bits.or(bits.shl(7)).or(bits.shl(14)).or(bits.shl(21)).and(ONES)
    }
}

/// Packs rows of blocks of 256 values and `BYTES` bytes.
///
/// # Safety
/// The instructions of `W`; 16 rows, and a panel for them at `to`.
#[inline(always)]
unsafe fn long_blocks<W: Words, F: Format, const BYTES: usize>(row: Row, to: *mut u8) {
    for b in 0..row.row_bytes / BYTES {
        row.ask_ahead(b * BYTES, BYTES);
        let (row, unit) = (row.at(b * BYTES), to.wrapping_add(b * F::LAYOUT.unit_bytes()));
        // SAFETY: the blocks of the rows, and the unit that they become.
        unsafe {
            match F::LAYOUT.scales {
                Scales::Super16 => q6_k::<W>(row, unit),
                _ => affine_k::<W, F>(row, unit),
            }
        }
    }
}

/// `low` with the upper bits of each integer above its four.
///
/// # Safety
/// The instructions of `W`.
#[inline(always)]
unsafe fn join<W: Words>(low: W, upper: W) -> W {
    // SAFETY: the caller's promise.
    unsafe { low.and(NIBBLES).or(upper.shl(4)) }
}

/// Packs a Q4_K or Q5_K block of 16 rows: d and dmin, 12 bytes of scales and minima, fifth bits, nibbles.
///
/// # Safety
/// The instructions of `W`; blocks at `row` and a unit at `unit`.
#[inline(always)]
unsafe fn affine_k<W: Words, F: Format>(row: Row, unit: *mut u8) {
    let layout = F::LAYOUT;
    // SAFETY: all loads are inside the blocks, all stores inside the unit.
    unsafe {
        let [d, low, high, both]: [W; 4] = row.load();
        d.store_halves(unit);
        d.shr(16).store_halves(unit.add(HALVES));
        low.and(SIXES).store_bytes(unit.add(BYTE_SCALES));
        join(both, low.shr(6).and(PAIRS)).store_bytes(unit.add(BYTE_SCALES + 4 * LANES));
        high.and(SIXES).store_bytes(unit.add(BYTE_MINS));
        join(both.shr(4), high.shr(6).and(PAIRS)).store_bytes(unit.add(BYTE_MINS + 4 * LANES));
        let fifth: [W; 8] = row.at(16).load_block();
        let nibbles = if layout.bits == 5 { 48 } else { 16 };
        for slot in 0..8 {
            let words: [W; 8] = row.at(nibbles + slot / 2 * BLOCK).load_block();
            let mut groups = words;
            for g in 0..8 {
                groups[g] = words[g].shr(4 * (slot as u32 % 2)).and(NIBBLES);
                if layout.bits == 5 {
                    groups[g] = join(groups[g], fifth[g].shr(slot as u32).and(ONES));
                }
            }
            store_block(layout, groups, unit.add(layout.head_bytes() + slot * layout.block_bytes()));
        }
    }
}

/// Packs a Q6_K block of 16 rows: 128 bytes of nibbles, 64 of upper bits, 16 scales, d.
///
/// # Safety
/// The instructions of `W`; blocks at `row` and a unit at `unit`.
#[inline(always)]
unsafe fn q6_k<W: Words>(row: Row, unit: *mut u8) {
    let layout = layout::Q6_K::LAYOUT;
    // SAFETY: all loads are inside the blocks, all stores inside the unit.
    unsafe {
        // The last 16 bytes of the block end with d.
        let [.., last]: [W; 4] = row.at(q6_k::BYTES - 16).load();
        last.shr(16).store_halves(unit);
        let scales: [W; 4] = row.at(192).load();
        for (j, word) in scales.into_iter().enumerate() {
            word.store_bytes(unit.add(BYTE_SCALES + 4 * LANES * j));
        }
        for slot in 0..8 {
            let (half, quarter) = (slot / 4, slot % 4);
            let low: [W; 8] = row.at(64 * half + BLOCK * (quarter % 2)).load_block();
            let upper: [W; 8] = row.at(128 + BLOCK * half).load_block();
            let (low_shift, upper_shift) = (4 * (quarter as u32 / 2), 2 * quarter as u32);
            let mut groups = low;
            for g in 0..8 {
                groups[g] = join(low[g].shr(low_shift), upper[g].shr(upper_shift).and(PAIRS));
            }
            store_block(layout, groups, unit.add(layout.head_bytes() + slot * layout.block_bytes()));
        }
    }
}

/// Writes the 8 groups of 32 unsigned integers of every lane as a packed block.
///
/// # Safety
/// The instructions of `W`; a block of the layout at `block` may be written.
#[inline(always)]
unsafe fn store_block<W: Words>(layout: BlockLayout, groups: [W; 8], block: *mut u8) {
    // SAFETY: the vectors of the block.
    unsafe {
        if layout.bits == 8 {
            for (g, word) in groups.into_iter().enumerate() {
                word.store(block.add(VECTOR * g));
            }
            return;
        }
        let upper = layout.upper_bytes() / VECTOR;
        let (per_byte, width, mask) = if layout.bits == 5 { (8, 1, ONES) } else { (4, 2, PAIRS) };
        for vector in 0..upper {
            let first = per_byte * vector;
            let mut sum = groups[first].shr(4).and(mask);
            for t in 1..per_byte {
                sum = sum.or(groups[first + t].shr(4).and(mask).shl((width * t) as u32));
            }
            sum.store(block.add(VECTOR * vector));
        }
        for i in 0..4 {
            let pair = groups[2 * i].and(NIBBLES).or(groups[2 * i + 1].and(NIBBLES).shl(4));
            pair.store(block.add(VECTOR * (upper + i)));
        }
    }
}
