//! The weights that a forward pass reads: borrowed f32 parameters in training, packed blocks when serving. The
//! decoder does not know which.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use shakti_kernels::blocks::DType;
use shakti_kernels::{Cpu, PackedMatrix, Screen, StoredMatrix};

use crate::adapter::{Adapter, LowRank};
use crate::params::{Parameters, Place, Places};
use crate::{ModelConfig, ModelError, ParamSpec};
use group::{GROUP_BYTES, Group, is_matrix, wrong};
pub use kept::KeptMatrix;

mod group;
mod kept;

/// A matrix `[out, in]`.
pub enum Matrix<'a> {
    /// Row-major f32.
    Dense(&'a [f32]),
    /// Repacked for serving, in any stored type.
    Packed(&'a PackedMatrix),
    /// As its source stores it.
    Stored(&'a KeptMatrix),
}

/// Sees what goes into the linear layers of a forward pass.
pub trait InputObserver {
    /// The rows `x [N, in]` that are about to be multiplied by parameter `index` of [`crate::Layout::specs`].
    fn input(&self, index: usize, x: &[f32]);
}

/// A linear layer's weight `[out, in]` and bias `[out]`.
pub struct LinearWeight<'a> {
    pub(crate) matrix: Matrix<'a>,
    pub(crate) bias: Option<&'a [f32]>,
    /// Its index in the layout, and who looks on.
    observer: Option<(usize, &'a dyn InputObserver)>,
    /// What an adapter adds.
    pub(crate) low_rank: Option<LowRank<'a>>,
    /// Whether the matrix is multiplied by its f32 values even if it is not dense, as a backward pass needs.
    pub(crate) by_values: bool,
}

impl<'a> LinearWeight<'a> {
    /// The matrix, if it is packed.
    pub(crate) fn packed(&self) -> Option<&'a PackedMatrix> {
        match self.matrix {
            Matrix::Packed(matrix) => Some(matrix),
            _ => None,
        }
    }

    /// Shows `x [N, in]` to the observer, if there is one.
    pub(crate) fn observe(&self, x: &[f32]) {
        if let Some((index, observer)) = self.observer {
            observer.input(index, x);
        }
    }

    /// The matrix as its source stores it, if it is neither packed nor dense.
    pub(crate) fn stored(&self) -> Option<StoredMatrix<'a>> {
        match self.matrix {
            Matrix::Stored(matrix) => Some(matrix.stored()),
            _ => None,
        }
    }

    pub(crate) fn out_features(&self, in_features: usize) -> usize {
        match self.matrix {
            Matrix::Dense(values) => values.len() / in_features,
            Matrix::Packed(matrix) => matrix.rows(),
            Matrix::Stored(matrix) => matrix.shape()[0],
        }
    }

    /// The f32 values, if the matrix is dense.
    pub(crate) fn dense(&self) -> Option<&'a [f32]> {
        match self.matrix {
            Matrix::Dense(values) => Some(values),
            _ => None,
        }
    }

    /// The f32 values of some rows into `values [rows, in]`.
    pub(crate) fn rows(&self, cpu: &Cpu, rows: Range<usize>, values: &mut [f32]) {
        match &self.matrix {
            Matrix::Dense(all) => {
                let width = values.len() / rows.len();
                values.copy_from_slice(&all[rows.start * width..rows.end * width]);
            }
            Matrix::Packed(matrix) => cpu.dequantize_packed(values, matrix, rows),
            Matrix::Stored(matrix) => cpu.dequantize_stored(values, &matrix.stored(), rows),
        }
    }

    /// Copies rows of an embedding table `[V, D]` into `y [N, D]`.
    pub(crate) fn embed(&self, cpu: &Cpu, y: &mut [f32], ids: &[u32]) {
        match self.matrix {
            Matrix::Dense(table) => cpu.embedding(y, table, ids),
            Matrix::Packed(table) => {
                for (row, id) in y.chunks_exact_mut(table.cols()).zip(ids) {
                    table.dequantize_row(*id as usize, row);
                }
            }
            Matrix::Stored(table) => {
                let table = table.stored();
                for (row, id) in y.chunks_exact_mut(table.shape[1]).zip(ids) {
                    table.dequantize_row(*id as usize, row);
                }
            }
        }
    }
}

/// Weight and, for LayerNorm, bias `[D]`.
pub struct NormWeight<'a> {
    /// Scale.
    pub weight: &'a [f32],
    /// Shift, LayerNorm only.
    pub bias: Option<&'a [f32]>,
}

/// Weights of one layer.
pub struct LayerWeights<'a> {
    pub(crate) input_norm: NormWeight<'a>,
    pub(crate) q: LinearWeight<'a>,
    pub(crate) k: LinearWeight<'a>,
    pub(crate) v: LinearWeight<'a>,
    pub(crate) o: LinearWeight<'a>,
    pub(crate) post_norm: NormWeight<'a>,
    pub(crate) gate: LinearWeight<'a>,
    pub(crate) up: LinearWeight<'a>,
    pub(crate) down: LinearWeight<'a>,
}

/// Weights of a decoder, borrowed; each is looked up when it is asked for.
#[derive(Clone, Copy)]
pub struct Weights<'a> {
    source: Source<'a>,
    observer: Option<&'a dyn InputObserver>,
    adapter: Option<&'a Adapter>,
    /// In a training pass, the seed of the adapter's dropout.
    training: Option<u64>,
}

/// Where weights stand.
#[derive(Clone, Copy)]
enum Source<'a> {
    Dense(&'a Parameters),
    Packed(&'a PackedWeights),
}

impl<'a> Source<'a> {
    fn places(self) -> &'a Places {
        match self {
            Self::Dense(params) => params.layout().places(),
            Self::Packed(packed) => packed.layout.places(),
        }
    }

    fn matrix(self, index: usize) -> Matrix<'a> {
        match self {
            Self::Dense(params) => Matrix::Dense(params.slice(index)),
            Self::Packed(packed) => match &packed.tensors[index] {
                PackedTensor::Matrix(matrix) => Matrix::Packed(matrix),
                PackedTensor::Stored(matrix) => Matrix::Stored(matrix),
                PackedTensor::Vector(values) => Matrix::Dense(values),
            },
        }
    }

    fn vector(self, index: usize) -> &'a [f32] {
        match self {
            Self::Dense(params) => params.slice(index),
            Self::Packed(packed) => match &packed.tensors[index] {
                PackedTensor::Vector(values) => values,
                _ => unreachable!("one-dimensional tensors are loaded as vectors"),
            },
        }
    }
}

impl<'a> Weights<'a> {
    /// Dense weights for training.
    pub fn dense(params: &'a Parameters) -> Self {
        Self::of(Source::Dense(params))
    }

    fn of(source: Source<'a>) -> Self {
        Self { source, observer: None, adapter: None, training: None }
    }

    /// The same weights with an adapter, which must have been made for this configuration.
    pub fn adapted(self, adapter: &'a Adapter) -> Self {
        Self { adapter: Some(adapter), ..self }
    }

    /// What [`Weights::adapted`] was given.
    pub fn adapter(&self) -> Option<&'a Adapter> {
        self.adapter
    }

    /// For a pass that gradients are wanted of: matrices by their values, and dropout.
    pub(crate) fn in_training(self, dropout_seed: u64) -> Self {
        Self { training: Some(dropout_seed), ..self }
    }

    pub(crate) fn places(&self) -> &'a Places {
        self.source.places()
    }

    /// The same weights with an observer of every linear layer's input. The output head is shown only the rows that
    /// are scored: [`crate::Decoder::logits`] does, [`Weights::observe_head`] where no scores are needed.
    pub fn observed(self, observer: &'a dyn InputObserver) -> Self {
        Self { observer: Some(observer), ..self }
    }

    /// Shows normalised hidden states `[N, D]` to the head's observer without computing scores.
    pub fn observe_head(&self, hidden: &[f32]) {
        self.lm_head().observe(hidden);
    }

    /// The embedding table `[V, D]`.
    pub(crate) fn embed(&self) -> LinearWeight<'a> {
        self.linear(self.source.places().embed)
    }

    /// How many layers there are.
    pub(crate) fn num_layers(&self) -> usize {
        self.source.places().layers.len()
    }

    pub(crate) fn layer(&self, index: usize) -> LayerWeights<'a> {
        let places = &self.source.places().layers[index];
        LayerWeights {
            input_norm: self.norm_at(places.input_norm),
            q: self.linear(places.q),
            k: self.linear(places.k),
            v: self.linear(places.v),
            o: self.linear(places.o),
            post_norm: self.norm_at(places.post_norm),
            gate: self.linear(places.gate),
            up: self.linear(places.up),
            down: self.linear(places.down),
        }
    }

    /// The norm after the last layer.
    pub(crate) fn norm(&self) -> NormWeight<'a> {
        self.norm_at(self.source.places().norm)
    }

    /// The output head `[V, D]`.
    pub(crate) fn lm_head(&self) -> LinearWeight<'a> {
        self.linear(self.source.places().lm_head)
    }

    /// What [`PackedWeights::screen_head`] made.
    pub(crate) fn head_screen(&self) -> Option<&'a Screen> {
        match self.source {
            Source::Dense(_) => None,
            Source::Packed(packed) => packed.head_screen(),
        }
    }

    /// The matrix of parameter `index` alone.
    pub(crate) fn matrix(&self, index: usize) -> LinearWeight<'a> {
        let matrix = self.source.matrix(index);
        LinearWeight { matrix, bias: None, observer: None, low_rank: None, by_values: true }
    }

    fn linear(&self, place: Place) -> LinearWeight<'a> {
        LinearWeight {
            matrix: self.source.matrix(place.weight),
            bias: place.bias.map(|index| self.source.vector(index)),
            observer: self.observer.map(|observer| (place.weight, observer)),
            low_rank: self.adapter.and_then(|adapter| adapter.low_rank(place.weight, self.training)),
            by_values: self.training.is_some(),
        }
    }

    fn norm_at(&self, place: Place) -> NormWeight<'a> {
        let vector = |index| self.source.vector(index);
        NormWeight { weight: vector(place.weight), bias: place.bias.map(vector) }
    }
}

/// One stored tensor.
pub struct TensorData<'a> {
    /// Stored type.
    pub dtype: DType,
    /// Row-major bytes, rows of the last axis contiguous.
    pub bytes: Cow<'a, [u8]>,
}

/// A stored matrix, perhaps with its rows in another order than the model's.
pub struct MatrixData<'a> {
    /// Type and bytes.
    pub data: TensorData<'a>,
    /// As [`StoredMatrix::head_rows`].
    pub head_rows: Option<usize>,
}

impl MatrixData<'_> {
    fn stored(&self, shape: [usize; 2]) -> StoredMatrix<'_> {
        StoredMatrix { dtype: self.data.dtype, shape, bytes: &self.data.bytes, head_rows: self.head_rows }
    }
}

/// Anything that yields tensors by state-dict name in the shape of [`ModelConfig::parameters`]: a checkpoint
/// folder, a GGUF file, blocks in memory.
pub trait TensorSource {
    /// The tensor of `spec`; the source checks its shape.
    ///
    /// # Errors
    /// Whatever the source meets; it should name file and tensor.
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>>;

    /// The matrix of `spec` as the source stores it, so that its rows need not be put in order before they are read.
    ///
    /// # Errors
    /// As [`TensorSource::tensor`].
    fn matrix(&self, spec: &ParamSpec) -> Result<MatrixData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(MatrixData { data: self.tensor(spec)?, head_rows: None })
    }

    /// These tensors will all be read soon: a source that maps a file may fetch their pages.
    fn will_need(&self, _specs: &[&ParamSpec]) {}

    /// These tensors are not needed for now: a source that maps a file may let go of their pages.
    fn release(&self, _specs: &[&ParamSpec]) {}
}

/// f32 parameters are a source too, so a model in training can be served from memory.
impl TensorSource for Parameters {
    fn tensor(&self, spec: &ParamSpec) -> Result<TensorData<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let values = self.get(&spec.name).ok_or_else(|| format!("no tensor `{}`", spec.name))?;
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok(TensorData { dtype: DType::F32, bytes: Cow::Owned(bytes) })
    }
}

/// Weights repacked once at load for the serving kernels.
pub struct PackedWeights {
    layout: crate::params::Layout,
    tensors: Vec<PackedTensor>,
    head_screen: Option<Screen>,
}

enum PackedTensor {
    Matrix(PackedMatrix),
    Stored(KeptMatrix),
    Vector(Vec<f32>),
}

impl PackedWeights {
    /// Reads and repacks every parameter of the configuration, some at a time, and releases them.
    ///
    /// # Errors
    /// What the source reports, or a tensor whose bytes do not fit its shape and type.
    pub fn load(config: &ModelConfig, source: &dyn TensorSource, cpu: &Cpu) -> Result<Self, ModelError> {
        Self::load_but(config, source, cpu, Vec::new())
    }

    /// [`PackedWeights::load`], but matrices are checked alone and multiplied as the source stores them. That takes longer
    /// each time, but for a few passes over the weights less than repacking. A source that makes a matrix anew each time
    /// it is asked is read as [`PackedWeights::load`] does.
    ///
    /// # Errors
    /// As [`PackedWeights::load`].
    pub fn load_as_stored(
        config: &ModelConfig,
        source: &Arc<dyn TensorSource + Send + Sync>,
        cpu: &Cpu,
    ) -> Result<Self, ModelError> {
        let layout = crate::params::Layout::new(config);
        let matrices = layout.specs().iter().enumerate().filter(|(_, spec)| is_matrix(spec));
        let matrices = matrices.map(|(index, spec)| {
            Ok(KeptMatrix::new(source, spec)?.map(|matrix| (index, PackedTensor::Stored(matrix))))
        });
        let matrices = matrices.collect::<Result<Option<Vec<_>>, ModelError>>()?;
        let Some(matrices) = matrices else { return Self::load(config, &**source, cpu) };
        let weights = Self::load_but(config, &**source, cpu, matrices)?;
        // While nothing is multiplied yet; the head's pages come by all threads at once, and a table's are few.
        let places = [layout.places().embed.weight, layout.places().lm_head.weight];
        if weights.bytes() <= FETCHED_BYTES {
            let layers = layout.specs().iter().enumerate().filter(|(index, _)| !places.contains(index));
            source.will_need(&layers.map(|(_, spec)| spec).collect::<Vec<_>>());
        }
        Ok(weights)
    }

    /// Repacks what is not among `kept`, which is in the order of the layout.
    fn load_but(
        config: &ModelConfig,
        source: &dyn TensorSource,
        cpu: &Cpu,
        kept: Vec<(usize, PackedTensor)>,
    ) -> Result<Self, ModelError> {
        let layout = crate::params::Layout::new(config);
        let mut tensors = Vec::with_capacity(layout.specs().len());
        let mut group = Group::default();
        for (index, spec) in layout.specs().iter().enumerate() {
            if kept.binary_search_by_key(&index, |(index, _)| *index).is_ok() {
                continue;
            }
            group.push(spec, source)?;
            if group.bytes >= GROUP_BYTES {
                group.pack(cpu, source, &mut tensors)?;
            }
        }
        group.pack(cpu, source, &mut tensors)?;
        kept.into_iter().for_each(|(index, matrix)| tensors.insert(index, matrix));
        Ok(Self { layout, tensors, head_screen: None })
    }

    /// Makes a 4-bit copy of the output head, which tells which of its rows can be among the highest scores, so that the
    /// others need not be read. Does nothing where that would not save half of the head's bytes.
    ///
    /// # Errors
    /// Memory is short.
    pub fn screen_head(&mut self, cpu: &Cpu) -> Result<(), ModelError> {
        let place = self.layout.places().lm_head;
        if let (PackedTensor::Matrix(head), None) = (&self.tensors[place.weight], place.bias) {
            self.head_screen = Screen::new(cpu, head).map_err(|error| ModelError::Source(error.into()))?;
        }
        Ok(())
    }

    /// What [`PackedWeights::screen_head`] made.
    pub fn head_screen(&self) -> Option<&Screen> {
        self.head_screen.as_ref()
    }

    /// The view that a forward pass takes.
    pub fn weights(&self) -> Weights<'_> {
        Weights::of(Source::Packed(self))
    }

    /// Names, shapes and order of the parameters.
    pub fn layout(&self) -> &crate::Layout {
        &self.layout
    }

    /// Bytes of the weights, repacked or as they are stored.
    pub fn bytes(&self) -> usize {
        self.tensors.iter().map(PackedTensor::bytes).sum()
    }

    /// Bytes that one pass over the weights reads: all but an embedding table that is not the head as well.
    pub fn bytes_per_pass(&self) -> usize {
        let (embed, head) = (self.layout.places().embed.weight, self.layout.places().lm_head.weight);
        self.bytes() - if embed == head { 0 } else { self.tensors[embed].bytes() }
    }
}

impl PackedTensor {
    fn bytes(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.num_bytes(),
            Self::Stored(matrix) => matrix.stored().bytes.len(),
            Self::Vector(values) => 4 * values.len(),
        }
    }
}

/// Bytes of the largest model whose layers are fetched from its source at once; a larger one might not fit into memory as a whole.
const FETCHED_BYTES: usize = 512 << 20;
