//! The decoder's forward pass that remembers, and the backward pass.

use std::ops::Range;

use shakti_kernels::{Buffer, RopeAngles, Work};

use crate::ModelError;
use crate::decoder::{Batch, Decoder};
use crate::kv_cache::KvCache;
use crate::layers::attention::{self, AttentionTape, Sequences};
use crate::layers::mlp::{self, MlpTape};
use crate::layers::norm::{self, NormStats};
use crate::layers::{Compute, Dropout};
use crate::loss::{LayerFinished, TrainPass};
use crate::params::Gradients;
use crate::weights::Weights;

/// Everything the backward pass needs of one forward pass.
pub(crate) struct Tape {
    rows: Vec<Range<usize>>,
    angles: RopeAngles,
    layers: Vec<LayerTape>,
    x: Buffer,
    stats: NormStats,
    dropout: Option<Dropout>,
}

/// What is remembered of one layer.
enum LayerTape {
    /// Its input `[N, D]`; the rest is computed again when the backward pass comes to it.
    Input(Buffer),
    /// All that its backward pass needs.
    Whole(Box<(AttentionTape, Vec<KvCache>, MlpTape)>),
}

/// What stays the same from layer to layer of one pass.
struct Pass<'a> {
    decoder: &'a Decoder,
    compute: Compute<'a>,
    weights: &'a Weights<'a>,
    sequences: Sequences<'a>,
    dropout: Option<Dropout>,
}

impl Decoder {
    /// The forward pass from empty caches, with dropout, kept for [`Decoder::backward`]: hidden states `[N, D]`
    /// and the tape.
    ///
    /// # Errors
    /// As [`Decoder::forward`].
    pub(crate) fn forward_train(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        batch: Batch<'_>,
        pass: TrainPass,
    ) -> Result<(Buffer, Tape), ModelError> {
        self.check(batch)?;
        let _counting = compute.cpu.clock.count(Work::Forward);
        let probability = self.config().hidden_dropout;
        let dropout = (probability > 0.0).then_some(Dropout { probability, seed: pass.dropout_seed });
        let angles = self.angles(compute.cpu, batch.rows, std::iter::repeat(0));
        let sequences = self.sequences(batch.rows, &angles);
        let mut x = self.embed(compute, weights, batch.tokens);
        let run = Pass { decoder: self, compute, weights, sequences, dropout };
        let layers =
            (0..weights.num_layers()).map(|layer| run.forward(layer, &mut x, pass.recompute)).collect();
        let (hidden, stats) = norm::forward(compute.cpu, &weights.norm(), &x, self.config().norm_eps);
        Ok((hidden, Tape { rows: batch.rows.to_vec(), angles, layers, x, stats, dropout }))
    }

    /// Adds the gradients of all that is trained but the head to `grads`, from the gradient of the hidden states
    /// `dhidden [N, D]`. What the tape holds of a layer is given back when the layer is done.
    pub(crate) fn backward(
        &self,
        compute: Compute<'_>,
        weights: &Weights<'_>,
        (tape, tokens): (Tape, &[u32]),
        dhidden: Buffer,
        (grads, finished): (&mut Gradients<'_>, LayerFinished<'_>),
    ) {
        let Tape { rows, angles, mut layers, x, stats, dropout } = tape;
        let _counting = compute.cpu.clock.count(Work::Backward);
        let places = weights.places();
        let mut dx = compute.cpu.buffers.zeros(dhidden.len());
        norm::backward(compute.cpu, &weights.norm(), places.norm, (&mut dx, &dhidden), (&x, &stats), grads);
        drop((x, stats, dhidden));
        let sequences = self.sequences(&rows, &angles);
        let run = Pass { decoder: self, compute, weights, sequences, dropout };
        while let Some(tape) = layers.pop() {
            run.backward(layers.len(), tape, &mut dx, grads);
            finished(layers.len(), grads.all());
        }
        if let Some(dtable) = grads.model(places.embed.weight) {
            compute.cpu.embedding_backward(dtable, &dx, tokens);
        }
    }
}

impl Pass<'_> {
    /// One layer, in place.
    fn forward(&self, layer: usize, x: &mut Buffer, recompute: bool) -> LayerTape {
        let (attention, caches) = self.attention(layer, x);
        let (config, weights) = (self.decoder.config(), self.weights.layer(layer));
        let mlp = mlp::forward_train(self.compute, config, &weights, x, (layer, self.dropout));
        if recompute {
            LayerTape::Input(attention.into_input())
        } else {
            LayerTape::Whole(Box::new((attention, caches, mlp)))
        }
    }

    /// The attention branch of a layer, in place: its tape, and the keys and values of each sequence.
    fn attention(&self, layer: usize, x: &mut Buffer) -> (AttentionTape, Vec<KvCache>) {
        let (config, cpu) = (self.decoder.config(), self.compute.cpu);
        let fresh = |rows: &Range<usize>| KvCache::of_layer(config, layer, rows.len(), &cpu.buffers);
        let mut caches: Vec<KvCache> = self.sequences.rows.iter().map(fresh).collect();
        let mut borrowed: Vec<&mut KvCache> = caches.iter_mut().collect();
        let (weights, place) = (self.weights.layer(layer), (layer, self.dropout));
        let kept = (&self.sequences, borrowed.as_mut_slice());
        let tape = attention::forward_train(self.compute, config, &weights, x, kept, place);
        (tape, caches)
    }

    /// Turns the gradient of a layer's output `dx [N, D]` into that of its input, in place.
    fn backward(&self, layer: usize, tape: LayerTape, dx: &mut Buffer, grads: &mut Gradients<'_>) {
        let (compute, config) = (self.compute, self.decoder.config());
        let (weights, places) = (&self.weights.layer(layer), &self.weights.places().layers[layer]);
        let (attention, caches, mlp) = match tape {
            LayerTape::Whole(whole) => *whole,
            LayerTape::Input(mut x) => {
                let (attention, caches) = self.attention(layer, &mut x);
                (attention, caches, mlp::again(compute, config, weights, x))
            }
        };
        let kept = (&mlp, layer, self.dropout);
        mlp::backward(compute, config, weights, places, dx, kept, grads);
        drop(mlp);
        let kept = (&attention, &self.sequences, caches.as_slice());
        attention::backward(compute, config, (weights, places), dx, kept, (layer, self.dropout), grads);
    }
}
