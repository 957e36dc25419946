//! From stored rows to panels and back.

use super::layout::{
    self, BLOCK, BYTE_MINS, BYTE_SCALES, BlockLayout, Format, HALVES, LANES, Scales, VECTOR, block_layout,
};
use crate::blocks::rounding::{bf16_value, f16_value, read_u16};
use crate::blocks::{DType, q4_0, q4_1, q4_k, q5_0, q5_1, q5_k, q6_k, q8_0, six_bits};

/// Values of each lane that are moved before the next lane's, so that the panel is written front to back.
const FLOATS_AT_ONCE: usize = 16;

/// Packs up to 16 stored rows, each of `row_bytes` bytes, into a zeroed panel.
pub(crate) fn pack_panel(dtype: DType, rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    match dtype {
        DType::F32 => pack_floats::<4>(rows, row_bytes, panel),
        DType::F16 | DType::BF16 => pack_floats::<2>(rows, row_bytes, panel),
        DType::Q8_0 => pack_blocks::<layout::Q8_0, _, _>(rows, row_bytes, panel, |b| {
            q8_0::integers(b).map(|q| q as u8 ^ 128)
        }),
        DType::Q5_0 => pack_blocks::<layout::Q5_0, _, _>(rows, row_bytes, panel, q5_0::integers),
        DType::Q5_1 => pack_blocks::<layout::Q5_1, _, _>(rows, row_bytes, panel, q5_1::integers),
        DType::Q4_0 => pack_blocks::<layout::Q4_0, _, _>(rows, row_bytes, panel, q4_0::integers),
        DType::Q4_1 => pack_blocks::<layout::Q4_1, _, _>(rows, row_bytes, panel, q4_1::integers),
        DType::Q6_K => pack_blocks::<layout::Q6_K, _, _>(rows, row_bytes, panel, q6_k::integers),
        DType::Q5_K => pack_blocks::<layout::Q5_K, _, _>(rows, row_bytes, panel, q5_k::integers),
        DType::Q4_K => pack_blocks::<layout::Q4_K, _, _>(rows, row_bytes, panel, q4_k::integers),
    }
}

/// Packs rows of floats of `WIDTH` bytes.
fn pack_floats<const WIDTH: usize>(rows: &[u8], row_bytes: usize, panel: &mut [u8]) {
    let (values, _) = panel.as_chunks_mut::<WIDTH>();
    for (at, part) in values.chunks_mut(FLOATS_AT_ONCE * LANES).enumerate() {
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let row = &row.as_chunks::<WIDTH>().0[at * FLOATS_AT_ONCE..];
            for (place, value) in part.chunks_exact_mut(LANES).zip(row) {
                place[lane] = *value;
            }
        }
    }
}

/// Packs rows of blocks of `LEN` values and `BYTES` bytes.
fn pack_blocks<F: Format, const LEN: usize, const BYTES: usize>(
    rows: &[u8],
    row_bytes: usize,
    panel: &mut [u8],
    integers: impl Fn(&[u8; BYTES]) -> [u8; LEN],
) {
    let layout = F::LAYOUT;
    for i in 0..row_bytes / BYTES {
        let first = i * (LEN / BLOCK);
        let unit = &mut panel[first / layout.unit_blocks() * layout.unit_bytes()..][..layout.unit_bytes()];
        let (head, blocks) = unit.split_at_mut(layout.head_bytes());
        let first = first % layout.unit_blocks();
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            let block = &row.as_chunks::<BYTES>().0[i];
            put_scales(layout, block, lane, first, head);
            for (j, q) in integers(block).as_chunks::<BLOCK>().0.iter().enumerate() {
                let at = (first + j) * layout.block_bytes();
                put_integers(layout, q, lane, &mut blocks[at..][..layout.block_bytes()]);
            }
        }
    }
}

/// Writes 32 unsigned integers of a lane into its places of a packed block.
#[inline(always)]
fn put_integers(layout: BlockLayout, q: &[u8; BLOCK], lane: usize, block: &mut [u8]) {
    let groups: [u32; 8] = std::array::from_fn(|g| u32::from_le_bytes(std::array::from_fn(|c| q[4 * g + c])));
    let mut put = |vector: usize, word: u32| {
        block[VECTOR * vector + 4 * lane..][..4].copy_from_slice(&word.to_le_bytes());
    };
    if layout.bits == 8 {
        return groups.into_iter().enumerate().for_each(|(g, word)| put(g, word));
    }
    let upper = layout.upper_bytes() / VECTOR;
    for (i, pair) in groups.as_chunks::<2>().0.iter().enumerate() {
        put(upper + i, (pair[0] & 0x0f0f_0f0f) | ((pair[1] & 0x0f0f_0f0f) << 4));
    }
    let (per_byte, width, mask) = if layout.bits == 5 { (8, 1, 0x0101_0101) } else { (4, 2, 0x0303_0303) };
    for vector in 0..upper {
        let words = groups[per_byte * vector..][..per_byte].iter().enumerate();
        put(vector, words.fold(0, |sum, (t, word)| sum | (((word >> 4) & mask) << (width * t))));
    }
}

/// The 32 unsigned integers of a lane of a packed block.
pub(crate) fn get_integers(layout: BlockLayout, lane: usize, block: &[u8]) -> [u8; BLOCK] {
    let get = |vector: usize, g: usize, c: usize| (block[VECTOR * vector + 4 * lane + c], g);
    let upper = layout.upper_bytes() / VECTOR;
    std::array::from_fn(|i| {
        let (g, c) = (i / 4, i % 4);
        if layout.bits == 8 {
            return get(g, g, c).0;
        }
        let low = get(upper + g / 2, g, c).0 >> (4 * (g % 2)) & 15;
        match layout.bits {
            5 => low | ((get(0, g, c).0 >> g & 1) << 4),
            6 => low | ((get(g / 4, g, c).0 >> (2 * (g % 4)) & 3) << 4),
            _ => low,
        }
    })
}

/// Writes the scales that a stored block carries; `slot` is its (first) block of 32 in the unit.
fn put_scales(layout: BlockLayout, block: &[u8], lane: usize, slot: usize, head: &mut [u8]) {
    let mut put_half = |at: usize, half: u16| {
        head[HALVES * at + 2 * lane..][..2].copy_from_slice(&half.to_le_bytes());
    };
    match layout.scales {
        Scales::Plain => put_half(slot, read_u16(block, 0)),
        Scales::WithMin => {
            put_half(slot, read_u16(block, 0));
            put_half(2 + slot, read_u16(block, 2));
        }
        Scales::SuperWithMin => {
            put_half(0, read_u16(block, 0));
            put_half(1, read_u16(block, 2));
            let (scales, mins) = six_bits(block);
            for s in 0..8 {
                head[BYTE_SCALES + LANES * s + lane] = scales[s];
                head[BYTE_MINS + LANES * s + lane] = mins[s];
            }
        }
        Scales::Super16 => {
            if let Ok(block) = block.try_into() {
                put_half(0, q6_k::super_scale(block));
                for (s, scale) in q6_k::scales(block).into_iter().enumerate() {
                    head[BYTE_SCALES + LANES * s + lane] = scale as u8;
                }
            }
        }
    }
}

/// The scale of part `part` (0, or 0 and 1 where scales are per 16) of block `slot` of a unit, for one lane.
pub(crate) fn scale(layout: BlockLayout, head: &[u8], slot: usize, part: usize, lane: usize) -> f32 {
    let half = |at: usize| f16_value(read_u16(head, HALVES * at + 2 * lane));
    match layout.scales {
        Scales::Plain | Scales::WithMin => half(slot),
        Scales::SuperWithMin => half(0) * f32::from(head[BYTE_SCALES + LANES * slot + lane]),
        Scales::Super16 => half(0) * f32::from(head[BYTE_SCALES + LANES * (2 * slot + part) + lane] as i8),
    }
}

/// What is added to every value of block `slot` of a unit, for one lane.
pub(crate) fn minimum(layout: BlockLayout, head: &[u8], slot: usize, lane: usize) -> f32 {
    let half = |at: usize| f16_value(read_u16(head, HALVES * at + 2 * lane));
    match layout.scales {
        Scales::Plain | Scales::Super16 => 0.0,
        Scales::WithMin => half(2 + slot),
        Scales::SuperWithMin => -(half(1) * f32::from(head[BYTE_MINS + LANES * slot + lane])),
    }
}

/// The values of one lane of a panel, the same bits as dequantizing the stored row.
pub(super) fn unpack_lane(dtype: DType, panel: &[u8], lane: usize, out: &mut [f32]) {
    let Some(layout) = block_layout(dtype) else {
        for (k, v) in out.iter_mut().enumerate() {
            *v = float_at(dtype, panel, k, lane);
        }
        return;
    };
    let offset = layout.offset_bits.map_or(0.0, |bits| (1u32 << bits) as f32);
    for (index, values) in out.chunks_exact_mut(BLOCK).enumerate() {
        let (unit, slot) = (index / layout.unit_blocks(), index % layout.unit_blocks());
        let unit = &panel[unit * layout.unit_bytes()..][..layout.unit_bytes()];
        let (head, blocks) = unit.split_at(layout.head_bytes());
        let q = get_integers(layout, lane, &blocks[slot * layout.block_bytes()..]);
        let min = minimum(layout, head, slot, lane);
        let part_len = BLOCK / layout.scales_per_block();
        for (part, (values, q)) in values.chunks_mut(part_len).zip(q.chunks(part_len)).enumerate() {
            let scale = scale(layout, head, slot, part, lane);
            for (v, q) in values.iter_mut().zip(q) {
                let scaled = scale * (f32::from(*q) - offset);
                *v = if layout.has_min() { scaled + min } else { scaled };
            }
        }
    }
}

/// Value `k` of a lane of a float panel.
pub(crate) fn float_at(dtype: DType, panel: &[u8], k: usize, lane: usize) -> f32 {
    let at = (k * LANES + lane) * dtype.block_bytes();
    match dtype {
        DType::F32 => f32::from_le_bytes([panel[at], panel[at + 1], panel[at + 2], panel[at + 3]]),
        DType::F16 => f16_value(read_u16(panel, at)),
        _ => bf16_value(read_u16(panel, at)),
    }
}
