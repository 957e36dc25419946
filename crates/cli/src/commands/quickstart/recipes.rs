//! The training stages as recipes, the same kind that `shakti train` reads.

use std::path::{Path, PathBuf};

use shakti_train::Recipe;

use super::files::Files;

/// Seed of splits, weights and order.
pub const SEED: u64 = 1;
/// Share of the source documents held out for validation during training.
pub const VALIDATION_SHARE: f64 = 0.03;
/// Share of the source documents that only the final measurements see.
pub const TEST_SHARE: f64 = 0.07;

/// Pretraining gets most of the time where fine-tuning follows: everything the model knows comes from there.
const PRETRAIN_SHARE: f64 = 0.72;

/// What is trained of a model that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// An adapter beside its weights.
    Adapter,
    /// All its weights.
    Full,
}

impl Tuning {
    /// Name of the run folder.
    pub const fn run(self) -> &'static str {
        match self {
            Self::Adapter => "lora",
            Self::Full => "full",
        }
    }
}

/// What the stages of one quickstart share.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// Where the run folders go.
    pub out: &'a Path,
    /// What is trained on.
    pub files: &'a Files,
    /// Minutes of training, all stages together.
    pub minutes: f64,
}

impl Chain<'_> {
    /// Trains the tokenizer and the model on texts and, as texts, on conversations.
    pub fn pretrain(&self) -> Recipe {
        let share = if self.files.chats.is_empty() { 1.0 } else { PRETRAIN_SHARE };
        recipe(&format!(
            "{}\n[model]\npreset = \"shakti-nano\"\n\n[tokenizer.train]\nvocab_size = 4096\n\n{}",
            data(&self.files.all(), &[]),
            self.train("pretrain", self.minutes * share, "1.5e-3"),
        ))
    }

    /// Fine-tunes on answers only.
    pub fn sft(&self, from: &Path) -> Recipe {
        recipe(&format!(
            "{}\n[model]\nfrom = {}\n\n{}",
            data(&paths(&self.files.chats), &paths(&self.files.texts)),
            quoted(from),
            self.train("sft", self.minutes * (1.0 - PRETRAIN_SHARE), "7e-4"),
        ))
    }

    /// Tunes a model that exists: on answers where there are conversations, else on texts.
    pub fn tune(&self, base: &Path, tuning: Tuning, max_position_embeddings: usize) -> Recipe {
        let (stage, sources, others) = match self.files.chats.is_empty() {
            true => ("pretrain", &self.files.texts, &self.files.chats),
            false => ("sft", &self.files.chats, &self.files.texts),
        };
        let (adapter, learning_rate) = match tuning {
            Tuning::Adapter => ("[lora]\nrank = 16\nalpha = 32.0\n\n", "1e-3"),
            Tuning::Full => ("", "7e-4"),
        };
        let mut recipe = recipe(&format!(
            "{}\n[model]\nfrom = {}\n\n{adapter}{}",
            data(&paths(sources), &paths(others)),
            quoted(base),
            self.train(stage, self.minutes, learning_rate),
        ));
        recipe.train.sequence_length = max_position_embeddings.min(512);
        recipe.output.dir = self.out.join(tuning.run());
        recipe
    }

    fn train(&self, stage: &str, minutes: f64, learning_rate: &str) -> String {
        format!(
            "[train]\nstage = \"{stage}\"\nminutes = {minutes}\nsequence_length = 256\nbatch_tokens = 1024\n\
             peak_learning_rate = {learning_rate}\nschedule = \"cosine\"\nwarmup_share = 0.05\n\
             min_learning_rate_share = 0.05\nvalidate_every = 100\nvalidation_tokens = 16384\nseed = {SEED}\n\n\
             [output]\ndir = {}\n",
            quoted(&self.out.join(stage)),
        )
    }
}

fn paths(list: &[PathBuf]) -> Vec<&Path> {
    list.iter().map(PathBuf::as_path).collect()
}

fn data(sources: &[&Path], split_with: &[&Path]) -> String {
    let list = |paths: &[&Path]| paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ");
    let sources: Vec<String> = sources.iter().map(|path| format!("{{ path = {} }}", quoted(path))).collect();
    format!(
        "[data]\nsplit_seed = {SEED}\nvalidation_share = {VALIDATION_SHARE}\ntest_share = {TEST_SHARE}\n\
         split_with = [{}]\nsources = [{}]\n",
        list(split_with),
        sources.join(", ")
    )
}

fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}

fn recipe(text: &str) -> Recipe {
    toml::from_str(text).expect("the quickstart's own recipe is valid; a test reads it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_recipes_are_valid_whatever_the_folder_is_called() {
        let out = Path::new("a \"b\"\\c");
        let files = Files { texts: vec![out.join("t.jsonl")], chats: vec![out.join("q.jsonl")] };
        let chain = Chain { out, files: &files, minutes: 2.0 };
        let (pretrain, sft) = (chain.pretrain(), chain.sft(&out.join("m")));
        assert_eq!(pretrain.output.dir, out.join("pretrain"));
        assert_eq!((pretrain.data.sources.len(), sft.data.sources.len()), (2, 1));
        assert_eq!(sft.data.split_with, [out.join("t.jsonl")]);
        let minutes = pretrain.train.minutes.unwrap() + sft.train.minutes.unwrap();
        assert!((minutes - 2.0).abs() < 1e-9);
        for (tuning, run) in [(Tuning::Adapter, "lora"), (Tuning::Full, "full")] {
            let tune = chain.tune(&out.join("base"), tuning, 384);
            assert_eq!((tune.train.sequence_length, tune.output.dir), (384, out.join(run)));
            assert_eq!((tune.lora.is_some(), tune.train.stage), (run == "lora", shakti_train::Stage::Sft));
        }
        let texts_only = Files { texts: files.texts.clone(), chats: Vec::new() };
        let chain = Chain { files: &texts_only, ..chain };
        assert_eq!(chain.pretrain().train.minutes, Some(2.0));
        assert_eq!(chain.tune(out, Tuning::Full, 2048).train.stage, shakti_train::Stage::Pretrain);
    }
}
