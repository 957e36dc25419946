//! The handle through which every operation runs: a kernel set and the threads it runs on.

use crate::buffers::Buffers;
use crate::error::Error;
use crate::kernel_set::KernelSet;
use crate::pool::ThreadPool;

/// A kernel set with a thread pool; every operation is a method.
///
/// For one kernel set every operation gives the same bits for any number of threads.
///
/// Operations take flat row-major slices. A shape that does not fit is an error of the program, not of its input,
/// and panics with both sizes.
#[derive(Debug)]
pub struct Cpu {
    /// The functions that do the arithmetic.
    pub kernels: &'static KernelSet,
    /// The threads that share the work.
    pub pool: ThreadPool,
    /// Scratch memory for what comes between operations.
    pub buffers: Buffers,
}

impl Cpu {
    /// A handle that uses `kernels` on `threads` threads.
    pub fn new(kernels: &'static KernelSet, threads: usize) -> Self {
        Self { kernels, pool: ThreadPool::new(threads), buffers: Buffers::default() }
    }

    /// The best kernel set of this CPU (or the one `SHAKTI_KERNELS` names), on `threads` threads or as many as the
    /// system offers.
    ///
    /// # Errors
    /// If `SHAKTI_KERNELS` names a set that does not exist or that this CPU cannot run.
    pub fn detect(threads: Option<usize>) -> Result<Self, Error> {
        let offered = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self::new(KernelSet::best()?, threads.unwrap_or_else(offered)))
    }
}
