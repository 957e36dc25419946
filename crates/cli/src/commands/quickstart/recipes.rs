//! The two training stages as recipes, the same kind that `shakti train` reads.

use std::path::Path;

use shakti_train::Recipe;

use super::data::Files;

/// Seed of splits, weights and order.
pub const SEED: u64 = 1;
/// Share of the source documents held out for validation during training.
pub const VALIDATION_SHARE: f64 = 0.03;
/// Share of the source documents that only the final measurements see.
pub const TEST_SHARE: f64 = 0.07;

/// Pretraining gets most of the time: everything the model knows comes from there.
const PRETRAIN_SHARE: f64 = 0.72;

/// Trains the tokenizer and the model on texts and, as texts, on questions with their answers.
pub fn pretrain(out: &Path, files: &Files, minutes: f64) -> Recipe {
    recipe(&format!(
        "{}\n[model]\npreset = \"shakti-nano\"\n\n[tokenizer.train]\nvocab_size = 4096\n\n\
         [train]\nstage = \"pretrain\"\nminutes = {}\nsequence_length = 256\nbatch_tokens = 1024\n\
         peak_learning_rate = 1.5e-3\nschedule = \"cosine\"\nwarmup_share = 0.05\nmin_learning_rate_share = 0.05\n\
         validate_every = 100\nvalidation_tokens = 16384\nseed = {SEED}\n\n[output]\ndir = {}\n",
        data(&[&files.text, &files.questions], &[]),
        minutes * PRETRAIN_SHARE,
        quoted(&out.join("pretrain")),
    ))
}

/// Fine-tunes on answers only.
pub fn sft(out: &Path, files: &Files, from: &Path, minutes: f64) -> Recipe {
    recipe(&format!(
        "{}\n[model]\nfrom = {}\n\n\
         [train]\nstage = \"sft\"\nminutes = {}\nsequence_length = 256\nbatch_tokens = 1024\n\
         peak_learning_rate = 7e-4\nschedule = \"cosine\"\nwarmup_share = 0.05\nmin_learning_rate_share = 0.05\n\
         validate_every = 100\nvalidation_tokens = 16384\nseed = {SEED}\n\n[output]\ndir = {}\n",
        data(&[&files.questions], &[&files.text]),
        quoted(from),
        minutes * (1.0 - PRETRAIN_SHARE),
        quoted(&out.join("sft")),
    ))
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
    fn both_recipes_are_valid_whatever_the_folder_is_called() {
        let out = Path::new("a \"b\"\\c");
        let files = Files { text: out.join("t.jsonl"), questions: out.join("q.jsonl") };
        let (pretrain, sft) = (pretrain(out, &files, 2.0), sft(out, &files, &out.join("m"), 2.0));
        assert_eq!(pretrain.output.dir, out.join("pretrain"));
        assert_eq!((pretrain.data.sources.len(), sft.data.sources.len()), (2, 1));
        assert_eq!(sft.data.split_with, [out.join("t.jsonl")]);
        let minutes = pretrain.train.minutes.unwrap() + sft.train.minutes.unwrap();
        assert!((minutes - 2.0).abs() < 1e-9);
    }
}
