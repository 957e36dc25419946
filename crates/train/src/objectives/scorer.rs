//! A reward model at work: the score of its last token for each sample.

use std::path::Path;
use std::sync::Arc;

use shakti_checkpoint::{ModelFile, TokenizerSource, load_parameters};
use shakti_data::Sequence;
use shakti_kernels::{Cpu, Precision};
use shakti_model::{Batch, Compute, Decoder, Heads, Layout, Parameters, Targets, Weights};

use super::feed::{runs, whole};
use crate::rewards::{Reward, RewardError, Sample};
use crate::text::Text;

/// Tokens of one pass.
const BATCH_TOKENS: usize = 4096;

/// Scores of a reward model that has the policy's vocabulary.
pub(crate) struct Scorer {
    decoder: Decoder,
    params: Parameters,
    cpu: Arc<Cpu>,
}

impl Scorer {
    /// Opens its folder.
    ///
    /// # Errors
    /// A folder that holds no reward model, or one of another vocabulary.
    pub fn open(path: &Path, text: &Text, cpu: Arc<Cpu>) -> Result<Self, RewardError> {
        let refuse = |problem: String| RewardError::File { path: path.into(), problem };
        let file = ModelFile::open(path).map_err(|error| refuse(error.to_string()))?;
        if file.config().heads != Heads::Score {
            return Err(refuse("a language model, expected a reward model (`shakti train reward`)".into()));
        }
        let theirs = match file.tokenizer() {
            TokenizerSource::Folder(folder) => {
                Text::open(folder).map_err(|error| refuse(error.to_string()))?
            }
            TokenizerSource::Gguf(_) => return Err(refuse("a GGUF file, expected a folder".into())),
        };
        if theirs.files().tokenizer_json != text.files().tokenizer_json {
            return Err(refuse("its tokenizer.json differs from that of the model that is trained".into()));
        }
        let layout = Arc::new(Layout::new(file.config()));
        let params = load_parameters(layout, &file).map_err(|error| refuse(error.to_string()))?;
        let decoder = Decoder::new(file.config().clone()).map_err(|error| refuse(error.to_string()))?;
        Ok(Self { decoder, params, cpu })
    }
}

impl Reward for Scorer {
    fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, RewardError> {
        let sequences: Vec<Sequence> =
            samples.iter().map(|sample| Sequence { ids: sample.ids.to_vec(), prompt_len: 0 }).collect();
        let sizes: Vec<usize> = sequences.iter().map(|sequence| sequence.ids.len()).collect();
        let compute = Compute { cpu: &self.cpu, precision: Precision::F32 };
        let weights = Weights::dense(&self.params);
        let mut scores = Vec::with_capacity(samples.len());
        for run in runs(&sizes, BATCH_TOKENS) {
            let batch = whole(&sequences[run]);
            let rows: Vec<_> =
                batch.segments.iter().map(|segment| segment.start..segment.start + segment.len).collect();
            let pair = Batch { tokens: &batch.tokens, rows: &rows };
            let targets = Targets { targets: &batch.targets, weights: &batch.weights };
            let outputs = self
                .decoder
                .outputs(compute, &weights, pair, targets)
                .map_err(|cause| RewardError::Model(Box::new(cause)))?;
            scores.extend(rows.iter().map(|rows| outputs.values[rows.end - 1]));
        }
        Ok(scores)
    }
}
