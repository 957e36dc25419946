//! Every tensor of a plan rounded with compensation, in the order in which the model computes.

use std::collections::HashMap;

use shakti_kernels::blocks;
use shakti_kernels::{Cpu, MatMut, MatRef, Precision};
use shakti_model::TensorSource;

use crate::blocks::{Options, QuantizedModel, TensorReport, quantize, read};
use crate::compensate::{self, Layer};
use crate::factor::{self, Factor};
use crate::sequential::{Calibration, Walk};
use crate::{QuantError, TensorPlan};

/// Passes over the integers of a row at most, after the first rounding.
const SWEEPS: usize = 4;

/// A damped moment with its factors.
struct Metric {
    moment: Vec<f32>,
    factor: Factor,
    cols: usize,
}

impl Metric {
    fn new(cpu: &Cpu, mut moment: Vec<f32>, cols: usize) -> Self {
        factor::damp(&mut moment, cols);
        let factor = Factor::new(cpu, &moment, cols);
        Self { moment, factor, cols }
    }

    /// Sum over the rows of `x [N, K]` of `x^T H x`.
    fn energy(&self, cpu: &Cpu, x: &[f32]) -> f64 {
        let (rows, k) = (x.len() / self.cols, self.cols);
        let mut product = vec![0.0; x.len()];
        let (left, right) = (MatRef::new(x, rows, k), MatRef::new(&self.moment, k, k));
        cpu.gemm(Precision::F32, false, MatMut::new(&mut product, rows, k), left, right);
        x.iter().zip(&product).map(|(x, product)| f64::from(*x) * f64::from(*product)).sum()
    }
}

/// What a run needs all the time.
struct Run<'a, F: FnMut(&TensorReport)> {
    cpu: &'a Cpu,
    source: &'a dyn TensorSource,
    plan: &'a [TensorPlan],
    options: Options<'a>,
    walk: Walk<'a>,
    model: QuantizedModel,
    on_tensor: F,
}

/// Quantizes every tensor of `plan` as [`QuantizedModel::new`] says.
pub(crate) fn quantize_model(
    cpu: &Cpu,
    source: &dyn TensorSource,
    plan: &[TensorPlan],
    (options, calibration): (Options<'_>, &Calibration),
    on_tensor: impl FnMut(&TensorReport),
) -> Result<QuantizedModel, QuantError> {
    let walk = Walk::new(cpu, source, calibration)?;
    let mut run = Run { cpu, source, plan, options, walk, model: QuantizedModel::default(), on_tensor };
    let layers = calibration.num_layers();
    let mut stream = run.walk.embed()?;
    (0..layers).for_each(|layer| run.walk.advance(layer, &mut stream));
    run.head_and_embedding(&stream)?;
    let mut stream = run.walk.embed()?;
    for layer in 0..layers {
        run.layer(layer, &stream)?;
        run.walk.advance(layer, &mut stream);
    }
    for index in 0..plan.len() {
        run.tensor(index, None)?;
    }
    let order: HashMap<&str, usize> =
        plan.iter().enumerate().map(|(index, tensor)| (tensor.spec.name.as_str(), index)).collect();
    run.model.reports.sort_by_key(|report| order[report.plan.spec.name.as_str()]);
    Ok(run.model)
}

impl<F: FnMut(&TensorReport)> Run<'_, F> {
    fn index(&self, name: &str) -> Option<usize> {
        self.plan.iter().position(|tensor| tensor.spec.name == name)
    }

    /// The tensors of the two ends; a tied table is rounded as the head that it also is.
    fn head_and_embedding(&mut self, stream: &[shakti_kernels::Buffer]) -> Result<(), QuantError> {
        let table = self.index("model.embed_tokens.weight");
        let Some(head) = self.index("lm_head.weight").or(table) else { return Ok(()) };
        let cols = self.plan[head].spec.shape.last().copied().unwrap_or(1);
        if self.plan[head].dtype.is_quantized()
            && let Some(moment) = self.walk.observe_head(stream, head)
        {
            let metric = Metric::new(self.cpu, moment, cols);
            self.tensor(head, Some(&metric))?;
        }
        table.map_or(Ok(()), |table| self.tensor(table, None))
    }

    /// The seven weights of one layer.
    fn layer(&mut self, layer: usize, stream: &[shakti_kernels::Buffer]) -> Result<(), QuantError> {
        for names in [
            &["self_attn.q", "self_attn.k", "self_attn.v"][..],
            &["self_attn.o"],
            &["mlp.gate", "mlp.up"],
            &["mlp.down"],
        ] {
            let find = |name: &&str| self.index(&format!("model.layers.{layer}.{name}_proj.weight"));
            let tensors: Vec<usize> = names.iter().filter_map(find).collect();
            let quantized = |index: &&usize| self.plan[**index].dtype.is_quantized();
            let (Some(first), Some(_)) = (tensors.first(), tensors.iter().find(quantized)) else { continue };
            let mut moments = self.walk.observe(layer, stream, &[*first]);
            let cols = self.plan[*first].spec.shape.last().copied().unwrap_or(1);
            let Some(moment) = moments.remove(first) else { continue };
            let metric = Metric::new(self.cpu, moment, cols);
            for index in tensors {
                self.tensor(index, Some(&metric))?;
            }
        }
        Ok(())
    }

    /// One tensor, unless it is done already.
    fn tensor(&mut self, index: usize, metric: Option<&Metric>) -> Result<(), QuantError> {
        let tensor = &self.plan[index];
        let name = &tensor.spec.name;
        if self.model.tensors.contains_key(name) {
            return Ok(());
        }
        let failed = |cause| QuantError::Blocks { tensor: name.clone(), cause };
        let stored = read(self.source, tensor, self.options.allow_requantize)?.dtype;
        let metric = metric.filter(|_| tensor.dtype.is_quantized() && stored != tensor.dtype);
        let (bytes, nmse, weighted) = match metric {
            Some(metric) => {
                let (bytes, [nmse, weighted]) = self.compensated(index, metric).map_err(failed)?;
                (bytes, nmse, Some(weighted))
            }
            None => {
                let made = quantize(self.cpu, self.source, tensor, (self.options.allow_requantize, true))?;
                (made.bytes, made.nmse, None)
            }
        };
        self.walk.replace(index, tensor.dtype, &bytes).map_err(failed)?;
        let report = TensorReport { plan: tensor.clone(), nmse, weighted };
        (self.on_tensor)(&report);
        self.model.reports.push(report);
        self.model.tensors.insert(name.clone(), (tensor.dtype, bytes));
        Ok(())
    }

    /// Blocks of a tensor, their error over its squares, and both in the metric.
    fn compensated(&self, index: usize, metric: &Metric) -> Result<(Vec<u8>, [f64; 2]), blocks::BlockError> {
        let weight = self.walk.params.slice(index);
        let layer = Layer { weight, moment: &metric.moment, factor: &metric.factor, cols: metric.cols };
        let rounded = compensate::round(self.cpu, self.plan[index].dtype, layer, SWEEPS)?;
        let squares = |values: &[f32]| -> f64 { values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum() };
        let ratio = |error: f64, energy: f64| if energy > 0.0 { error / energy } else { 0.0 };
        let nmse = ratio(squares(&rounded.errors), squares(weight));
        let weighted = ratio(metric.energy(self.cpu, &rounded.errors), metric.energy(self.cpu, weight));
        Ok((rounded.bytes, [nmse, weighted]))
    }
}
