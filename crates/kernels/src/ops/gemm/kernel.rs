//! What an instruction set brings to the blocked product: how panels are packed and a tile is multiplied.

/// A part of a matrix to be packed: element `(lane, k)` is `data[lane * lane_stride + k * k_stride]`. A lane is a row
/// of `A` or a column of `B`.
#[derive(Clone, Copy)]
pub(crate) struct PackSource {
    pub data: *const f32,
    pub lane_stride: usize,
    pub k_stride: usize,
    pub lanes: usize,
    pub depth: usize,
}

/// Packs panels of `width` lanes one after the other, with zeros for lanes and depth that are missing.
///
/// # Safety
/// All elements of the source can be read; the panels fill the slice exactly.
pub(crate) type PackFn = unsafe fn(&mut [u32], width: usize, &PackSource);

/// Where a tile of `C` goes.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Words of each lane in the panels.
    pub words: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// Rows of the tile that lie inside `C`, at most those of a panel of `A`.
    pub rows: usize,
    /// Columns of the tile that lie inside `C`; the panel of `B` is as wide, rounded up to `lanes`.
    pub cols: usize,
    /// Add to `C` instead of overwriting it.
    pub accumulate: bool,
    /// What the tiles after this one read, as far as it is this one's share to ask for it.
    pub ahead: Ahead,
}

/// Cache lines to ask for. The panels of `B` were packed by all threads, and fetching a line that another core has written takes
/// far longer than multiplying with it.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    /// The first, or one behind the last.
    pub line: *const u32,
    pub count: usize,
}

/// Words of a cache line.
pub(crate) const LINE_WORDS: usize = 16;

/// Multiplies a panel of `A` with one of `B`.
///
/// # Safety
/// The panels hold `tile.words` words for each of their lanes; the rows and columns of the tile can be read and
/// written, by this thread alone; `enter` was called on this thread.
pub(crate) type TileFn = unsafe fn(a: *const u32, b: *const u32, tile: &Tile);

/// The parts of a blocked product for one instruction set and precision.
pub(crate) struct PackedGemm {
    /// Lanes of a panel of `A`.
    pub rows: usize,
    /// Lanes of a full panel of `B`.
    pub cols: usize,
    /// The last panel of `B` may be narrower: a multiple of this.
    pub lanes: usize,
    /// Words of one lane for a block of K of this length, padding and scales included.
    pub words: fn(usize) -> usize,
    /// The longest block of K: a panel of `B` of this length fits the L1 cache.
    pub block_k: usize,
    pub pack_a: PackFn,
    pub pack_b: PackFn,
    pub tile: TileFn,
    /// Called on a thread before its first tile of a task, and after the last one.
    pub enter: unsafe fn(),
    pub leave: unsafe fn(),
}

/// Nothing to do before or after tiles.
pub(crate) fn no_state() {}

impl PackedGemm {
    /// Words of one lane for a block of K.
    pub(super) fn words_of(&self, depth: usize) -> usize {
        (self.words)(depth)
    }

    /// The lanes that panels of `B` for `cols` columns have together.
    pub(super) fn padded_cols(&self, cols: usize) -> usize {
        cols.next_multiple_of(self.lanes)
    }

    /// Panels of `B` for `cols` columns. A panel of one vector is slow (each factor of a row serves one product), so where
    /// that would be left, it shares with the last full panel.
    pub(super) fn panels(&self, cols: usize) -> Panels {
        let (full, rest) = (cols / self.cols, self.padded_cols(cols % self.cols));
        if rest == self.lanes && full > 0 && self.cols > 2 * self.lanes {
            let shared = (self.cols + rest) / 2;
            let narrow = shared.next_multiple_of(self.lanes);
            return Panels { wide: full - 1, width: self.cols, narrow, count: full + 1 };
        }
        Panels { wide: full, width: self.cols, narrow: rest, count: full + usize::from(rest > 0) }
    }
}

/// How columns are cut into panels: some wide ones, then narrow ones, the last of which may have less.
pub(super) struct Panels {
    pub wide: usize,
    width: usize,
    pub narrow: usize,
    pub count: usize,
}

impl Panels {
    /// First column of a panel.
    pub(super) fn start(&self, panel: usize) -> usize {
        let wide = panel.min(self.wide);
        wide * self.width + (panel - wide) * self.narrow
    }

    /// Columns of a panel, as far as there are any.
    pub(super) fn width(&self, panel: usize) -> usize {
        if panel < self.wide { self.width } else { self.narrow }
    }
}
