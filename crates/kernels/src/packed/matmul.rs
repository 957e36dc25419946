//! `y = x w^T` with packed weights: how the work is split.
//!
//! Every output is computed by one task in a fixed order over K, so the split changes no bits.

use super::kernels::Task;
use super::{Activations, PackedMatrix, TILE_WORDS};
use crate::cpu::Cpu;
use crate::disjoint::Disjoint;
use std::cell::RefCell;

thread_local! {
    /// The quantized activations of the calling thread, kept so that a call allocates nothing once it has grown.
    pub(super) static SCRATCH: RefCell<Activations> = RefCell::default();
}

/// Bytes of weights that are worth a task of their own when one tile holds all rows.
const DECODE_BYTES: usize = 1 << 15;
/// Bytes of activations that stay in a core's second-level cache while panels pass by.
const ROWS_BYTES: usize = 1 << 19;
/// Most panels of a task when there are many rows.
const PREFILL_PANELS: usize = 16;

/// Single panels that are worth a task together.
const PANELS_PER_TASK: usize = 8;

/// How one matrix is cut into tasks.
#[derive(Clone, Copy)]
struct Cut {
    panels: usize,
    panel_tasks: usize,
    tiles: usize,
    tiles_per_task: usize,
}

impl Cut {
    fn new(w: &PackedMatrix, x: &Activations, threads: usize) -> Self {
        let (panels, tiles) = (w.panels(), x.tiles().count());
        // Four tasks a thread leave room for a thread that is late; as many for each thread if all are on time.
        let most = 4 * threads;
        let (panel_tasks, tiles_per_task) = if tiles <= 1 {
            let worth = w.num_bytes().div_ceil(DECODE_BYTES);
            (worth.next_multiple_of(threads).min(most), 1)
        } else {
            let tile_bytes = 4 * TILE_WORDS * x.tiles().range(0).len() * w.cols() / 32;
            let tiles_per_task = (ROWS_BYTES / tile_bytes.max(1)).clamp(1, tiles);
            (most.max(panels.div_ceil(PREFILL_PANELS)), tiles_per_task)
        };
        Self { panels, panel_tasks: panel_tasks.clamp(1, panels.max(1)), tiles, tiles_per_task }
    }

    fn tasks(&self) -> usize {
        self.panel_tasks * self.tiles.div_ceil(self.tiles_per_task)
    }

    /// The part that is task `index`: neighbours share rows.
    fn task<'a>(&self, index: usize, w: &'a PackedMatrix, x: &'a Activations, y: *mut f32) -> Task<'a> {
        let panel = |part: usize| self.panels * part / self.panel_tasks;
        let part = index % self.panel_tasks;
        let tile = index / self.panel_tasks * self.tiles_per_task;
        Task {
            w: w.all(),
            x,
            panels: panel(part)..panel(part + 1),
            tiles: tile..(tile + self.tiles_per_task).min(self.tiles),
            y,
        }
    }
}

impl Cpu {
    /// `y [M, N] = x [M, K] w [N, K]^T`.
    ///
    /// For block formats `x` is quantized to int8 per 32 values. Per output and block in order of K: the exact integer
    /// sum, then `acc = fma(sum, scale_w * scale_x, acc)` and, where the format has minima, `acc = fma(min_w,
    /// scale_x * sum_x, acc)`; per 16 values for Q6_K. For float formats `acc = fma(w, x, acc)` over k. So a row's
    /// result is the same bits alone or in a batch, for any number of threads and, where all instructions fuse
    /// alike, for every kernel set.
    ///
    /// # Panics
    /// If the lengths do not fit: `x.len() = M * w.cols()`, `y.len() = M * w.rows()`.
    pub fn matmul_packed(&self, y: &mut [f32], x: &[f32], w: &PackedMatrix) {
        self.matmul_packed_many(&mut [(y, w)], x);
    }

    /// [`matmul_packed`](Self::matmul_packed) of several weights with the same `x [M, K]`, which is quantized once;
    /// all threads work through all weights without a pause in between.
    ///
    /// # Panics
    /// If lengths do not fit, or the weights differ in `cols`.
    pub fn matmul_packed_many(&self, outputs: &mut [(&mut [f32], &PackedMatrix)], x: &[f32]) {
        let Some(cols) = outputs.first().map(|(_, w)| w.cols()) else { return };
        if x.is_empty() {
            return outputs.iter_mut().for_each(|(y, _)| y.fill(0.0));
        }
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} values in rows of {cols}", x.len());
        for (y, w) in outputs.iter() {
            assert_eq!(w.cols(), cols, "columns of {w:?}");
            assert_eq!(y.len(), x.len() / cols * w.rows(), "length of the output of {w:?}");
        }
        let mut scratch = SCRATCH.take();
        let any = |quantized| outputs.iter().any(|(_, w)| w.dtype().is_quantized() == quantized);
        scratch.prepare(self, x, cols, any(true), any(false));
        outputs.chunks_mut(GROUP).for_each(|group| self.run_packed(group, &scratch));
        SCRATCH.set(scratch);
    }

    /// The outputs of some panels of `w` for one row `x [K]`; the others stay as they are.
    pub(super) fn matmul_packed_panels(&self, y: &mut [f32], x: &[f32], w: &PackedMatrix, panels: &[u32]) {
        let mut scratch = SCRATCH.take();
        let quantized = w.dtype().is_quantized();
        scratch.prepare(self, x, w.cols(), quantized, !quantized);
        let y = Disjoint::new(y);
        let x = &scratch;
        self.for_ranges(panels.len(), PANELS_PER_TASK, &|_, part| {
            for &panel in &panels[part] {
                let panel = panel as usize;
                let task = Task { w: w.all(), x, panels: panel..panel + 1, tiles: 0..1, y: y.as_mut_ptr() };
                // SAFETY: a `KernelSet` exists only where its instructions do; `y` has a value for each row of `w` (the
                // caller asserts it), and no panel is named twice.
                unsafe { (self.kernels.packed.matmul)(&task) };
            }
        });
        SCRATCH.set(scratch);
    }

    /// Runs up to [`GROUP`] matrices in one parallel region.
    fn run_packed(&self, outputs: &mut [(&mut [f32], &PackedMatrix)], x: &Activations) {
        let threads = self.pool.threads();
        let mut outputs = outputs.iter_mut();
        let parts: [Option<Part<'_>>; GROUP] = std::array::from_fn(|_| {
            let (y, w) = outputs.next()?;
            Some(Part { y: Disjoint::new(y), w, cut: Cut::new(w, x, threads) })
        });
        let tasks = parts.iter().flatten().map(|part| part.cut.tasks()).sum();
        self.pool.run(tasks, &|mut index| {
            for Part { y, w, cut } in parts.iter().flatten() {
                if index < cut.tasks() {
                    let task = cut.task(index, w, x, y.as_mut_ptr());
                    // SAFETY: a `KernelSet` exists only where its instructions do; `y` has M * N values (asserted by
                    // the caller) and tasks of one matrix cover different columns or rows.
                    return unsafe { (self.kernels.packed.matmul)(&task) };
                }
                index -= cut.tasks();
            }
        });
    }
}

/// Matrices of one parallel region; more are run one group after the other.
const GROUP: usize = 8;

/// One matrix of a parallel region.
struct Part<'a> {
    y: Disjoint<'a, f32>,
    w: &'a PackedMatrix,
    cut: Cut,
}
