//! Low-rank adapters of linear layers: LoRA (arXiv 2106.09685), rsLoRA (arXiv 2312.03732), DoRA (arXiv 2402.09353).
//!
//! An adapted layer computes `y = W x + s B A x` with `s = alpha / r` (rsLoRA: `alpha / sqrt r`); DoRA scales each output to
//! a learned magnitude `m`: `y = m / norm(W + s B A) (W x + s B A x)`, norms taken over rows. W is frozen.

use std::sync::Arc;

use shakti_kernels::{Cpu, MatMut, MatRef, Precision};

use crate::layers::Compute;
use crate::layers::linear::for_values;
use crate::params::{Layout, Parameters};
use crate::weights::Weights;
use crate::{ModelConfig, ModelError, ParamSpec};

/// The linear layers that can be adapted, by the last part of their state-dict names.
pub const LORA_TARGETS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// What an adapter is; the names that PEFT has other words for are in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraConfig {
    /// Columns of B and rows of A (`r`).
    pub rank: usize,
    /// Numerator of the scale (`lora_alpha`).
    pub alpha: f32,
    /// Probability that an element of an adapter's input is dropped in training (`lora_dropout`).
    pub dropout: f32,
    /// Which linear layers are adapted, in every layer (`target_modules`): some of [`LORA_TARGETS`].
    pub targets: Vec<String>,
    /// Whether the scale is `alpha / sqrt rank` (`use_rslora`).
    pub rslora: bool,
    /// Whether each output has a magnitude of its own (`use_dora`).
    pub dora: bool,
}

impl LoraConfig {
    /// The factor `s` of `B A`.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// The parameters of an adapter for a model, in order: A and B of each adapted matrix, and magnitudes for DoRA.
    pub fn parameters(&self, model: &ModelConfig) -> Vec<ParamSpec> {
        let mut specs = Vec::new();
        for spec in &model.parameters() {
            let Some(stem) = self.adapted(spec) else { continue };
            let mut add = |end: &str, shape| specs.push(ParamSpec { name: format!("{stem}.{end}"), shape });
            add(LORA_A, vec![self.rank, spec.shape[1]]);
            add(LORA_B, vec![spec.shape[0], self.rank]);
            if self.dora {
                add(MAGNITUDE, vec![spec.shape[0]]);
            }
        }
        specs
    }

    /// The state-dict name of a matrix without `.weight`, if it is one that is adapted.
    fn adapted<'a>(&self, spec: &'a ParamSpec) -> Option<&'a str> {
        let stem = spec.name.strip_suffix(".weight")?;
        let (_, last) = stem.rsplit_once('.')?;
        self.targets.iter().any(|target| target == last).then_some(stem)
    }

    /// Whether the values can be used.
    ///
    /// # Errors
    /// Names the key that cannot.
    pub fn validate(&self) -> Result<(), ModelError> {
        let bad = |key: &str, expected: String, found: String| {
            Err(ModelError::Lora { key: key.into(), expected, found })
        };
        if !(1..=MAX_RANK).contains(&self.rank) {
            return bad("rank", format!("1 to {MAX_RANK}"), self.rank.to_string());
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return bad("alpha", "a positive number".into(), self.alpha.to_string());
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", "0 up to but not including 1".into(), self.dropout.to_string());
        }
        if self.targets.is_empty() {
            return bad("targets", format!("some of {}", LORA_TARGETS.join(", ")), "none".into());
        }
        match self.targets.iter().find(|target| !LORA_TARGETS.contains(&target.as_str())) {
            Some(unknown) => {
                bad("targets", format!("some of {}", LORA_TARGETS.join(", ")), format!("`{unknown}`"))
            }
            None => Ok(()),
        }
    }
}

/// What stands in place of `weight` in the names of an adapter's parameters.
const LORA_A: &str = "lora_A.weight";
const LORA_B: &str = "lora_B.weight";
const MAGNITUDE: &str = "lora_magnitude_vector";

/// Largest rank.
pub const MAX_RANK: usize = 4096;

/// An adapter for one configuration: A, B and magnitudes, and the norms that DoRA divides by.
#[derive(Clone, Debug)]
pub struct Adapter {
    config: LoraConfig,
    params: Parameters,
    /// By index in the layout of the model.
    modules: Vec<Option<Module>>,
}

/// One adapted matrix.
#[derive(Clone, Debug)]
struct Module {
    place: LowRankPlace,
    /// Index of the magnitudes, and `norm(W + s B A)` of each row; DoRA only.
    magnitude: Option<(usize, Vec<f32>)>,
}

/// Indices of A and B in the adapter's layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LowRankPlace {
    pub a: usize,
    pub b: usize,
}

/// What the adapter adds to one linear layer.
pub(crate) struct LowRank<'a> {
    pub rank: usize,
    pub scale: f32,
    /// `[r, in]`.
    pub a: &'a [f32],
    /// `[out, r]`.
    pub b: &'a [f32],
    pub place: LowRankPlace,
    pub gains: Option<Gains<'a>>,
    /// Probability and seed.
    pub dropout: Option<(f32, u64)>,
}

/// DoRA's magnitudes `[out]` and the norms they replace.
pub(crate) struct Gains<'a> {
    pub magnitude: &'a [f32],
    pub norm: &'a [f32],
    /// Index in the adapter's layout.
    pub place: usize,
}

impl Adapter {
    /// An adapter of zeros, to be filled with [`Adapter::params_mut`] and then [`Adapter::refresh`].
    ///
    /// # Errors
    /// What [`LoraConfig::validate`] finds.
    pub fn zeros(model: &ModelConfig, config: LoraConfig) -> Result<Self, ModelError> {
        config.validate()?;
        let layout = Layout::of(config.parameters(model));
        let module = |spec: &ParamSpec| {
            let stem = config.adapted(spec)?;
            let place = |end: &str| layout.index(&format!("{stem}.{end}"));
            let magnitude = place(MAGNITUDE).map(|index| (index, vec![1.0; spec.shape[0]]));
            Some(Module { place: LowRankPlace { a: place(LORA_A)?, b: place(LORA_B)? }, magnitude })
        };
        let modules = model.parameters().iter().map(module).collect();
        Ok(Self { params: Parameters::zeros(Arc::new(layout)), modules, config })
    }

    /// An adapter that changes nothing yet: A uniform in `±1/sqrt(in)` as PEFT draws it, B zero, magnitudes the norms of
    /// the rows of `weights`. The same seed gives the same bits on every machine.
    ///
    /// # Errors
    /// What [`LoraConfig::validate`] finds.
    pub fn init(
        model: &ModelConfig,
        config: LoraConfig,
        seed: u64,
        (cpu, weights): (&Cpu, &Weights<'_>),
    ) -> Result<Self, ModelError> {
        let mut adapter = Self::zeros(model, config)?;
        for place in adapter.modules.iter().flatten().map(|module| module.place.a).collect::<Vec<_>>() {
            let bound = 1.0 / (adapter.params.layout().specs()[place].shape[1] as f64).sqrt();
            let seed = crate::rng::mix(seed ^ crate::rng::mix(place as u64));
            for (index, value) in adapter.params.slice_mut(place).iter_mut().enumerate() {
                let uniform = crate::rng::uniform(seed.wrapping_add(index as u64));
                *value = (bound * (2.0 * uniform - 1.0)) as f32;
            }
        }
        adapter.refresh(cpu, weights);
        for module in adapter.modules.iter().flatten() {
            if let Some((place, norm)) = &module.magnitude {
                adapter.params.slice_mut(*place).copy_from_slice(norm);
            }
        }
        Ok(adapter)
    }

    /// What it is.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// A, B and magnitudes; the names are the state dict's, with `lora_A.weight`, `lora_B.weight` or
    /// `lora_magnitude_vector` in place of `weight`.
    pub fn params(&self) -> &Parameters {
        &self.params
    }

    /// The same to write to; [`Adapter::refresh`] must follow.
    pub fn params_mut(&mut self) -> &mut Parameters {
        &mut self.params
    }

    /// Computes anew what depends on A, B and the frozen matrices: the norms that DoRA divides by.
    pub fn refresh(&mut self, cpu: &Cpu, weights: &Weights<'_>) {
        if !self.config.dora {
            return;
        }
        let mut modules = std::mem::take(&mut self.modules);
        for (index, module) in modules.iter_mut().enumerate() {
            let Some(Module { place, magnitude: Some((_, norm)) }) = module else { continue };
            let (weight, in_features) = (weights.matrix(index), self.in_features(*place));
            let compute = Compute { cpu, precision: Precision::F32 };
            for_values(compute, &weight, [norm.len(), in_features], |rows, values| {
                let mut values = cpu.buffers.copy(values);
                self.add_product(cpu, *place, rows.clone(), &mut values);
                for (norm, row) in norm[rows].iter_mut().zip(values.chunks_exact(in_features)) {
                    *norm = row_norm(row);
                }
            });
        }
        self.modules = modules;
    }

    /// Whether parameter `index` of the model's layout is adapted.
    pub fn adapts(&self, index: usize) -> bool {
        self.modules[index].is_some()
    }

    /// Turns the values `[out, in]` of parameter `index` of the model's layout into those of the adapted layer; those that
    /// are not adapted stay.
    pub fn merge(&self, cpu: &Cpu, index: usize, values: &mut [f32]) {
        let Some(module) = &self.modules[index] else { return };
        let in_features = self.in_features(module.place);
        self.add_product(cpu, module.place, 0..values.len() / in_features, values);
        let Some((place, _)) = module.magnitude else { return };
        for (magnitude, row) in self.params.slice(place).iter().zip(values.chunks_exact_mut(in_features)) {
            let gain = magnitude / row_norm(row);
            row.iter_mut().for_each(|value| *value *= gain);
        }
    }

    /// Adds the gradients of A and B, from those of the merged matrices `dense` (the layout of the model): `dA = s B^T G`,
    /// `dB = s G A^T`. Not for DoRA.
    pub fn project(&self, compute: Compute<'_>, dense: &Parameters, grads: &mut Parameters) {
        let (rank, scale, cpu) = (self.config.rank, self.config.scale(), compute.cpu);
        for (index, module) in self.modules.iter().enumerate() {
            let Some(Module { place, .. }) = module else { continue };
            let (in_features, gradient) = (self.in_features(*place), dense.slice(index));
            let out = gradient.len() / in_features;
            let mut scaled = cpu.buffers.copy(gradient);
            cpu.scale(&mut scaled, scale);
            let g = || MatRef::new(&scaled, out, in_features);
            let a = MatRef::new(self.params.slice(place.a), rank, in_features);
            let b = MatRef::new(self.params.slice(place.b), out, rank);
            let db = MatMut::new(grads.slice_mut(place.b), out, rank);
            cpu.gemm(compute.precision, true, db, g(), a.t());
            let da = MatMut::new(grads.slice_mut(place.a), rank, in_features);
            cpu.gemm(compute.precision, true, da, b.t(), g());
        }
    }

    /// What is added to the matrix of parameter `index` of the model's layout; `training` is the seed of dropout.
    pub(crate) fn low_rank(&self, index: usize, training: Option<u64>) -> Option<LowRank<'_>> {
        let Module { place, magnitude } = self.modules[index].as_ref()?;
        let probability = self.config.dropout;
        let dropout = training.filter(|_| probability > 0.0);
        Some(LowRank {
            rank: self.config.rank,
            scale: self.config.scale(),
            a: self.params.slice(place.a),
            b: self.params.slice(place.b),
            place: *place,
            gains: magnitude.as_ref().map(|(place, norm)| Gains {
                magnitude: self.params.slice(*place),
                norm,
                place: *place,
            }),
            // Mixed twice, so that no branch of the decoder drops by the same numbers.
            dropout: dropout.map(|seed| {
                (probability, crate::rng::mix(crate::rng::mix(seed) ^ crate::rng::mix(index as u64)))
            }),
        })
    }

    fn in_features(&self, place: LowRankPlace) -> usize {
        self.params.layout().specs()[place.a].shape[1]
    }

    /// `values += s B A` for some rows.
    fn add_product(&self, cpu: &Cpu, place: LowRankPlace, rows: std::ops::Range<usize>, values: &mut [f32]) {
        let (rank, in_features) = (self.config.rank, self.in_features(place));
        let mut b = cpu.buffers.copy(&self.params.slice(place.b)[rows.start * rank..rows.end * rank]);
        cpu.scale(&mut b, self.config.scale());
        let (b, a) =
            (MatRef::new(&b, rows.len(), rank), MatRef::new(self.params.slice(place.a), rank, in_features));
        cpu.gemm(Precision::F32, true, MatMut::new(values, rows.len(), in_features), b, a);
    }
}

/// Euclidean norm, at least the smallest positive number so that nothing is divided by zero.
fn row_norm(row: &[f32]) -> f32 {
    let sum: f64 = row.iter().map(|value| f64::from(*value) * f64::from(*value)).sum();
    (sum.sqrt() as f32).max(f32::MIN_POSITIVE)
}
