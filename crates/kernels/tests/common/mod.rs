//! What the kernel tests share: seeded numbers, small attention problems, comparisons with a stated tolerance.

#![allow(dead_code, reason = "each test program uses a part of it")]

use shakti_kernels::{
    AttentionPlan, AttentionTile, Cpu, KEY_BLOCK, KernelSet, KeyBlock, KvBlocks, KvType, KvView,
};

/// Blocks that a span holds in these problems.
const SPAN_BLOCKS: usize = 2;

/// SplitMix64: the same numbers in every run.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }
}

/// Every kernel set of this CPU on `threads` threads.
pub fn cpus(threads: usize) -> Vec<Cpu> {
    KernelSet::available().iter().map(|set| Cpu::new(set, threads)).collect()
}

/// Fails unless `|got - want| <= absolute + relative * |want|` everywhere.
pub fn assert_close(what: &str, got: &[f32], want: &[f32], absolute: f32, relative: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let same = got == want || (got - want).abs() <= absolute + relative * want.abs();
        assert!(same, "{what}: element {i} is {got}, expected {want}");
    }
}

/// Fails unless the bits are equal.
pub fn assert_same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!(
            got.to_bits() == want.to_bits(),
            "{what}: element {i} is {got:e}, expected the bits of {want:e}"
        );
    }
}

/// An attention problem with its plan and keys in blocks.
pub struct Attention {
    pub plan: AttentionPlan,
    /// Token rows of all sequences.
    pub rows: usize,
    pub lengths: Vec<usize>,
    pub tile_rows: usize,
    /// Blocks at the start of a sequence that every row sees whole.
    pub sinks: usize,
    /// What keys and values are stored as.
    pub kind: KvType,
}

/// The numbers that describe an attention problem.
#[derive(Clone, Copy)]
pub struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub window: Option<usize>,
    pub sinks: usize,
    pub tile_rows: usize,
}

impl Attention {
    /// Causal attention of whole sequences of the given lengths; with a window only the blocks it reaches are listed.
    pub fn new(shape: Shape, lengths: &[usize]) -> Self {
        let Shape { heads, kv_heads, head_dim, window, sinks, tile_rows } = shape;
        let mut plan = AttentionPlan {
            num_heads: heads,
            num_kv_heads: kv_heads,
            head_dim,
            window,
            scale: 1.0 / (head_dim as f32).sqrt(),
            tiles: Vec::new(),
            key_blocks: Vec::new(),
        };
        let mut first_row = 0;
        for (sequence, &len) in lengths.iter().enumerate() {
            for kv_head in 0..kv_heads {
                for start in (0..len).step_by(tile_rows) {
                    let end = len.min(start + tile_rows);
                    let from = plan.key_blocks.len() as u32;
                    let oldest = window.map_or(0, |w| (start + 1).saturating_sub(w));
                    for block in 0..end.div_ceil(KEY_BLOCK) {
                        let unmasked = block < sinks && start >= (block + 1) * KEY_BLOCK;
                        if unmasked || (block + 1) * KEY_BLOCK > oldest {
                            plan.key_blocks.push(KeyBlock {
                                slot: block as u32,
                                first_position: (block * KEY_BLOCK) as i64,
                                num_keys: (len - block * KEY_BLOCK).min(KEY_BLOCK) as u32,
                                unmasked,
                                span: (block / SPAN_BLOCKS) as u32,
                            });
                        }
                    }
                    plan.tiles.push(AttentionTile {
                        first_row: (first_row + start) as u32,
                        num_rows: (end - start) as u32,
                        first_position: start as i64,
                        sequence: sequence as u32,
                        kv_head: kv_head as u32,
                        blocks: from..plan.key_blocks.len() as u32,
                    });
                }
            }
            first_row += len;
        }
        Self { plan, rows: first_row, lengths: lengths.to_vec(), tile_rows, sinks, kind: KvType::F32 }
    }

    /// `k`, `v` `[rows, K, Hd]` in blocks, one array of them per sequence.
    pub fn store(&self, cpu: &Cpu, k: &[f32], v: &[f32]) -> Vec<KvBlocks> {
        let (heads, dim) = (self.plan.num_kv_heads, self.plan.head_dim);
        let mut first = 0;
        let mut stored = Vec::new();
        for &len in &self.lengths {
            let mut blocks = KvBlocks::new(self.kind, len.div_ceil(KEY_BLOCK), heads, dim);
            let part = first * heads * dim..(first + len) * heads * dim;
            let slots: Vec<u32> = (0..len as u32).collect();
            cpu.kv_store(&mut blocks, &k[part.clone()], &v[part], &slots);
            stored.push(blocks);
            first += len;
        }
        stored
    }

    pub fn views<'a>(&self, stored: &'a [KvBlocks]) -> Vec<KvView<'a>> {
        let mut first_row = 0;
        let view = |(blocks, &len): (&'a KvBlocks, &usize)| {
            let view = KvView { blocks, first_row };
            first_row += len;
            view
        };
        stored.iter().zip(&self.lengths).map(view).collect()
    }

    /// `out`, `lse` for `q [rows, H, Hd]`, `k`, `v` `[rows, K, Hd]`.
    pub fn forward(&self, cpu: &Cpu, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let stored = self.store(cpu, k, v);
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; self.rows * self.plan.num_heads]);
        let views = self.views(&stored);
        cpu.attention(&mut out, &mut lse, q, &|sequence| views[sequence], &self.plan);
        (out, lse)
    }
}
