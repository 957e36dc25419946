//! The matrices of another source in a type of choice, converted as they are asked for.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Mutex;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::{BlockError, DType, dequantize_row, quantize_row};
use shakti_model::{MatrixData, ParamSpec, TensorData, TensorSource};

/// Rows that one task converts.
const ROWS_AT_ONCE: usize = 64;

/// A source whose matrices are those of `source` as `dtype`.
pub(super) struct Recast<'a> {
    pub source: &'a dyn TensorSource,
    pub dtype: DType,
    pub cpu: &'a Cpu,
}

impl TensorSource for Recast<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn Error + Send + Sync>> {
        self.source.tensor(spec)
    }

    fn matrix(&self, spec: &ParamSpec) -> Result<MatrixData<'_>, Box<dyn Error + Send + Sync>> {
        let MatrixData { data, head_rows } = self.source.matrix(spec)?;
        let (rows, cols) = (spec.shape[0], spec.shape[1]);
        let dtype = self.dtype.for_row_len(cols);
        if data.dtype == dtype {
            return Ok(MatrixData { data, head_rows });
        }
        let (from, to) = (data.dtype.row_bytes(cols)?, dtype.row_bytes(cols)?);
        let mut bytes = vec![0; dtype.matrix_bytes(rows, cols)?];
        if data.bytes.len() != data.dtype.matrix_bytes(rows, cols)? {
            let found = format!("{} bytes of {}", data.bytes.len(), data.dtype);
            return Err(format!("tensor `{}`: {rows} rows of {cols}, found {found}", spec.name).into());
        }
        let parts: Vec<_> = data
            .bytes
            .chunks(from * ROWS_AT_ONCE)
            .zip(bytes.chunks_mut(to * ROWS_AT_ONCE))
            .map(|(from, to)| Mutex::new((from, to, Ok(()))))
            .collect();
        self.cpu.pool.run(parts.len(), &|index| {
            let (stored, recast, result) =
                &mut *parts[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut values = vec![0.0; cols];
            let mut rows = stored.chunks_exact(from).zip(recast.chunks_exact_mut(to));
            *result = rows.try_for_each(|(stored, recast)| -> Result<(), BlockError> {
                dequantize_row(data.dtype, stored, &mut values)?;
                quantize_row(dtype, &values, recast)
            });
        });
        for part in parts {
            part.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).2?;
        }
        Ok(MatrixData { data: TensorData { dtype, bytes: Cow::Owned(bytes) }, head_rows })
    }

    fn will_need(&self, specs: &[&ParamSpec]) {
        self.source.will_need(specs);
    }

    fn release(&self, specs: &[&ParamSpec]) {
        self.source.release(specs);
    }
}
