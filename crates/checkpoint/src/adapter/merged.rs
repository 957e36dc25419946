//! A model with an adapter merged into its weights, as a source of tensors.

use std::borrow::Cow;

use shakti_kernels::Cpu;
use shakti_kernels::blocks::DType;
use shakti_model::{Adapter, Layout, ModelConfig, ParamSpec, TensorData, TensorSource};

use crate::recode::tensor_f32;

/// Adapted matrices are made when they are asked for, in F32; all others are those of the base.
pub struct Merged<'a> {
    base: &'a dyn TensorSource,
    adapter: &'a Adapter,
    layout: Layout,
    cpu: &'a Cpu,
}

impl<'a> Merged<'a> {
    /// `adapter` was made for `config`, which is that of `base`.
    pub fn new(config: &ModelConfig, base: &'a dyn TensorSource, adapter: &'a Adapter, cpu: &'a Cpu) -> Self {
        Self { base, adapter, layout: Layout::new(config), cpu }
    }
}

impl TensorSource for Merged<'_> {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let index = self.layout.index(&spec.name).filter(|index| self.adapter.adapts(*index));
        let Some(index) = index else { return self.base.tensor(spec) };
        let mut values = tensor_f32(self.base, spec)?;
        self.adapter.merge(self.cpu, index, &mut values);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(TensorData { dtype: DType::F32, bytes: Cow::Owned(bytes) })
    }
}
