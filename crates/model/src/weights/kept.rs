//! Matrices that stay as their source stores them.

use std::borrow::Cow;
use std::sync::Arc;

use shakti_kernels::StoredMatrix;

use super::{MatrixData, TensorData, TensorSource, wrong};
use crate::{ModelError, ParamSpec};

/// A matrix `[out, in]` that is multiplied as its source stores it: what a few passes over the weights need, for which
/// repacking would take longer than everything else.
pub struct KeptMatrix {
    source: Arc<dyn TensorSource + Send + Sync>,
    spec: ParamSpec,
}

impl KeptMatrix {
    /// Checks the tensor; `None` if it is no matrix or the source makes it anew each time it is asked.
    pub(super) fn new(
        source: &Arc<dyn TensorSource + Send + Sync>,
        spec: &ParamSpec,
    ) -> Result<Option<Self>, ModelError> {
        let &[rows, cols] = &spec.shape[..] else { return Ok(None) };
        let matrix = source.matrix(spec).map_err(ModelError::Source)?;
        if matches!(matrix.data.bytes, Cow::Owned(_)) {
            return Ok(None);
        }
        let checked = matrix.stored([rows, cols]).check();
        checked.map_err(|error| wrong((spec, &matrix.data), &error))?;
        Ok(Some(Self { source: source.clone(), spec: spec.clone() }))
    }

    /// The matrix as the source stores it.
    pub(crate) fn stored(&self) -> StoredMatrix<'_> {
        match (self.source.matrix(&self.spec), &self.spec.shape[..]) {
            (
                Ok(MatrixData { data: TensorData { dtype, bytes: Cow::Borrowed(bytes) }, head_rows }),
                &[rows, cols],
            ) => StoredMatrix { dtype, shape: [rows, cols], bytes, head_rows },
            _ => unreachable!("KeptMatrix::new got it from the same source"),
        }
    }

    /// `[out, in]`.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.spec.shape
    }
}
