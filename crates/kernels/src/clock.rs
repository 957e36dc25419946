//! Where the time goes: nanoseconds by kind of work, counted only when asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What time is spent on: the phases of a training step, and the operations inside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Embedding and layers.
    Forward,
    /// Output head and cross entropy, forward and backward.
    Head,
    /// Layers and embedding, backward.
    Backward,
    /// Norm of the gradient and optimizer.
    Update,
    /// Matrix products, in any phase.
    Products,
    /// Attention of rotated queries, forward and backward.
    Attention,
    /// Norms, rotations, SwiGLU, sums and dropout.
    Elements,
    /// Softmax and loss of logits that are there.
    CrossEntropy,
}

impl Work {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Forward,
        Self::Head,
        Self::Backward,
        Self::Update,
        Self::Products,
        Self::Attention,
        Self::Elements,
        Self::CrossEntropy,
    ];
}

/// Counts time by kind of work. Off until [`start`](Clock::start), and then it costs a look at the time twice an operation.
#[derive(Debug, Default)]
pub struct Clock {
    on: AtomicBool,
    nanoseconds: [AtomicU64; Work::ALL.len()],
}

impl Clock {
    /// Counts from zero, from now on.
    pub fn start(&self) {
        self.nanoseconds.iter().for_each(|count| count.store(0, Ordering::Relaxed));
        self.on.store(true, Ordering::Relaxed);
    }

    /// Time spent on a kind of work since the start, as the thread that calls the operations sees it.
    pub fn spent(&self, work: Work) -> Duration {
        Duration::from_nanos(self.nanoseconds[work as usize].load(Ordering::Relaxed))
    }

    /// Counts until the answer is dropped.
    pub fn count(&self, work: Work) -> Counting<'_> {
        let on = self.on.load(Ordering::Relaxed);
        Counting(on.then(|| (&self.nanoseconds[work as usize], Instant::now())))
    }
}

/// Work that is being counted.
#[must_use]
#[derive(Debug)]
pub struct Counting<'a>(Option<(&'a AtomicU64, Instant)>);

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        if let Some((count, begin)) = self.0 {
            count.fetch_add(begin.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_for_its_kind_once_started() {
        let (clock, pause) = (Clock::default(), Duration::from_millis(3));
        drop(clock.count(Work::Products));
        assert_eq!(clock.spent(Work::Products), Duration::ZERO);
        clock.start();
        for _ in 0..2 {
            let _counting = clock.count(Work::Products);
            std::thread::sleep(pause);
        }
        assert!(clock.spent(Work::Products) >= 2 * pause);
        assert_eq!(clock.spent(Work::Attention), Duration::ZERO);
        clock.start();
        assert_eq!(clock.spent(Work::Products), Duration::ZERO);
    }
}
