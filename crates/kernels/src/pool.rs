//! The one thread pool: threads that spin while work keeps coming and sleep when it does not.
//!
//! A training step or a token is thousands of short parallel regions, and waking a sleeping thread costs as much
//! as streaming several hundred kilobytes of weights. So a worker that ran out of work first spins, then gives its
//! core away between looks, and only then sleeps on a condition variable, where it costs nothing.
//!
//! The caller of [`ThreadPool::run`] always takes part and never waits for a worker that has not started: if the
//! machine is busy and a worker gets no core, the others simply take its tasks.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Looks for new work with a pause instruction in between: some tens of microseconds.
const SPINS: usize = 2_000;
/// How long after that it looks with the core given away in between, before it sleeps. A time and not a number of
/// looks, because on a busy machine each of them may take milliseconds.
const YIELD_TIME: Duration = Duration::from_millis(1);

/// The job accepts workers.
const OPEN: u64 = 1 << 31;
/// Workers inside the job (low bits of the state).
const ACTIVE: u64 = OPEN - 1;
/// Where the number of the job starts.
const EPOCH_SHIFT: u32 = 32;

/// A fixed number of threads that run numbered tasks.
///
/// Which thread runs a task is not fixed; callers that want the same bits for any number of threads make the
/// tasks independent of that number and of each other.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// The function of the job being run, with its lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    function: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

struct Shared {
    /// Number of the job, [`OPEN`], and the count of workers inside it.
    state: AtomicU64,
    /// Written only by the caller that holds `busy`, while no worker is inside a job.
    job: UnsafeCell<Option<Job>>,
    /// The first task nobody has taken.
    next: AtomicUsize,
    /// A job is running; a second one (nested, or from another thread) runs on its caller alone.
    busy: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is the only part that is not already shareable. It is written between two jobs, when the count of
// workers inside is zero, and read only by workers that entered the job (compare-exchange on `state`, acquire).
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` refers to a `Sync` function that outlives the job (see `ThreadPool::run`).
unsafe impl Send for Shared {}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

impl ThreadPool {
    /// A pool in which `threads` threads work, the caller of [`run`](Self::run) being one of them (0 counts as 1).
    ///
    /// If the system refuses a thread the pool has fewer; [`threads`](Self::threads) says how many.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let spawn = |index: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name(format!("shakti-{index}"))
                .spawn(move || shared.work_until_stopped())
                .ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Self { shared, workers }
    }

    /// How many threads work on a job, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `function` once for every index below `tasks` and returns when all calls have returned.
    ///
    /// A call from inside a task, or while another thread runs a job, works on the calling thread alone.
    ///
    /// # Panics
    /// If a task panics, the tasks nobody has started are dropped and the first panic continues in the caller.
    pub fn run(&self, tasks: usize, function: &(dyn Fn(usize) + Sync)) {
        let alone = tasks <= 1 || self.workers.is_empty();
        if alone || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(function);
            return;
        }
        self.shared.publish(function, tasks);
        self.shared.wake_sleepers((tasks - 1).min(self.workers.len()));
        self.shared.run_tasks(function, tasks);
        self.shared.close();
        let panic = lock(&self.shared.panic).take();
        self.shared.busy.store(false, Ordering::Release);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake_sleepers(self.workers.len());
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks, so there is none to report here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Opens a job. The caller holds `busy`.
    fn publish(&self, function: &(dyn Fn(usize) + Sync), tasks: usize) {
        let function: *const (dyn Fn(usize) + Sync + '_) = function;
        // SAFETY: only the lifetime changes. `run` does not return before `close` has seen the last worker leave,
        // so nobody calls the function after the borrow ends.
        let function = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync)>(function)
        };
        // SAFETY: the caller holds `busy` and the last job was closed with no worker inside, so nobody reads it.
        unsafe { *self.job.get() = Some(Job { function, tasks }) };
        self.next.store(0, Ordering::Relaxed);
        let epoch = (self.state.load(Ordering::Relaxed) >> EPOCH_SHIFT).wrapping_add(1);
        self.state.store((epoch << EPOCH_SHIFT) | OPEN, Ordering::SeqCst);
    }

    fn wake_sleepers(&self, count: usize) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            (0..count).for_each(|_| self.wake.notify_one());
        }
    }

    /// Takes tasks until none is left; keeps the first panic.
    fn run_tasks(&self, function: &(dyn Fn(usize) + Sync), tasks: usize) {
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let task = self.next.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    break;
                }
                function(task);
            }
        }));
        if let Err(payload) = result {
            self.next.store(tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(payload);
        }
    }

    /// Lets no further worker in and waits for those inside.
    fn close(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut looks = 0;
        while self.state.load(Ordering::Acquire) & ACTIVE != 0 {
            pause(&mut looks);
        }
    }

    /// The life of a worker.
    fn work_until_stopped(&self) {
        let mut seen = 0;
        while let Some(state) = self.wait_for_job(seen) {
            let entered =
                self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if !entered {
                continue;
            }
            seen = state >> EPOCH_SHIFT;
            // SAFETY: this worker is inside the job, so its owner waits in `run` and does not write.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: for the same reason `run` has not returned and the function it borrows lives.
                self.run_tasks(unsafe { &*job.function }, job.tasks);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// The state of an open job other than `seen`, or `None` when the pool is dropped.
    fn wait_for_job(&self, seen: u64) -> Option<u64> {
        let mut looks = 0;
        while looks < SPINS {
            if let Some(answer) = self.look(seen) {
                return answer;
            }
            pause(&mut looks);
        }
        let tired = Instant::now() + YIELD_TIME;
        while Instant::now() < tired {
            if let Some(answer) = self.look(seen) {
                return answer;
            }
            std::thread::yield_now();
        }
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let answer = loop {
            if let Some(answer) = self.look(seen) {
                break answer;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// `Some(None)`: stop. `Some(Some(state))`: a new job is open. `None`: nothing to do.
    fn look(&self, seen: u64) -> Option<Option<u64>> {
        if self.stop.load(Ordering::SeqCst) {
            return Some(None);
        }
        let state = self.state.load(Ordering::SeqCst);
        (state & OPEN != 0 && state >> EPOCH_SHIFT != seen).then_some(Some(state))
    }
}

/// One look in vain: pauses at first, gives the core away after [`SPINS`] of them.
fn pause(looks: &mut usize) {
    *looks += 1;
    if *looks < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
