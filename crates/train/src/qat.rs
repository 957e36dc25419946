//! Quantization-aware training: forward and backward passes see the weights as the exported file will hold them, updates go to
//! the weights behind them (the straight-through estimator, arXiv 1308.3432).
//!
//! The blocks are made by the quantizer of `shakti quantize` with its plan, and read by the runtime's own functions, so that
//! training, serving and the file have one grid.

use std::sync::Arc;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::dequantize_row;
use shakti_model::{Layout, ModelConfig, Parameters, TensorSource};
use shakti_quant::{FileType, Options, QuantizedModel, TensorPlan};

use crate::TrainError;

/// The weights on the grid of a format.
pub(crate) struct Grid {
    /// One plan for each format.
    plans: Vec<Vec<TensorPlan>>,
    seed: u64,
    /// The weights as the file would hold them.
    pub values: Parameters,
}

impl Grid {
    /// The grids of `formats`; until [`Grid::refresh`] the values are zeros.
    pub fn new(config: &ModelConfig, layout: Arc<Layout>, formats: &[FileType], seed: u64) -> Self {
        // A head of scores or values is not exported and stays as it is.
        let exported = config.clone().language().unwrap_or_else(|_| config.clone());
        let plans = formats.iter().map(|kind| shakti_quant::plan(&exported, *kind, None)).collect();
        Self { plans, seed, values: Parameters::zeros(layout) }
    }

    /// Brings the values up to date for a step with those of `source`: in the first format, or, of several, in the one that is drawn for it.
    pub fn refresh(&mut self, cpu: &Cpu, source: &dyn TensorSource, step: u64) -> Result<(), TrainError> {
        let plan = &self.plans[crate::trainer::draw(self.seed, step) as usize % self.plans.len()];
        let options = Options { allow_requantize: true, calibration: None };
        let quantized = QuantizedModel::new(cpu, source, plan, options, |_| {})?;
        for spec in plan.iter().map(|tensor| &tensor.spec) {
            let data = quantized.tensor(spec).map_err(|cause| TrainError::grid(&spec.name, cause))?;
            let Some(index) = self.values.layout().index(&spec.name) else { continue };
            let cols = spec.shape[spec.shape.len() - 1];
            let bytes = data.bytes.chunks_exact(data.bytes.len() / (spec.num_elements() / cols));
            for (row, bytes) in self.values.slice_mut(index).chunks_exact_mut(cols).zip(bytes) {
                dequantize_row(data.dtype, bytes, row)
                    .map_err(|cause| TrainError::grid(&spec.name, Box::new(cause)))?;
            }
        }
        Ok(())
    }
}
