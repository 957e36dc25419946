//! A model quantized from its first layer to its last, each calibrated on what the quantized layers before it put out.
//!
//! Memory beside the blocks: the model in f32, the residual stream `[tokens, hidden_size]` of the calibration text, the second
//! moments of one layer's four inputs and, of the tensor at work, its errors and gradients.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use shakti_kernels::blocks::{self, DType};
use shakti_kernels::{Buffer, Cpu, MatMut, MatRef, Precision};
use shakti_model::{
    Batch, Compute, Decoder, InputObserver, Layout, ModelConfig, ModelError, Parameters, TensorSource,
    Weights,
};

use crate::QuantError;

/// Rows of one forward pass.
const ROWS: usize = 2048;

/// A text for calibration, in windows of the model's training context.
#[derive(Clone, Debug)]
pub struct Calibration {
    config: ModelConfig,
    ids: Vec<u32>,
}

impl Calibration {
    /// The ids of a text, and the model that reads it.
    ///
    /// # Errors
    /// Fewer than two ids (a begin-of-text token alone is no text).
    pub fn new(config: &ModelConfig, ids: &[u32]) -> Result<Self, QuantError> {
        if ids.len() < 2 {
            return Err(QuantError::NoCalibration { tokens: ids.len() });
        }
        Ok(Self { config: config.clone(), ids: ids.to_vec() })
    }

    /// The same of at most `tokens` tokens.
    pub(crate) fn first(&self, tokens: usize) -> Self {
        Self { config: self.config.clone(), ids: self.ids[..tokens.min(self.ids.len())].to_vec() }
    }

    pub(crate) fn vocab_size(&self) -> usize {
        self.config.vocab_size
    }

    pub(crate) fn num_layers(&self) -> usize {
        self.config.num_hidden_layers
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// The text cut into forward passes: the ids of each, and the rows of its windows.
    fn batches(&self) -> Vec<(&[u32], Vec<Range<usize>>)> {
        let window = self.config.max_position_embeddings.min(self.ids.len());
        let per_batch = window * (ROWS / window).max(1);
        let cut = |ids: &'_ [u32]| -> Vec<Range<usize>> {
            (0..ids.len()).step_by(window).map(|start| start..(start + window).min(ids.len())).collect()
        };
        self.ids.chunks(per_batch).map(|ids| (ids, cut(ids))).collect()
    }
}

/// Sums of `a a^T` over the inputs `a` of chosen parameters.
struct Moments<'a> {
    cpu: &'a Cpu,
    sums: RefCell<HashMap<usize, Moment>>,
}

/// One sum: rows so far, and `[K, K]`.
struct Moment {
    rows: usize,
    cols: usize,
    sum: Vec<f32>,
}

impl InputObserver for Moments<'_> {
    fn input(&self, index: usize, x: &[f32]) {
        if let Some(moment) = self.sums.borrow_mut().get_mut(&index) {
            let k = moment.cols;
            let rows = x.len() / k;
            let x = MatRef::new(x, rows, k);
            moment.rows += rows;
            self.cpu.gemm(Precision::F32, true, MatMut::new(&mut moment.sum, k, k), x.t(), x);
        }
    }
}

/// The model on its way through its layers.
pub(crate) struct Walk<'a> {
    cpu: &'a Cpu,
    decoder: Decoder,
    batches: Vec<(&'a [u32], Vec<Range<usize>>)>,
    /// Weights as they are so far: quantized ones as their blocks' values.
    pub(crate) params: Parameters,
}

impl<'a> Walk<'a> {
    /// Reads every tensor of the source as f32.
    pub(crate) fn new(
        cpu: &'a Cpu,
        source: &dyn TensorSource,
        calibration: &'a Calibration,
    ) -> Result<Self, QuantError> {
        let layout = Arc::new(Layout::new(&calibration.config));
        let mut params = Parameters::zeros(layout.clone());
        for (index, spec) in layout.specs().iter().enumerate() {
            let data = source.tensor(spec).map_err(QuantError::Source)?;
            blocks::dequantize_row(data.dtype, &data.bytes, params.slice_mut(index))
                .map_err(|cause| QuantError::Blocks { tensor: spec.name.clone(), cause })?;
            source.release(&[spec]);
        }
        let model = |error: ModelError| QuantError::Source(error.into());
        let decoder = Decoder::new(calibration.config.clone()).map_err(model)?;
        Ok(Self { cpu, decoder, batches: calibration.batches(), params })
    }

    fn compute(&self) -> Compute<'_> {
        Compute { cpu: self.cpu, precision: Precision::F32 }
    }

    /// The residual stream of every batch before the first layer.
    pub(crate) fn embed(&self) -> Result<Vec<Buffer>, QuantError> {
        let weights = Weights::dense(&self.params);
        let embed = |(tokens, rows): &(&[u32], Vec<Range<usize>>)| {
            self.decoder.embed_tokens(self.compute(), &weights, Batch { tokens, rows })
        };
        let stream: Result<_, ModelError> = self.batches.iter().map(embed).collect();
        stream.map_err(|error| QuantError::Source(error.into()))
    }

    /// Runs layer `layer` on the stream with the weights as they are.
    pub(crate) fn advance(&self, layer: usize, stream: &mut [Buffer]) {
        let weights = Weights::dense(&self.params);
        for (x, (_, rows)) in stream.iter_mut().zip(&self.batches) {
            self.decoder.run_layer(self.compute(), &weights, layer, (x, rows));
        }
    }

    /// The second moments of the inputs of parameters of layer `layer`, by index; the stream stays.
    pub(crate) fn observe(
        &self,
        layer: usize,
        stream: &[Buffer],
        indices: &[usize],
    ) -> HashMap<usize, Vec<f32>> {
        self.moments(indices, |moments| {
            let weights = Weights::dense(&self.params).observed(moments);
            for (x, (_, rows)) in stream.iter().zip(&self.batches) {
                let mut x = self.cpu.buffers.copy(x);
                self.decoder.run_layer(self.compute(), &weights, layer, (&mut x, rows));
            }
        })
    }

    /// The second moment of the head's input at the end of the stream.
    pub(crate) fn observe_head(&self, stream: &[Buffer], head: usize) -> Option<Vec<f32>> {
        let mut found = self.moments(&[head], |moments| {
            let weights = Weights::dense(&self.params).observed(moments);
            for x in stream {
                weights.observe_head(&self.decoder.final_norm(self.compute(), &weights, x));
            }
        });
        found.remove(&head)
    }

    /// Scores `[tokens, V]` at the end of the stream.
    pub(crate) fn scores(&self, stream: &[Buffer]) -> Vec<f32> {
        let weights = Weights::dense(&self.params);
        let of = |x: &Buffer| {
            let hidden = self.decoder.final_norm(self.compute(), &weights, x);
            self.decoder.logits(self.compute(), &weights, &hidden).to_vec()
        };
        stream.iter().flat_map(of).collect()
    }

    fn moments(&self, indices: &[usize], run: impl FnOnce(&Moments<'_>)) -> HashMap<usize, Vec<f32>> {
        let layout = self.params.layout();
        let empty = |index: &usize| {
            let cols = *layout.specs()[*index].shape.last().unwrap_or(&0);
            (*index, Moment { rows: 0, cols, sum: vec![0.0; cols * cols] })
        };
        let moments = Moments { cpu: self.cpu, sums: RefCell::new(indices.iter().map(empty).collect()) };
        run(&moments);
        let mean = |(index, mut moment): (usize, Moment)| {
            let scale = 1.0 / moment.rows.max(1) as f32;
            moment.sum.iter_mut().for_each(|value| *value *= scale);
            (index, moment.sum)
        };
        moments.sums.into_inner().into_iter().map(mean).collect()
    }

    /// Puts what blocks stand for in the place of parameter `index`.
    pub(crate) fn replace(
        &mut self,
        index: usize,
        dtype: DType,
        bytes: &[u8],
    ) -> Result<(), blocks::BlockError> {
        blocks::dequantize_row(dtype, bytes, self.params.slice_mut(index))
    }
}
