//! The comparison of the tensors that a file has with those that a configuration asks for.

use std::collections::HashSet;
use std::path::Path;

use shakti_kernels::blocks::DType;
use shakti_model::ParamSpec;

use crate::CheckpointError;
use crate::recode::rows_and_cols;

/// What a file says about one tensor.
pub(crate) struct FoundTensor {
    /// Row-major shape.
    pub(crate) shape: Vec<usize>,
    /// The type, if it can be computed with.
    pub(crate) dtype: Option<DType>,
    /// The type as the file names it.
    pub(crate) dtype_name: String,
}

/// Checks that every parameter is there in its shape and in a usable type; returns the types in order.
///
/// `name_of` gives a parameter's name in the file, `find` looks that up.
pub(crate) fn check_parameters(
    path: &Path,
    specs: &[ParamSpec],
    usable: &[DType],
    name_of: impl Fn(&ParamSpec) -> String,
    find: impl Fn(&str) -> Option<FoundTensor>,
) -> Result<Vec<DType>, CheckpointError> {
    let mut dtypes = Vec::with_capacity(specs.len());
    for spec in specs {
        let name = name_of(spec);
        let path = path.to_path_buf();
        let Some(found) = find(&name) else { return Err(CheckpointError::MissingTensor { path, name }) };
        if found.shape != spec.shape {
            let expected = spec.shape.clone();
            return Err(CheckpointError::WrongShape { path, name, expected, found: found.shape });
        }
        let dtype = found.dtype.filter(|dtype| usable.contains(dtype));
        let Some(dtype) = dtype.filter(|dtype| dtype.row_bytes(rows_and_cols(spec).1).is_ok()) else {
            let expected = usable.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ");
            return Err(CheckpointError::WrongDtype { path, name, expected, found: found.dtype_name });
        };
        dtypes.push(dtype);
    }
    Ok(dtypes)
}

/// Names the first tensor of the file that is neither a parameter nor allowed besides.
pub(crate) fn check_no_extra<'a>(
    path: &Path,
    specs: &[ParamSpec],
    name_of: impl Fn(&ParamSpec) -> String,
    names: impl Iterator<Item = &'a str>,
    mut is_inert: impl FnMut(&str) -> Result<bool, CheckpointError>,
) -> Result<(), CheckpointError> {
    let known: HashSet<String> = specs.iter().map(name_of).collect();
    for name in names {
        if !known.contains(name) && !is_inert(name)? {
            return Err(CheckpointError::ExtraTensor { path: path.to_path_buf(), name: name.to_owned() });
        }
    }
    Ok(())
}
