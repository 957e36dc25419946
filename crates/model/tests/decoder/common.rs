//! What the integration tests share: goldens, machines, comparisons.

use std::path::PathBuf;
use std::sync::Arc;

use safetensors::SafeTensors;
use shakti_kernels::{Cpu, KernelSet};
use shakti_model::{Layout, ModelConfig, Parameters};

/// A golden folder: configuration, weights, and expected tensors.
pub struct Golden {
    pub config: ModelConfig,
    pub params: Parameters,
    expect: Vec<u8>,
}

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden").join(name)
}

impl Golden {
    pub fn load(name: &str) -> Self {
        let folder = path(name);
        let config =
            ModelConfig::from_json(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
        let mut params = Parameters::zeros(Arc::new(Layout::new(&config)));
        let bytes = std::fs::read(folder.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for name in params.layout().specs().iter().map(|spec| spec.name.clone()).collect::<Vec<_>>() {
            params.set(&name, &floats(&tensors, &name)).unwrap();
        }
        let expect = std::fs::read(folder.join("expect.safetensors")).unwrap();
        Self { config, params, expect }
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        floats(&SafeTensors::deserialize(&self.expect).unwrap(), name)
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        integers(&SafeTensors::deserialize(&self.expect).unwrap(), name)
    }
}

/// Integers of a safetensors file beside the goldens.
pub fn tensor_ids(file: &str, name: &str) -> Vec<u32> {
    integers(&SafeTensors::deserialize(&std::fs::read(path(file)).unwrap()).unwrap(), name)
}

fn integers(tensors: &SafeTensors<'_>, name: &str) -> Vec<u32> {
    let data = tensors.tensor(name).unwrap().data().to_vec();
    data.chunks_exact(4).map(|chunk| u32::from_le_bytes(chunk.try_into().unwrap())).collect()
}

/// A tensor of a safetensors file beside the goldens.
pub fn tensor(file: &str, name: &str) -> Vec<f32> {
    floats(&SafeTensors::deserialize(&std::fs::read(path(file)).unwrap()).unwrap(), name)
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    let data = tensor.data();
    match tensor.dtype() {
        safetensors::Dtype::F32 => {
            data.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect()
        }
        safetensors::Dtype::BF16 => data
            .chunks_exact(2)
            .map(|chunk| f32::from_bits(u32::from(u16::from_le_bytes(chunk.try_into().unwrap())) << 16))
            .collect(),
        other => panic!("{name}: unexpected {other:?}"),
    }
}

/// Every kernel set of this machine, with one and two threads.
pub fn machines() -> Vec<Cpu> {
    KernelSet::available().iter().flat_map(|set| [1, 2].map(|threads| Cpu::new(set, threads))).collect()
}

/// Largest difference over the largest magnitude expected.
pub fn relative(actual: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(actual.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |max, value| max.max(value.abs()));
    let difference = actual.iter().zip(expected).fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(actual.iter().all(|value| value.is_finite()), "not finite");
    difference / largest.max(1e-30)
}
