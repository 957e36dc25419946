//! What a recipe can ask of a run besides steps: optimizers that resume.

use crate::common::{arg, shakti};
use crate::train::{data, result};

#[test]
fn every_optimizer_goes_on_from_a_checkpoint_with_the_same_bits() {
    let mut results = Vec::new();
    for optimizer in ["adamw", "adamw8", "muon"] {
        let data = data();
        let (recipe, out) = (data.path().join("recipe.toml"), data.path().join("out"));
        let kind = format!("train.optimizer={optimizer}");
        let run = |resume: &[&str]| {
            let changes =
                ["--set", &kind, "--set", "train.save_every=5", "--set", "train.keep_checkpoints=3"];
            shakti(&[&["train", "pretrain", arg(&recipe)], &changes[..], resume].concat())
        };
        run(&[]).ok();
        let whole = result(&out);
        for step in [10, 12] {
            std::fs::remove_dir_all(out.join(format!("checkpoint-{step}"))).expect("a checkpoint");
        }
        std::fs::remove_dir_all(out.join("model")).expect("the model");
        let message = run(&["--resume"]);
        assert!(message.stderr.contains("resumed after step 5"), "{}", message.stderr);
        message.ok();
        assert!(result(&out) == whole, "{optimizer}: other weights or another loss curve");
        results.push(whole.1);
    }
    assert!(results[0] != results[1] && results[1] != results[2], "the optimizers differ");
}
