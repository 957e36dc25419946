//! Training recipes.

use std::path::Path;

use shakti_fuzz::Target;
use shakti_train::Recipe;

#[test]
fn toml() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/nano");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a recipe");
    let seeds = vec![read("pretrain.toml"), read("sft.toml")];
    let words = [
        "[",
        "]",
        "=",
        "\"",
        "{",
        "}",
        ".",
        "[train]",
        "steps",
        "minutes",
        "1e999",
        "nan",
        "-1",
        "\n",
        "[[data.sources]]",
    ];
    Target { test: "recipe::toml", seeds, words: &words, rounds: 3_000 }.run(|bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        let Ok(recipe) = Recipe::parse(text, "recipe.toml", &["train.seed=1".into()]) else { return false };
        let written = Recipe::parse(&recipe.to_toml(), "recipe.toml", &[]).expect("what was written is read");
        assert_eq!(written, recipe);
        true
    });
}
