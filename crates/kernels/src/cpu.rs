//! The handle through which every operation runs: a kernel set and the threads it runs on.

use crate::buffers::Buffers;
use crate::clock::Clock;
use crate::error::Error;
use crate::kernel_set::KernelSet;
use crate::pool::ThreadPool;

/// As many threads as the system offers this process cores: fewer than the machine has where the process may run on
/// some of them only, or where a container limits its CPU time (cgroups; a part of a core does not count).
pub fn offered_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

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
    /// Where the time goes.
    pub clock: Clock,
}

impl Cpu {
    /// A handle that uses `kernels` on `threads` threads.
    pub fn new(kernels: &'static KernelSet, threads: usize) -> Self {
        Self { kernels, pool: ThreadPool::new(threads), buffers: Buffers::default(), clock: Clock::default() }
    }

    /// A handle that uses `kernels` on `threads` threads, but on no more than [`offered_threads`]: threads beyond would take
    /// the cores from those in the middle of a task, for which all others then wait.
    pub fn offered(kernels: &'static KernelSet, threads: usize) -> Self {
        Self::new(kernels, threads.min(offered_threads()))
    }

    /// The best kernel set of this CPU (or the one `SHAKTI_KERNELS` names), on [`offered`](Self::offered) threads: `threads`
    /// of them, or all.
    ///
    /// # Errors
    /// If `SHAKTI_KERNELS` names a set that does not exist or that this CPU cannot run.
    pub fn detect(threads: Option<usize>) -> Result<Self, Error> {
        Ok(Self::offered(KernelSet::best()?, threads.unwrap_or(usize::MAX)))
    }
}
