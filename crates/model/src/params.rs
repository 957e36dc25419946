//! All parameters of a model in one f32 buffer, so that optimizer, clipping and checkpoint see one slice.

use std::collections::HashMap;
use std::sync::Arc;

use shakti_kernels::Aligned;

use crate::{ModelConfig, ModelError, ParamSpec};

/// Where each parameter stands in the buffer; shared by weights, gradients and optimizer states.
#[derive(Debug)]
pub struct Layout {
    specs: Vec<ParamSpec>,
    /// Start of each parameter, and the total as last entry; in elements.
    offsets: Vec<usize>,
    by_name: HashMap<String, usize>,
    /// Indices by place in the decoder; an adapter's layout has none.
    places: Option<Places>,
}

/// Indices into [`Layout::specs`] of a weight and its bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub weight: usize,
    pub bias: Option<usize>,
}

/// Indices of one layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerPlaces {
    pub input_norm: Place,
    pub q: Place,
    pub k: Place,
    pub v: Place,
    pub o: Place,
    pub post_norm: Place,
    pub gate: Place,
    pub up: Place,
    pub down: Place,
}

/// Indices of the whole decoder; a tied head is the embedding.
#[derive(Debug)]
pub(crate) struct Places {
    pub embed: Place,
    pub layers: Vec<LayerPlaces>,
    pub norm: Place,
    /// Of a model without one, the embedding; nothing multiplies by it then.
    pub lm_head: Place,
    /// The head that gives one score, if there is one.
    pub score: Option<usize>,
}

/// State-dict name of the head that gives one score.
pub(crate) const SCORE: &str = "score.weight";

impl Layout {
    /// The layout of a configuration, in state-dict order.
    pub fn new(config: &ModelConfig) -> Self {
        let mut layout = Self::of(config.parameters());
        layout.places = Some(Places::new(config, &layout.by_name));
        layout
    }

    /// A layout of parameters that are not a whole model's.
    pub(crate) fn of(specs: Vec<ParamSpec>) -> Self {
        let mut offsets = vec![0];
        for spec in &specs {
            offsets.push(offsets[offsets.len() - 1] + spec.num_elements());
        }
        let by_name = specs.iter().enumerate().map(|(index, spec)| (spec.name.clone(), index)).collect();
        Self { specs, offsets, by_name, places: None }
    }

    /// Indices by place in the decoder; only asked of a model's layout.
    pub(crate) fn places(&self) -> &Places {
        self.places.as_ref().expect("the layout of a model, not of an adapter")
    }

    /// Names and shapes in order.
    pub fn specs(&self) -> &[ParamSpec] {
        &self.specs
    }

    /// Number of elements of all parameters.
    pub fn num_elements(&self) -> usize {
        self.offsets[self.specs.len()]
    }

    /// Elements of parameter `index`.
    pub fn range(&self, index: usize) -> std::ops::Range<usize> {
        self.offsets[index]..self.offsets[index + 1]
    }

    /// Index of a state-dict name.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

impl Places {
    fn new(config: &ModelConfig, by_name: &HashMap<String, usize>) -> Self {
        let place = |prefix: String| Place {
            weight: by_name[&format!("{prefix}.weight")],
            bias: by_name.get(&format!("{prefix}.bias")).copied(),
        };
        let layers = (0..config.num_hidden_layers).map(|index| {
            let prefix = format!("model.layers.{index}");
            let linear = |name: &str| place(format!("{prefix}.{name}_proj"));
            LayerPlaces {
                input_norm: place(format!("{prefix}.input_layernorm")),
                q: linear("self_attn.q"),
                k: linear("self_attn.k"),
                v: linear("self_attn.v"),
                o: linear("self_attn.o"),
                post_norm: place(format!("{prefix}.post_attention_layernorm")),
                gate: linear("mlp.gate"),
                up: linear("mlp.up"),
                down: linear("mlp.down"),
            }
        });
        let embed = place("model.embed_tokens".into());
        Self {
            embed,
            layers: layers.collect(),
            norm: place("model.norm".into()),
            lm_head: if by_name.contains_key("lm_head.weight") { place("lm_head".into()) } else { embed },
            score: by_name.get(SCORE).copied(),
        }
    }
}

/// f32 parameters (or gradients, or optimizer states) of one model.
#[derive(Clone, Debug)]
pub struct Parameters {
    layout: Arc<Layout>,
    /// All elements, in the order of the layout.
    pub data: Aligned,
}

impl Parameters {
    /// Zeros for every parameter.
    pub fn zeros(layout: Arc<Layout>) -> Self {
        let data = Aligned::zeros(layout.num_elements());
        Self { layout, data }
    }

    /// Random initial weights: normal with `initializer_range`, norms at one, the score head at zero, and the projections that write
    /// into the residual stream (`o_proj`, `down_proj`) scaled by `1 / sqrt(2 L)`. The same seed gives the
    /// same bits on every machine.
    pub fn init(config: &ModelConfig, layout: Arc<Layout>, seed: u64) -> Self {
        let mut params = Self::zeros(layout.clone());
        let residual_scale = 1.0 / (2.0 * config.num_hidden_layers as f32).sqrt();
        for (index, spec) in layout.specs().iter().enumerate() {
            let values = params.slice_mut(index);
            if spec.name.ends_with("norm.weight") {
                values.fill(1.0);
            } else if spec.shape.len() == 2 && spec.name != SCORE {
                let residual =
                    ["o_proj.weight", "down_proj.weight"].iter().any(|end| spec.name.ends_with(end));
                let deviation = config.initializer_range * if residual { residual_scale } else { 1.0 };
                fill_normal(values, deviation, crate::rng::mix(seed ^ crate::rng::mix(index as u64)));
            }
        }
        params
    }

    /// The layout that these parameters follow.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Elements of parameter `index`.
    pub fn slice(&self, index: usize) -> &[f32] {
        &self.data[self.layout.range(index)]
    }

    /// Elements of parameter `index`.
    pub fn slice_mut(&mut self, index: usize) -> &mut [f32] {
        let range = self.layout.range(index);
        &mut self.data[range]
    }

    /// Elements of a parameter by its state-dict name.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout.index(name).map(|index| self.slice(index))
    }

    /// Copies values into the named parameter.
    ///
    /// # Errors
    /// Names a parameter that does not exist or whose size differs.
    pub fn set(&mut self, name: &str, values: &[f32]) -> Result<(), ModelError> {
        let expected = self.layout.index(name);
        let wrong = |expected: String| ModelError::Tensor {
            name: name.into(),
            expected,
            found: format!("{} elements", values.len()),
        };
        let index = expected.ok_or_else(|| wrong("a parameter of this configuration".into()))?;
        let slot = self.slice_mut(index);
        if slot.len() != values.len() {
            return Err(wrong(format!("{} elements", slot.len())));
        }
        slot.copy_from_slice(values);
        Ok(())
    }
}

/// Where a backward pass adds gradients: those of every parameter of a model, or an adapter's alone.
pub(crate) enum Gradients<'a> {
    Model(&'a mut Parameters),
    Adapter(&'a mut Parameters),
}

impl Gradients<'_> {
    /// Of parameter `index` of the model; `None` where it is frozen.
    pub fn model(&mut self, index: usize) -> Option<&mut [f32]> {
        match self {
            Self::Model(grads) => Some(grads.slice_mut(index)),
            Self::Adapter(_) => None,
        }
    }

    /// Of several parameters of the model, all different; `None` where they are frozen.
    pub fn model_many<const COUNT: usize>(&mut self, indices: [usize; COUNT]) -> Option<[&mut [f32]; COUNT]> {
        match self {
            Self::Model(grads) => {
                let ranges = indices.map(|index| grads.layout.range(index));
                Some(grads.data.get_disjoint_mut(ranges).expect("different parameters"))
            }
            Self::Adapter(_) => None,
        }
    }

    /// All of them.
    pub fn all(&self) -> &Parameters {
        match self {
            Self::Model(grads) | Self::Adapter(grads) => grads,
        }
    }

    /// Of the adapter, if that is what is trained.
    pub fn adapter(&mut self) -> Option<&mut Parameters> {
        match self {
            Self::Model(_) => None,
            Self::Adapter(grads) => Some(grads),
        }
    }
}

/// Normal numbers by Box and Muller over a counter; f64 inside, so rounding does not depend on the machine's
/// vector width.
fn fill_normal(values: &mut [f32], deviation: f32, seed: u64) {
    let uniform = |counter: u64| crate::rng::uniform(seed.wrapping_add(counter));
    for (pair, chunk) in values.chunks_mut(2).enumerate() {
        let radius = (-2.0 * uniform(2 * pair as u64).ln()).sqrt();
        let angle = std::f64::consts::TAU * uniform(2 * pair as u64 + 1);
        for (value, direction) in chunk.iter_mut().zip([angle.cos(), angle.sin()]) {
            *value = deviation * (radius * direction) as f32;
        }
    }
}
