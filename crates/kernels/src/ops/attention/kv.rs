//! Keys and values in blocks of 64: keys transposed inside a block, so that both products of attention run along
//! contiguous memory.

use super::super::{check_len, elements};
use crate::buffers::{Buffer, Buffers};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use crate::floats::kernel;
use half::f16;
use std::ops::{Deref, DerefMut, Range};

/// Keys in one block.
pub const KEY_BLOCK: usize = 64;

/// Values that share a scale in [`KvType::Q8_0`]: as many dimensions of one head.
pub(crate) const KV_GROUP: usize = 32;

/// What the numbers of a cache are stored as. Serving takes f16 if nothing else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KvType {
    /// 32-bit floats: what training uses.
    F32,
    /// 16-bit floats; what is too large becomes the largest finite one.
    #[default]
    F16,
    /// 8-bit integers with a 16-bit scale for every 32 dimensions of a head.
    Q8_0,
}

impl KvType {
    /// All types, most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Q8_0];

    /// The name in options and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
        }
    }

    /// Bytes of `values` numbers of heads whose size is a multiple of 32.
    pub fn bytes(self, values: u64) -> u64 {
        match self {
            Self::F32 => 4 * values,
            Self::F16 => 2 * values,
            Self::Q8_0 => values + 2 * values.div_ceil(KV_GROUP as u64),
        }
    }
}

/// Keys and values stored alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pair<T> {
    pub k: T,
    pub v: T,
}

impl<T: Copy + Default> Pair<Vec<T>> {
    fn zeros(len: usize) -> Self {
        Self { k: vec![T::default(); len], v: vec![T::default(); len] }
    }
}

impl<T: Copy, C: DerefMut<Target = [T]>> Pair<C> {
    fn copy(&mut self, from: &Self, part: Range<usize>) {
        self.k[part.clone()].copy_from_slice(&from.k[part.clone()]);
        self.v[part.clone()].copy_from_slice(&from.v[part]);
    }

    fn disjoint(&mut self) -> Pair<Disjoint<'_, T>> {
        Pair { k: Disjoint::new(&mut self.k), v: Disjoint::new(&mut self.v) }
    }
}

/// The numbers of a cache or of a part of it; `I`, `H` and `F` hold integers, halves and floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stored<F, H, I> {
    F32(Pair<F>),
    F16(Pair<H>),
    /// Scales `[.., G, 64]`, with `G` groups of 32 dimensions.
    Q8_0 {
        values: Pair<I>,
        scales: Pair<H>,
    },
}

/// What a kernel reads.
pub(crate) type StoredRef<'a> = Stored<&'a [f32], &'a [f16], &'a [i8]>;

/// Keys (after rotation) and values of one layer of one sequence: keys `[K, num_blocks, Hd, 64]`, values
/// `[K, num_blocks, 64, Hd]`. Slots that were never written hold zeros.
#[derive(Debug)]
pub struct KvBlocks {
    stored: Stored<Buffer, Vec<f16>, Vec<i8>>,
    num_blocks: usize,
    num_kv_heads: usize,
    head_dim: usize,
}

impl KvBlocks {
    /// Zeros. The system gives memory when a block is first written.
    pub fn new(kind: KvType, num_blocks: usize, num_kv_heads: usize, head_dim: usize) -> Self {
        let len = num_kv_heads * num_blocks * head_dim * KEY_BLOCK;
        let num_scales = num_kv_heads * num_blocks * head_dim.div_ceil(KV_GROUP) * KEY_BLOCK;
        let stored = match kind {
            // Nothing was lent before, so these are zeros.
            KvType::F32 => Stored::F32(floats(&Buffers::default(), len)),
            KvType::F16 => Stored::F16(Pair::zeros(len)),
            KvType::Q8_0 => Stored::Q8_0 { values: Pair::zeros(len), scales: Pair::zeros(num_scales) },
        };
        Self { stored, num_blocks, num_kv_heads, head_dim }
    }

    /// 32-bit floats for `len` keys, in memory that `buffers` lend: what training needs for one step after the other.
    pub fn lent(buffers: &Buffers, len: usize, num_kv_heads: usize, head_dim: usize) -> Self {
        let num_blocks = len.div_ceil(KEY_BLOCK);
        let mut pair = floats(buffers, num_kv_heads * num_blocks * head_dim * KEY_BLOCK);
        if !len.is_multiple_of(KEY_BLOCK) {
            // Keys that are never written are multiplied by zero, so they must be finite.
            for heads in [&mut pair.k, &mut pair.v] {
                let last = head_dim * KEY_BLOCK;
                heads
                    .chunks_exact_mut(num_blocks * last)
                    .for_each(|head| head[(num_blocks - 1) * last..].fill(0.0));
            }
        }
        Self { stored: Stored::F32(pair), num_blocks, num_kv_heads, head_dim }
    }

    /// The same numbers in the first `used` slots of every head, zeros in the others, for which the system gives no memory
    /// before they are written.
    ///
    /// # Panics
    /// If there are fewer slots.
    pub fn copy_of(&self, used: usize) -> Self {
        let mut copy = Self::new(self.kind(), self.num_blocks, self.num_kv_heads, self.head_dim);
        let numbers = |head| self.used(head, used, self.head_dim);
        let groups = |head| self.used(head, used, self.head_dim.div_ceil(KV_GROUP));
        for head in 0..self.num_kv_heads {
            match (&mut copy.stored, &self.stored) {
                (Stored::F32(to), Stored::F32(from)) => to.copy(from, numbers(head)),
                (Stored::F16(to), Stored::F16(from)) => to.copy(from, numbers(head)),
                (Stored::Q8_0 { values, scales }, Stored::Q8_0 { values: from, scales: of }) => {
                    values.copy(from, numbers(head));
                    scales.copy(of, groups(head));
                }
                _ => unreachable!("the copy has the same type"),
            }
        }
        copy
    }

    /// Where the first `used` slots of a head stand.
    fn used(&self, head: usize, used: usize, width: usize) -> Range<usize> {
        assert!(used <= self.num_blocks, "{used} of {} blocks", self.num_blocks);
        let start = self.span(head, width).start;
        start..start + used * width * KEY_BLOCK
    }

    /// What the numbers are stored as.
    pub fn kind(&self) -> KvType {
        match self.stored {
            Stored::F32(_) => KvType::F32,
            Stored::F16(_) => KvType::F16,
            Stored::Q8_0 { .. } => KvType::Q8_0,
        }
    }

    /// Blocks of each head.
    pub fn num_blocks(&self) -> usize {
        self.num_blocks
    }

    /// K.
    pub fn num_kv_heads(&self) -> usize {
        self.num_kv_heads
    }

    /// Hd.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        match &self.stored {
            Stored::F32(pair) => 4 * (pair.k.len() + pair.v.len()),
            Stored::F16(pair) => 2 * (pair.k.len() + pair.v.len()),
            Stored::Q8_0 { values, scales } => {
                values.k.len() + values.v.len() + 2 * (scales.k.len() + scales.v.len())
            }
        }
    }

    /// The keys and values of one head.
    pub(crate) fn head(&self, head: usize) -> StoredRef<'_> {
        let numbers = self.span(head, self.head_dim);
        let scales = self.span(head, self.head_dim.div_ceil(KV_GROUP));
        match &self.stored {
            Stored::F32(pair) => Stored::F32(part(pair, &numbers)),
            Stored::F16(pair) => Stored::F16(part(pair, &numbers)),
            Stored::Q8_0 { values, scales: of } => {
                Stored::Q8_0 { values: part(values, &numbers), scales: part(of, &scales) }
            }
        }
    }

    /// Where a head stands, with `width` rows of 64 in each of its blocks.
    fn span(&self, head: usize, width: usize) -> Range<usize> {
        elements(&(head..head + 1), self.num_blocks * width * KEY_BLOCK)
    }
}

fn floats(buffers: &Buffers, len: usize) -> Pair<Buffer> {
    Pair { k: buffers.take(len), v: buffers.take(len) }
}

fn part<'a, T, C: Deref<Target = [T]>>(pair: &'a Pair<C>, span: &Range<usize>) -> Pair<&'a [T]> {
    Pair { k: &pair.k[span.clone()], v: &pair.v[span.clone()] }
}

/// Keys and values of one layer of one sequence, to be read.
#[derive(Debug, Clone, Copy)]
pub struct KvView<'a> {
    /// The numbers.
    pub blocks: &'a KvBlocks,
    /// For the backward pass: row of position 0 in `dk` and `dv`.
    pub first_row: usize,
}

/// The keys and values of each sequence of a call, by its number.
pub type KvViews<'f, 'a> = &'f (dyn Fn(usize) -> KvView<'a> + Sync);

/// Up to 32 dimensions of one row, converted; returns their scale where the type has one.
type Convert<'a, T> = &'a (dyn Fn(&mut [T], &[f32]) -> f16 + Sync);

impl Cpu {
    /// Stores row `i` of `k` and `v` in slot `slots[i]` (= block * 64 + place in the block) of every head.
    ///
    /// # Shapes
    /// `k [n, K, Hd]`, `v [n, K, Hd]`, `slots [n]`.
    ///
    /// # Panics
    /// If a slot is not below `num_blocks * 64` or a shape does not fit.
    pub fn kv_store(&self, blocks: &mut KvBlocks, k: &[f32], v: &[f32], slots: &[u32]) {
        let shape = Shape { heads: blocks.num_kv_heads, blocks: blocks.num_blocks, dim: blocks.head_dim };
        check_len("kv_store: k", k, slots.len() * shape.heads * shape.dim);
        check_len("kv_store: v", v, slots.len() * shape.heads * shape.dim);
        let from = Pair { k, v };
        match &mut blocks.stored {
            Stored::F32(to) => self.store(shape, to.disjoint(), None, (from, slots), &|to, x| {
                to.copy_from_slice(x);
                f16::ZERO
            }),
            Stored::F16(to) => self.store(shape, to.disjoint(), None, (from, slots), &|to, x| {
                kernel!(self, to_f16(to, x));
                f16::ZERO
            }),
            Stored::Q8_0 { values, scales } => {
                let (values, scales) = (values.disjoint(), scales.disjoint());
                self.store(shape, values, Some(scales), (from, slots), &|to, x| kernel!(self, to_q8(to, x)));
            }
        }
    }

    fn store<T: Copy + Default + Send>(
        &self,
        shape: Shape,
        to: Pair<Disjoint<'_, T>>,
        scales: Option<Pair<Disjoint<'_, f16>>>,
        (from, slots): (Pair<&[f32]>, &[u32]),
        convert: Convert<'_, T>,
    ) {
        let Shape { heads, blocks, dim } = shape;
        let span = |head: usize, width: usize| elements(&(head..head + 1), blocks * width * KEY_BLOCK);
        // Handing out heads pays off only for a good many rows (prefill, training).
        self.for_rows(heads, slots.len() * dim, &|part| {
            for head in part {
                // SAFETY: each head belongs to one task.
                let (k, v) = unsafe { (to.k.part(span(head, dim)), to.v.part(span(head, dim))) };
                let scales = scales.as_ref().map(|scales| {
                    let span = || span(head, dim.div_ceil(KV_GROUP));
                    // SAFETY: each head belongs to one task.
                    unsafe { Pair { k: scales.k.part(span()), v: scales.v.part(span()) } }
                });
                let mut head_blocks = HeadBlocks { to: Pair { k, v }, scales, dim };
                for (i, &slot) in slots.iter().enumerate() {
                    let row = elements(&(i * heads + head..i * heads + head + 1), dim);
                    let from = Pair { k: &from.k[row.clone()], v: &from.v[row] };
                    head_blocks.store(slot as usize, from, convert);
                }
            }
        });
    }
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    blocks: usize,
    dim: usize,
}

/// The blocks of one head, being written.
struct HeadBlocks<'a, T> {
    to: Pair<&'a mut [T]>,
    scales: Option<Pair<&'a mut [f16]>>,
    dim: usize,
}

impl<T: Copy + Default> HeadBlocks<'_, T> {
    /// Stores one key and one value, `[Hd]` each.
    fn store(&mut self, slot: usize, from: Pair<&[f32]>, convert: Convert<'_, T>) {
        let (dim, groups) = (self.dim, self.dim.div_ceil(KV_GROUP));
        let (block, place) = (slot / KEY_BLOCK, slot % KEY_BLOCK);
        let k_block = &mut self.to.k[block * dim * KEY_BLOCK..][..dim * KEY_BLOCK];
        let v_row = &mut self.to.v[slot * dim..][..dim];
        let mut converted = [T::default(); KV_GROUP];
        for group in 0..groups {
            let part = group * KV_GROUP..dim.min((group + 1) * KV_GROUP);
            let converted = &mut converted[..part.len()];
            let k_scale = convert(converted, &from.k[part.clone()]);
            for (lane, &value) in k_block.chunks_exact_mut(KEY_BLOCK).skip(part.start).zip(&*converted) {
                lane[place] = value;
            }
            let v_scale = convert(&mut v_row[part.clone()], &from.v[part]);
            if let Some(scales) = &mut self.scales {
                let at = (block * groups + group) * KEY_BLOCK + place;
                (scales.k[at], scales.v[at]) = (k_scale, v_scale);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel_set::KernelSet;

    #[test]
    fn a_copy_holds_the_slots_in_use_and_zeros() {
        let cpu = Cpu::new(KernelSet::available()[0], 1);
        let (heads, dim, slots) = (2, 40, 4);
        for kind in KvType::ALL {
            let mut blocks = KvBlocks::new(kind, slots, heads, dim);
            let places: Vec<u32> = (0..(slots * KEY_BLOCK) as u32).collect();
            let values: Vec<f32> = (0..places.len() * heads * dim).map(|i| 1.0 + (i % 97) as f32).collect();
            cpu.kv_store(&mut blocks, &values, &values, &places);
            // What would be there if the first slots alone had been written.
            for used in 0..=slots {
                let mut expected = KvBlocks::new(kind, slots, heads, dim);
                let (places, values) =
                    (&places[..used * KEY_BLOCK], &values[..used * KEY_BLOCK * heads * dim]);
                cpu.kv_store(&mut expected, values, values, places);
                assert_eq!(blocks.copy_of(used).stored, expected.stored, "{used} slots of {}", kind.name());
            }
        }
    }
}
