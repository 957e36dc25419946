//! Where the bytes of a packed matrix stand: panels, units, heads, planes.
//!
//! A panel is 16 output rows (lanes), zero padded. Along K it is a run of *units*; a unit is a *head* (scales of its
//! blocks, lane by lane) followed by its blocks of 32 values. A block holds 8 *groups*; group `g` of lane `l` is the
//! four consecutive values `4 g ..= 4 g + 3` of row `l`, so a vector of 64 bytes (16 lanes x 4) meets four activation
//! bytes broadcast to all lanes. Integers are stored unsigned, `offset` above their value.
//!
//! | bits | bytes of a block, in order |
//! |---|---|
//! | 4 | 4 vectors of nibbles: vector `i` has group `2 i` low, group `2 i + 1` high |
//! | 5 | 1 vector of fifth bits (bit `g` of a byte belongs to group `g`), then the nibbles |
//! | 6 | 2 vectors of upper bits (bits `2 t, 2 t + 1` of vector `v` belong to group `4 v + t`), then the nibbles |
//! | 8 | 8 vectors, one per group |
//!
//! Q6_K keeps its 4 + 2 planes rather than whole bytes: decoding is bound by memory, which then reads 6.6 bits a value
//! instead of 8.6, and a tile of several rows unpacks once for all of them.
//!
//! | head | bytes |
//! |---|---|
//! | scale per block (Q8_0, Q5_0, Q4_0), unit of 2 blocks | 2 x 16 f16 |
//! | scale and minimum per block (Q5_1, Q4_1), unit of 2 | 2 x 16 f16 scales, 2 x 16 f16 minima |
//! | Q5_K, Q4_K, unit of 8 | 16 f16 d, 16 f16 dmin, 8 x 16 byte scales, 8 x 16 byte minima |
//! | Q6_K, unit of 8 | 16 f16 d, 32 unused, 16 x 16 signed byte scales (two a block) |
//!
//! Every unit is a multiple of 64 bytes, so in an aligned buffer no vector crosses a cache line. The last unit of a
//! panel may have one block less than its room; the rest is zero.

use crate::blocks::DType;

/// Output rows of a panel.
pub(crate) const LANES: usize = 16;
/// Values of a block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of a vector: four values of each lane.
pub(crate) const VECTOR: usize = 64;
/// Bytes of the f16 of all lanes.
pub(crate) const HALVES: usize = 2 * LANES;
/// Where the byte scales start in a head of 256 values.
pub(crate) const BYTE_SCALES: usize = 2 * HALVES;
/// Where the byte minima start in a head of 256 values.
pub(crate) const BYTE_MINS: usize = BYTE_SCALES + 8 * LANES;

/// How a format scales its integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scales {
    /// `d * (q - offset)`.
    Plain,
    /// `d * q + m`.
    WithMin,
    /// `d * scale * q - dmin * min`, per 32.
    SuperWithMin,
    /// `d * scale * (q - offset)`, per 16.
    Super16,
}

/// The packed form of one block format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockLayout {
    /// Bits of an integer: 4, 5, 6 or 8.
    pub bits: u32,
    /// What a stored integer is above its value, as a power of two; `None` for formats with minima.
    pub offset_bits: Option<u32>,
    /// The scales in the head.
    pub scales: Scales,
}

impl BlockLayout {
    const fn new(bits: u32, offset_bits: Option<u32>, scales: Scales) -> Self {
        Self { bits, offset_bits, scales }
    }

    /// Blocks of a unit.
    pub const fn unit_blocks(self) -> usize {
        match self.scales {
            Scales::Plain | Scales::WithMin => 2,
            Scales::SuperWithMin | Scales::Super16 => 8,
        }
    }

    /// Bytes of a unit's head.
    pub const fn head_bytes(self) -> usize {
        match self.scales {
            Scales::Plain => 2 * HALVES,
            Scales::WithMin => 4 * HALVES,
            Scales::SuperWithMin | Scales::Super16 => BYTE_SCALES + 16 * LANES,
        }
    }

    /// Bytes of a block's upper bits.
    pub const fn upper_bytes(self) -> usize {
        match self.bits {
            5 => VECTOR,
            6 => 2 * VECTOR,
            _ => 0,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        self.upper_bytes() + if self.bits == 8 { 8 * VECTOR } else { 4 * VECTOR }
    }

    /// Bytes of a unit.
    pub const fn unit_bytes(self) -> usize {
        self.head_bytes() + self.unit_blocks() * self.block_bytes()
    }

    /// Bytes of a panel of `blocks` blocks.
    pub const fn panel_bytes(self, blocks: usize) -> usize {
        blocks.div_ceil(self.unit_blocks()) * self.unit_bytes()
    }

    /// Whole cache lines that hold a block's share of its unit, for kernels that ask for them ahead.
    #[cfg(not(target_arch = "aarch64"))]
    pub const fn lines_per_block(self) -> usize {
        self.unit_bytes().div_ceil(self.unit_blocks() * VECTOR)
    }

    /// Scales of a block: 2 where they are per 16 values.
    pub const fn scales_per_block(self) -> usize {
        if matches!(self.scales, Scales::Super16) { 2 } else { 1 }
    }

    /// True where a minimum is added.
    pub const fn has_min(self) -> bool {
        matches!(self.scales, Scales::WithMin | Scales::SuperWithMin)
    }
}

/// A packed format known at compile time.
pub(crate) trait Format {
    /// Where its bytes stand.
    const LAYOUT: BlockLayout;
}

/// Declares a format type for each block format, and the layout of each `DType`.
macro_rules! formats {
    ($($name:ident: $bits:literal, $offset:expr, $scales:ident;)*) => {
        $(
            #[doc = concat!("Packed ", stringify!($name), ".")]
            #[allow(non_camel_case_types, reason = "the names by which the field knows these formats")]
            pub(crate) struct $name;

            impl Format for $name {
                const LAYOUT: BlockLayout = BlockLayout::new($bits, $offset, Scales::$scales);
            }
        )*

        /// The layout of a block format; `None` for floats.
        pub(crate) const fn block_layout(dtype: DType) -> Option<BlockLayout> {
            match dtype {
                DType::F32 | DType::F16 | DType::BF16 => None,
                $(DType::$name => Some($name::LAYOUT),)*
            }
        }
    };
}

formats! {
    Q8_0: 8, Some(7), Plain;
    Q5_0: 5, Some(4), Plain;
    Q5_1: 5, None, WithMin;
    Q4_0: 4, Some(3), Plain;
    Q4_1: 4, None, WithMin;
    Q6_K: 6, Some(5), Super16;
    Q5_K: 5, None, SuperWithMin;
    Q4_K: 4, None, SuperWithMin;
}

/// Bytes of a panel of `cols` values a row, a multiple of 64.
pub(crate) fn panel_bytes(dtype: DType, cols: usize) -> usize {
    match block_layout(dtype) {
        Some(layout) => layout.panel_bytes(cols / BLOCK),
        None => cols.saturating_mul(LANES * dtype.block_bytes()).saturating_add(VECTOR - 1) / VECTOR * VECTOR,
    }
}
