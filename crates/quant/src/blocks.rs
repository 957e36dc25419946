//! Tensors turned into blocks, with the error that this costs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::{self, BlockError, DType};
use shakti_model::{ParamSpec, TensorData, TensorSource};

use crate::sequential::Calibration;
use crate::{QuantError, TensorPlan};

/// How tensors are quantized.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Whether a quantized source is accepted.
    pub allow_requantize: bool,
    /// A text to calibrate on, layer after layer: linear weights are rounded with compensation for the least error of
    /// what they compute, others with searched scales. `None`: the reference quantizers, byte for byte.
    pub calibration: Option<&'a Calibration>,
}

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct TensorReport {
    /// The plan it followed.
    pub plan: TensorPlan,
    /// Normalised mean squared error: sum of squared differences over sum of squares.
    pub nmse: f64,
    /// Expected squared error of the layer's output over its expected square, on the calibration text. `None` without
    /// one, and for what multiplies nothing.
    pub weighted: Option<f64>,
}

/// A model quantized in memory: a source of tensors for the engine and for the exporter alike, so that what is
/// measured in memory is what the file holds.
#[derive(Debug, Default)]
pub struct QuantizedModel {
    pub(crate) tensors: HashMap<String, (DType, Vec<u8>)>,
    /// One entry a tensor, in state-dict order.
    pub reports: Vec<TensorReport>,
}

impl QuantizedModel {
    /// Quantizes every tensor of `plan`; `on_tensor` hears of each as it is done.
    ///
    /// # Errors
    /// Names the tensor that cannot be read, holds NaN or infinity, or is quantized already (unless
    /// `allow_requantize`, or it has the planned format, in which case its bytes are kept).
    pub fn new(
        cpu: &Cpu,
        source: &dyn TensorSource,
        plan: &[TensorPlan],
        options: Options<'_>,
        mut on_tensor: impl FnMut(&TensorReport),
    ) -> Result<Self, QuantError> {
        if let Some(calibration) = options.calibration {
            return crate::calibrated::quantize_model(cpu, source, plan, (options, calibration), on_tensor);
        }
        let mut model = Self { tensors: HashMap::new(), reports: Vec::new() };
        for tensor in plan {
            let made = quantize(cpu, source, tensor, (options.allow_requantize, false))?;
            let report = TensorReport { plan: tensor.clone(), nmse: made.nmse, weighted: None };
            on_tensor(&report);
            model.reports.push(report);
            model.tensors.insert(tensor.spec.name.clone(), (tensor.dtype, made.bytes));
        }
        Ok(model)
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> usize {
        self.tensors.values().map(|(_, bytes)| bytes.len()).sum()
    }
}

impl TensorSource for QuantizedModel {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let (dtype, bytes) =
            self.tensors.get(&spec.name).ok_or_else(|| format!("no tensor `{}`", spec.name))?;
        Ok(TensorData { dtype: *dtype, bytes: Cow::Borrowed(bytes) })
    }
}

/// The bytes of one tensor and their error.
pub(crate) struct Conversion {
    pub(crate) bytes: Vec<u8>,
    pub(crate) nmse: f64,
}

/// Reads a tensor that is to be converted as planned.
pub(crate) fn read<'a>(
    source: &'a dyn TensorSource,
    tensor: &TensorPlan,
    allow_requantize: bool,
) -> Result<TensorData<'a>, QuantError> {
    let data = source.tensor(&tensor.spec).map_err(QuantError::Source)?;
    if data.dtype.is_quantized() && data.dtype != tensor.dtype && !allow_requantize {
        let (tensor, dtype) = (tensor.spec.name.clone(), data.dtype.to_string());
        return Err(QuantError::AlreadyQuantized { tensor, dtype });
    }
    Ok(data)
}

/// Quantizes one tensor as planned; `search`: scales are searched for the least squared error.
pub(crate) fn quantize(
    cpu: &Cpu,
    source: &dyn TensorSource,
    tensor: &TensorPlan,
    (allow_requantize, search): (bool, bool),
) -> Result<Conversion, QuantError> {
    let data = read(source, tensor, allow_requantize)?;
    if data.dtype == tensor.dtype {
        return Ok(Conversion { bytes: data.bytes.into_owned(), nmse: 0.0 });
    }
    let failed = |cause| QuantError::Blocks { tensor: tensor.spec.name.clone(), cause };
    convert(cpu, &data, tensor, search).map_err(failed)
}

/// Rows that one task converts.
const ROWS_PER_TASK: usize = 64;

/// Converts row by row; rows are independent, so any number of threads gives the same bytes.
fn convert(
    cpu: &Cpu,
    data: &TensorData<'_>,
    plan: &TensorPlan,
    search: bool,
) -> Result<Conversion, BlockError> {
    let cols = *plan.spec.shape.last().unwrap_or(&1);
    let rows = plan.spec.num_elements() / cols.max(1);
    let expected = data.dtype.matrix_bytes(rows, cols)?;
    if data.bytes.len() != expected {
        return Err(BlockError::ByteLength { dtype: data.dtype, expected, found: data.bytes.len() });
    }
    let (from, to) = (data.dtype.row_bytes(cols)?, plan.dtype.row_bytes(cols)?);
    let alike = vec![1.0; cols];
    let weights = search.then_some(alike.as_slice());
    let recoding = Recoding { source: (data.dtype, from), target: (plan.dtype, to), cols, weights };
    let tasks: Vec<Mutex<Task<'_>>> = {
        let sources = data.bytes.chunks(ROWS_PER_TASK * from);
        sources.map(|source| Mutex::new(Task { source, out: Vec::new(), result: Ok([0.0; 2]) })).collect()
    };
    cpu.pool.run(tasks.len(), &|index| {
        tasks[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner).run(&recoding);
    });
    let mut bytes = Vec::with_capacity(rows * to);
    let mut sums = [0.0f64; 2];
    for task in tasks {
        let task = task.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        sums = plus(sums, task.result?);
        bytes.extend_from_slice(&task.out);
    }
    let [error, energy] = sums;
    Ok(Conversion { bytes, nmse: if energy > 0.0 { error / energy } else { 0.0 } })
}

/// From which type to which, bytes of a row of each, and what the rows' values weigh.
struct Recoding<'a> {
    source: (DType, usize),
    target: (DType, usize),
    cols: usize,
    weights: Option<&'a [f32]>,
}

fn plus(a: [f64; 2], b: [f64; 2]) -> [f64; 2] {
    [a[0] + b[0], a[1] + b[1]]
}

/// Some rows, and what comes of them.
struct Task<'a> {
    source: &'a [u8],
    out: Vec<u8>,
    /// Sums of squared errors and of squares.
    result: Result<[f64; 2], BlockError>,
}

impl Task<'_> {
    fn run(&mut self, recoding: &Recoding<'_>) {
        let ((source, from), (target, to)) = (recoding.source, recoding.target);
        let (mut values, mut back) = (vec![0.0f32; recoding.cols], vec![0.0f32; recoding.cols]);
        let mut row_bytes = vec![0u8; to];
        let mut one_row = |bytes: &[u8], out: &mut Vec<u8>| -> Result<[f64; 2], BlockError> {
            blocks::dequantize_row(source, bytes, &mut values)?;
            match recoding.weights {
                Some(weights) => blocks::quantize_row_weighted(target, &values, weights, &mut row_bytes)?,
                None => blocks::quantize_row(target, &values, &mut row_bytes)?,
            }
            blocks::dequantize_row(target, &row_bytes, &mut back)?;
            out.extend_from_slice(&row_bytes);
            let squares = |(a, b): (&f32, &f32)| [a - b, *a].map(|value| f64::from(value) * f64::from(value));
            let sums = values.iter().zip(&back).map(squares).fold([0.0; 2], plus);
            Ok(sums)
        };
        self.result = self
            .source
            .chunks(from)
            .try_fold([0.0; 2], |sums, bytes| one_row(bytes, &mut self.out).map(|row| plus(sums, row)));
    }
}
