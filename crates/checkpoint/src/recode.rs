//! A tensor's bytes in another type, row by row.

use std::borrow::Cow;
use std::sync::Arc;

use shakti_kernels::blocks::{BlockError, DType, dequantize_row, quantize_row};
use shakti_model::{Layout, ParamSpec, Parameters, TensorSource};

use crate::CheckpointError;

/// The bytes of `spec` from `source` in the type `dtype`: as they are if the source stores that type, else decoded
/// and encoded again row by row.
///
/// # Errors
/// What the source reports, or bytes that do not fit shape and type.
pub fn tensor_as<'a>(
    source: &'a dyn TensorSource,
    spec: &ParamSpec,
    dtype: DType,
) -> Result<Cow<'a, [u8]>, CheckpointError> {
    let failed = |source| CheckpointError::Source { name: spec.name.clone(), source };
    let data = source.tensor(spec).map_err(failed)?;
    let wrong = |error: BlockError| failed(Box::new(error));
    let (rows, cols) = rows_and_cols(spec);
    let expected = data.dtype.matrix_bytes(rows, cols).map_err(wrong)?;
    if data.bytes.len() != expected {
        let found = data.bytes.len();
        return Err(wrong(BlockError::ByteLength { dtype: data.dtype, expected, found }));
    }
    if data.dtype == dtype {
        return Ok(data.bytes);
    }
    let (from, to) = (data.dtype.row_bytes(cols).map_err(wrong)?, dtype.row_bytes(cols).map_err(wrong)?);
    let mut out = vec![0; dtype.matrix_bytes(rows, cols).map_err(wrong)?];
    let mut values = vec![0.0; cols];
    for (row, out) in data.bytes.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        dequantize_row(data.dtype, row, &mut values).map_err(wrong)?;
        quantize_row(dtype, &values, out).map_err(wrong)?;
    }
    Ok(Cow::Owned(out))
}

/// The f32 values of `spec` from `source`, row-major.
///
/// # Errors
/// As [`tensor_as`].
pub fn tensor_f32(source: &dyn TensorSource, spec: &ParamSpec) -> Result<Vec<f32>, CheckpointError> {
    let bytes = tensor_as(source, spec, DType::F32)?;
    Ok(bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect())
}

/// All parameters of `layout` from `source` as f32, to train on.
///
/// # Errors
/// As [`tensor_as`].
pub fn load_parameters(
    layout: Arc<Layout>,
    source: &dyn TensorSource,
) -> Result<Parameters, CheckpointError> {
    let mut parameters = Parameters::zeros(layout.clone());
    for (index, spec) in layout.specs().iter().enumerate() {
        parameters.slice_mut(index).copy_from_slice(&tensor_f32(source, spec)?);
    }
    Ok(parameters)
}

/// A parameter as a matrix: a vector is one row.
pub(crate) fn rows_and_cols(spec: &ParamSpec) -> (usize, usize) {
    let cols = spec.shape.last().copied().unwrap_or(1);
    (spec.num_elements() / cols.max(1), cols)
}
