//! Data parallel training: what processes ("ranks") tell each other, and who keeps which part of the optimizer.
//!
//! Every rank holds the weights and computes gradients of its share of a step's micro-batches. The parameters are cut into
//! buckets (a layer each; what stands around the layers besides). As soon as the backward pass has finished a bucket, its
//! gradients are on their way to the bucket's owner, while the pass goes on. The owner alone keeps the optimizer's state of
//! it (ZeRO stage 1, arXiv 1910.02054), updates it, and sends the new weights to all.
//!
//! Sums are taken in the order of the ranks, so the same number of ranks gives the same bits.

#[cfg(feature = "mpi")]
pub mod mpi;

use std::ops::Range;
use std::sync::mpsc;

use shakti_model::Layout;

/// Processes that train together. Every rank makes the same calls in the same order.
pub trait Ranks: Sync {
    /// Number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Begins the sum of everybody's `values`, element by element in the order of the ranks; `root` gets it, the others
    /// get nothing. Returns at once.
    fn reduce(&self, values: Vec<f32>, root: usize) -> Pending;

    /// Everybody gets `root`'s values.
    fn broadcast(&self, values: &mut [f32], root: usize);

    /// Everybody gets everybody's numbers, in the order of the ranks; each gives as many.
    fn gather(&self, numbers: &[f64]) -> Vec<f64>;

    /// Rank 0 gets `from`'s bytes, the others nothing; only `from`'s argument matters.
    fn send_to_first(&self, bytes: Vec<u8>, from: usize) -> Vec<u8>;
}

/// A sum on its way.
#[derive(Debug)]
pub struct Pending(pub mpsc::Receiver<Vec<f32>>);

impl Pending {
    /// Waits for it: the sum at its root, an empty list elsewhere.
    ///
    /// # Panics
    /// If what carries the messages ended.
    pub fn wait(self) -> Vec<f32> {
        self.0.recv().expect("the ranks' messages go on until the last sum")
    }
}

/// A part of the parameters that travels together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The layer it belongs to.
    pub layer: Option<usize>,
    /// Its parameters in state-dict order.
    pub specs: Range<usize>,
    /// Its place among all values.
    pub values: Range<usize>,
    /// The rank that keeps its optimizer state.
    pub owner: usize,
}

/// Cuts parameters into buckets: one for each layer, one for each stretch between them. The largest go first, each to
/// the rank that owns least.
pub(crate) fn buckets(layout: &Layout, size: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for (index, spec) in layout.specs().iter().enumerate() {
        let values = layout.range(index);
        let layer = layer_of(&spec.name);
        match buckets.last_mut().filter(|bucket| bucket.layer == layer) {
            Some(bucket) => (bucket.specs.end, bucket.values.end) = (index + 1, values.end),
            None => buckets.push(Bucket { layer, specs: index..index + 1, values, owner: 0 }),
        }
    }
    let mut order: Vec<usize> = (0..buckets.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(buckets[*index].values.len()));
    let mut owned = vec![0; size];
    for index in order {
        let owner = (0..size).min_by_key(|rank| owned[*rank]).unwrap_or(0);
        owned[owner] += buckets[index].values.len();
        buckets[index].owner = owner;
    }
    buckets
}

/// The layer that a parameter belongs to.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}
