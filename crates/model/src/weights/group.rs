//! Tensors that are packed together, so that every thread has a share.

use shakti_kernels::blocks::dequantize_row;
use shakti_kernels::{Cpu, PackedMatrix};

use super::{MatrixData, PackedTensor, TensorData, TensorSource};
use crate::{ModelError, ParamSpec};

/// Bytes of tensors that are packed together: enough for every thread, and little beside the model where the source has to
/// make a copy of each.
pub(super) const GROUP_BYTES: usize = 16 << 20;

/// Tensors that were read and are not packed yet.
#[derive(Default)]
pub(super) struct Group<'a> {
    tensors: Vec<(&'a ParamSpec, MatrixData<'a>)>,
    pub bytes: usize,
}

impl<'a> Group<'a> {
    pub fn push(&mut self, spec: &'a ParamSpec, source: &'a dyn TensorSource) -> Result<(), ModelError> {
        let matrix = if is_matrix(spec) {
            source.matrix(spec)
        } else {
            source.tensor(spec).map(|data| MatrixData { data, head_rows: None })
        };
        let matrix = matrix.map_err(ModelError::Source)?;
        self.bytes += matrix.data.bytes.len();
        self.tensors.push((spec, matrix));
        Ok(())
    }

    /// Packs and releases all, in order.
    pub fn pack(
        &mut self,
        cpu: &Cpu,
        source: &dyn TensorSource,
        packed: &mut Vec<PackedTensor>,
    ) -> Result<(), ModelError> {
        let group = std::mem::take(self);
        let matrices: Vec<_> = group.tensors.iter().filter(|(spec, _)| is_matrix(spec)).collect();
        let stored = matrices.iter().map(|(spec, matrix)| matrix.stored([spec.shape[0], spec.shape[1]]));
        let done = PackedMatrix::pack_all(cpu, &stored.collect::<Vec<_>>());
        let done =
            done.map_err(|(index, error)| wrong((matrices[index].0, &matrices[index].1.data), &error))?;
        let mut done = done.into_iter().peekable();
        for (spec, MatrixData { data, .. }) in &group.tensors {
            packed.push(match done.next_if(|_| is_matrix(spec)) {
                Some(matrix) => PackedTensor::Matrix(matrix),
                None => {
                    let mut values = vec![0.0; spec.num_elements()];
                    dequantize_row(data.dtype, &data.bytes, &mut values)
                        .map_err(|error| wrong((spec, data), &error))?;
                    PackedTensor::Vector(values)
                }
            });
        }
        // Vectors lie in pages that others share.
        source.release(&matrices.iter().map(|(spec, _)| *spec).collect::<Vec<_>>());
        Ok(())
    }
}

pub(super) fn is_matrix(spec: &ParamSpec) -> bool {
    spec.shape.len() == 2
}

/// A tensor that cannot be packed.
pub(super) fn wrong(
    (spec, data): (&ParamSpec, &TensorData<'_>),
    error: &dyn std::fmt::Display,
) -> ModelError {
    ModelError::Tensor {
        name: spec.name.clone(),
        expected: format!("{:?} of {}", spec.shape, data.dtype),
        found: error.to_string(),
    }
}
