//! One rank's part of a step: which micro-batches it computes, the sums of gradients on their way, what it owns.

use shakti_model::{Layout, LossSum, Parameters};

use crate::optimizer::Optimizer;
use crate::ranks::{Bucket, Pending, Ranks, buckets};

/// The ranks of a run, and how its parameters are shared out among them.
pub(crate) struct Parallel<'a> {
    ranks: &'a dyn Ranks,
    buckets: Vec<Bucket>,
}

/// The sums of one step on their way, by bucket.
#[derive(Default)]
pub(crate) struct Sums(Vec<(usize, Pending)>);

impl<'a> Parallel<'a> {
    /// For what is trained.
    pub fn new(ranks: &'a dyn Ranks, layout: &Layout) -> Self {
        Self { ranks, buckets: buckets(layout, ranks.size()) }
    }

    /// Whether this is the rank that writes.
    pub fn leads(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Rank 0's number.
    pub fn first(&self, number: f64) -> f64 {
        self.ranks.gather(&[number])[0]
    }

    /// Whether this rank computes a micro-batch of a step.
    pub fn computes(&self, micro: usize) -> bool {
        micro % self.ranks.size() == self.ranks.rank()
    }

    /// Whether this rank updates a parameter.
    pub fn owns(&self, index: usize) -> bool {
        self.owner(index) == self.ranks.rank()
    }

    fn owner(&self, index: usize) -> usize {
        let bucket = self.buckets.iter().find(|bucket| bucket.specs.contains(&index));
        bucket.map_or(0, |bucket| bucket.owner)
    }

    /// Begins the sums of a layer's gradients, which are complete.
    pub fn begin(&self, sums: &mut Sums, layer: usize, grads: &Parameters) {
        self.begin_those(sums, grads, |bucket| bucket.layer == Some(layer));
    }

    fn begin_those(&self, sums: &mut Sums, grads: &Parameters, wanted: impl Fn(&Bucket) -> bool) {
        for (index, bucket) in self.buckets.iter().enumerate().filter(|(_, bucket)| wanted(bucket)) {
            let values = grads.data[bucket.values.clone()].to_vec();
            sums.0.push((index, self.ranks.reduce(values, bucket.owner)));
        }
    }

    /// Sums what stands around the layers too and waits for all; `grads` then holds the sums that this rank owns.
    pub fn finish(&self, mut sums: Sums, grads: &mut Parameters) {
        self.begin_those(&mut sums, grads, |bucket| bucket.layer.is_none());
        for (index, pending) in sums.0 {
            let (bucket, sum) = (&self.buckets[index], pending.wait());
            if bucket.owner == self.ranks.rank() {
                grads.data[bucket.values.clone()].copy_from_slice(&sum);
            }
        }
    }

    /// The loss of all ranks.
    pub fn loss(&self, own: LossSum) -> LossSum {
        let all = self.sum(&[own.nats, own.weight]);
        LossSum { nats: all[0], weight: all[1] }
    }

    /// Sums everybody's numbers in the order of the ranks.
    pub fn sum(&self, own: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; own.len()];
        for numbers in self.ranks.gather(own).chunks_exact(own.len().max(1)) {
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
        }
        sums
    }

    /// Sends the updated parameters to all.
    pub fn share(&self, params: &mut Parameters) {
        for bucket in &self.buckets {
            self.ranks.broadcast(&mut params.data[bucket.values.clone()], bucket.owner);
        }
    }

    /// Brings the optimizer's whole state to rank 0, for a checkpoint that any number of ranks can go on from; the others
    /// keep their own part.
    pub fn collect(&self, optimizer: &mut Optimizer, layout: &Layout) {
        for (index, spec) in layout.specs().iter().enumerate() {
            let owner = self.owner(index);
            if owner == 0 {
                continue;
            }
            let own = (self.ranks.rank() == owner).then(|| optimizer.state_bytes_of(index, spec));
            let bytes = self.ranks.send_to_first(own.unwrap_or_default(), owner);
            if self.ranks.rank() == 0 {
                optimizer.take_state(index, spec, &bytes);
            }
        }
    }
}
