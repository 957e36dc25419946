//! Tensors turned into blocks, with the error that this costs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::{self, DType};
use shakti_model::{ParamSpec, TensorData, TensorSource};

use crate::{QuantError, TensorPlan};

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct TensorReport {
    /// The plan it followed.
    pub plan: TensorPlan,
    /// Normalised mean squared error: sum of squared differences over sum of squares.
    pub nmse: f64,
}

/// A model quantized in memory: a source of tensors for the engine and for the exporter alike, so that what is
/// measured in memory is what the file holds.
#[derive(Debug)]
pub struct QuantizedModel {
    tensors: HashMap<String, (DType, Vec<u8>)>,
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
        allow_requantize: bool,
        mut on_tensor: impl FnMut(&TensorReport),
    ) -> Result<Self, QuantError> {
        let mut model = Self { tensors: HashMap::new(), reports: Vec::new() };
        for tensor in plan {
            let data = source.tensor(&tensor.spec).map_err(QuantError::Source)?;
            let name = &tensor.spec.name;
            let (bytes, nmse) = if data.dtype == tensor.dtype {
                (data.bytes.into_owned(), 0.0)
            } else if data.dtype.is_quantized() && !allow_requantize {
                let dtype = data.dtype.to_string();
                return Err(QuantError::AlreadyQuantized { tensor: name.clone(), dtype });
            } else {
                convert(cpu, &data, tensor)
                    .map_err(|cause| QuantError::Blocks { tensor: name.clone(), cause })?
            };
            let report = TensorReport { plan: tensor.clone(), nmse };
            on_tensor(&report);
            model.reports.push(report);
            model.tensors.insert(name.clone(), (tensor.dtype, bytes));
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

/// Rows that one task converts.
const ROWS_PER_TASK: usize = 64;

/// Converts row by row; rows are independent, so any number of threads gives the same bytes.
fn convert(
    cpu: &Cpu,
    data: &TensorData<'_>,
    plan: &TensorPlan,
) -> Result<(Vec<u8>, f64), blocks::BlockError> {
    let cols = *plan.spec.shape.last().unwrap_or(&1);
    let rows = plan.spec.num_elements() / cols.max(1);
    let expected = data.dtype.matrix_bytes(rows, cols)?;
    if data.bytes.len() != expected {
        return Err(blocks::BlockError::ByteLength { dtype: data.dtype, expected, found: data.bytes.len() });
    }
    let (from, to) = (data.dtype.row_bytes(cols)?, plan.dtype.row_bytes(cols)?);
    let tasks: Vec<Mutex<Task<'_>>> = {
        let sources = data.bytes.chunks(ROWS_PER_TASK * from);
        sources.map(|source| Mutex::new(Task { source, out: Vec::new(), result: Ok((0.0, 0.0)) })).collect()
    };
    cpu.pool.run(tasks.len(), &|index| {
        let mut task = tasks[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        task.run((data.dtype, from), (plan.dtype, to), cols);
    });
    let mut bytes = Vec::with_capacity(rows * to);
    let (mut error, mut energy) = (0.0, 0.0);
    for task in tasks {
        let task = task.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (task_error, task_energy) = task.result?;
        bytes.extend_from_slice(&task.out);
        error += task_error;
        energy += task_energy;
    }
    Ok((bytes, if energy > 0.0 { error / energy } else { 0.0 }))
}

/// Some rows, and what comes of them: bytes, and sums of squared error and of squares.
struct Task<'a> {
    source: &'a [u8],
    out: Vec<u8>,
    result: Result<(f64, f64), blocks::BlockError>,
}

impl Task<'_> {
    fn run(&mut self, (source, from): (DType, usize), (target, to): (DType, usize), cols: usize) {
        let (mut values, mut back) = (vec![0.0f32; cols], vec![0.0f32; cols]);
        let mut row_bytes = vec![0u8; to];
        let mut one_row = |bytes: &[u8], out: &mut Vec<u8>| -> Result<(f64, f64), blocks::BlockError> {
            blocks::dequantize_row(source, bytes, &mut values)?;
            blocks::quantize_row(target, &values, &mut row_bytes)?;
            blocks::dequantize_row(target, &row_bytes, &mut back)?;
            out.extend_from_slice(&row_bytes);
            let square = |value: f32| f64::from(value) * f64::from(value);
            let error = values.iter().zip(&back).map(|(a, b)| square(a - b)).sum();
            Ok((error, values.iter().map(|value| square(*value)).sum()))
        };
        self.result = self.source.chunks(from).try_fold((0.0, 0.0), |(error, energy), bytes| {
            one_row(bytes, &mut self.out).map(|(e, s)| (error + e, energy + s))
        });
    }
}
