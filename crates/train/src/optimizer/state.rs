//! What an optimizer remembers of each parameter, the step on one of them, and its form in a checkpoint.

use shakti_kernels::{AdamWStep, Aligned, MOMENT_BLOCK, Moment8};
use shakti_model::{Compute, ParamSpec};

use super::muon::{self, MuonStep};
use super::{OptimizerKind, OptimizerSettings};

/// Matrices with fewer values keep moments in f32 under `adamw8`, as vectors do: they save little and count much.
pub(super) const MIN_VALUES_8BIT: usize = 4096;

/// Names in a checkpoint, those of PyTorch's optimizers.
const MEANS: [&str; 2] = ["exp_avg", "exp_avg_sq"];
const SCALES: [&str; 2] = ["exp_avg_scale", "exp_avg_sq_scale"];
const MOMENTUM: &str = "momentum_buffer";

/// What is remembered of one parameter.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// AdamW: running means of gradient and squared gradient.
    Moments([Aligned; 2]),
    /// The same in 8 bits.
    Moments8([Moment8; 2]),
    /// Muon: running mean of the gradient.
    Momentum(Aligned),
}

/// A tensor of a checkpoint.
pub(crate) struct StateTensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: StateValues<'a>,
}

/// The values of a [`StateTensor`].
pub(crate) enum StateValues<'a> {
    F32(&'a [f32]),
    U8(&'a [u8]),
}

impl StateValues<'_> {
    /// The name of the type in safetensors.
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::F32(_) => "F32",
            Self::U8(_) => "U8",
        }
    }

    /// Number of bytes.
    pub fn byte_len(&self) -> usize {
        match self {
            Self::F32(values) => 4 * values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// The bytes as they are stored.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::U8(values) => values.to_vec(),
        }
    }
}

/// Where the values of a [`StateTensor`] are read to.
enum Slot<'a> {
    F32(&'a mut [f32]),
    U8(&'a mut [u8]),
}

impl State {
    /// The state of a parameter before the first step.
    pub fn new(kind: OptimizerKind, spec: &ParamSpec) -> Self {
        let len = spec.num_elements();
        match held(kind, spec) {
            Held::Moments => Self::Moments([Aligned::zeros(len), Aligned::zeros(len)]),
            Held::Moments8 => Self::Moments8([Moment8::zeros(len, true), Moment8::zeros(len, false)]),
            Held::Momentum => Self::Momentum(Aligned::zeros(len)),
        }
    }

    /// Its tensors in a checkpoint, in a fixed order.
    pub fn tensors(&self, spec: &ParamSpec) -> Vec<StateTensor<'_>> {
        let tensor = |name: &str, values| StateTensor {
            name: format!("{name}.{}", spec.name),
            shape: spec.shape.clone(),
            values,
        };
        fn scales<'a>(name: &str, spec: &ParamSpec, scales: &'a [f32]) -> StateTensor<'a> {
            let (name, shape) = (format!("{name}.{}", spec.name), vec![scales.len()]);
            StateTensor { name, shape, values: StateValues::F32(scales) }
        }
        match self {
            Self::Moments([m, v]) => {
                vec![tensor(MEANS[0], StateValues::F32(m)), tensor(MEANS[1], StateValues::F32(v))]
            }
            Self::Moments8([m, v]) => vec![
                tensor(MEANS[0], StateValues::U8(&m.codes)),
                scales(SCALES[0], spec, &m.scales),
                tensor(MEANS[1], StateValues::U8(&v.codes)),
                scales(SCALES[1], spec, &v.scales),
            ],
            Self::Momentum(momentum) => vec![tensor(MOMENTUM, StateValues::F32(momentum))],
        }
    }

    /// Takes the values of its tensors, in the same order and of the lengths that they have there.
    pub fn fill(&mut self, mut bytes: impl FnMut() -> Vec<u8>) {
        for slot in self.slots() {
            match (slot, bytes()) {
                (Slot::F32(values), bytes) => {
                    let stored = bytes.as_chunks::<4>().0;
                    values
                        .iter_mut()
                        .zip(stored)
                        .for_each(|(value, stored)| *value = f32::from_le_bytes(*stored));
                }
                (Slot::U8(values), bytes) => values.copy_from_slice(&bytes),
            }
        }
    }

    fn slots(&mut self) -> Vec<Slot<'_>> {
        match self {
            Self::Moments([m, v]) => vec![Slot::F32(m), Slot::F32(v)],
            Self::Moments8(moments) => moments
                .iter_mut()
                .flat_map(|moment| [Slot::U8(&mut moment.codes), Slot::F32(&mut moment.scales)])
                .collect(),
            Self::Momentum(momentum) => vec![Slot::F32(momentum)],
        }
    }

    /// One step on a parameter of this shape.
    pub(super) fn update(
        &mut self,
        compute: Compute<'_>,
        (param, grad): (&mut [f32], &[f32]),
        step: &Step<'_>,
        shape: &[usize],
    ) {
        let adamw = step.adamw(shape);
        match self {
            Self::Moments([m, v]) => compute.cpu.adamw(param, grad, m, v, &adamw),
            Self::Moments8([m, v]) => compute.cpu.adamw8(param, grad, [m, v], &adamw),
            Self::Momentum(momentum) => muon::update(compute, (param, grad, momentum), shape, &step.muon()),
        }
    }
}

/// Bytes that the state of a parameter takes.
pub(super) fn byte_len(kind: OptimizerKind, spec: &ParamSpec) -> usize {
    let len = spec.num_elements();
    match held(kind, spec) {
        Held::Moments => 8 * len,
        Held::Moments8 => 2 * (len + 4 * len.div_ceil(MOMENT_BLOCK)),
        Held::Momentum => 4 * len,
    }
}

/// What is held of a parameter.
enum Held {
    Moments,
    Moments8,
    Momentum,
}

fn held(kind: OptimizerKind, spec: &ParamSpec) -> Held {
    match kind {
        OptimizerKind::Muon if is_hidden_matrix(spec) => Held::Momentum,
        OptimizerKind::AdamW8 if spec.shape.len() > 1 && spec.num_elements() >= MIN_VALUES_8BIT => {
            Held::Moments8
        }
        _ => Held::Moments,
    }
}

/// A matrix inside a layer: neither embedding nor head, whose rows belong to tokens.
fn is_hidden_matrix(spec: &ParamSpec) -> bool {
    spec.shape.len() == 2 && spec.name.starts_with("model.layers.")
}

/// What a step is for all parameters.
pub(super) struct Step<'a> {
    pub settings: &'a OptimizerSettings,
    pub learning_rate: f64,
    /// From 1.
    pub number: u64,
    /// What gradients are multiplied with: clipping.
    pub grad_scale: f64,
}

impl Step<'_> {
    /// For a parameter of this shape.
    fn adamw(&self, shape: &[usize]) -> AdamWStep {
        let settings = self.settings;
        AdamWStep {
            learning_rate: self.learning_rate as f32,
            beta1: settings.betas[0] as f32,
            beta2: settings.betas[1] as f32,
            eps: settings.eps as f32,
            weight_decay: if shape.len() > 1 { settings.weight_decay as f32 } else { 0.0 },
            step: self.number,
            grad_scale: self.grad_scale as f32,
        }
    }

    fn muon(&self) -> MuonStep {
        MuonStep {
            learning_rate: self.learning_rate,
            momentum: self.settings.muon.momentum,
            iterations: self.settings.muon.iterations,
            weight_decay: self.settings.weight_decay,
            grad_scale: self.grad_scale,
        }
    }
}
