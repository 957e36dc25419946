//! What a recipe's types cannot say: ranges, and keys that exclude each other.

use super::{FinalModel, Recipe, distill, lora, online, preference, qat};

/// A key and what is wrong with it.
pub(super) type Problem = (&'static str, String);

pub(super) fn check(recipe: &Recipe) -> Result<(), Problem> {
    model(recipe)?;
    lora::check(recipe)?;
    data(recipe)?;
    lengths(recipe)?;
    preference::check(recipe)?;
    online::check(recipe)?;
    qat::check(recipe)?;
    distill::check(recipe)?;
    learning_rate(recipe)?;
    optimizer(recipe)?;
    control(recipe)
}

pub(super) fn ensure(ok: bool, key: &'static str, problem: impl FnOnce() -> String) -> Result<(), Problem> {
    if ok { Ok(()) } else { Err((key, problem())) }
}

fn in_range(key: &'static str, value: f64, low: f64, high: f64) -> Result<(), Problem> {
    ensure((low..=high).contains(&value), key, || format!("{value}, expected {low} to {high}"))
}

fn model(recipe: &Recipe) -> Result<(), Problem> {
    let model = &recipe.model;
    let given = [model.preset.is_some(), model.config.is_some(), model.from.is_some(), model.size.is_some()];
    let count = given.iter().filter(|given| **given).count();
    ensure(count == 1, "model", || {
        format!("{count} of `preset`, `config`, `from` and `size` are given, expected one")
    })?;
    let tokenizer = &recipe.tokenizer;
    ensure(tokenizer.path.is_none() || tokenizer.train.is_none(), "tokenizer", || {
        "`path` and `train` exclude each other".into()
    })?;
    let has_tokenizer = tokenizer.path.is_some() || tokenizer.train.is_some() || model.from.is_some();
    ensure(has_tokenizer, "tokenizer", || {
        "expected `path` or `train`, because there is no `model.from`".into()
    })?;
    ensure(tokenizer.train.is_none() || model.from.is_none(), "tokenizer.train", || {
        "a new tokenizer does not fit the weights of `model.from`".into()
    })?;
    let reserved = ["vocab_size", "bos_token_id", "eos_token_id", "pad_token_id"];
    let taken = reserved.iter().find(|key| model.overrides.contains_key(**key));
    ensure(taken.is_none(), "model.overrides", || {
        format!("`{}` comes from the tokenizer", taken.copied().unwrap_or_default())
    })?;
    match model.overrides.iter().find(|(_, value)| !is_finite(value)) {
        Some((key, value)) => {
            Err(("model.overrides", format!("`{key}` is {value}, expected a finite number")))
        }
        None => Ok(()),
    }
}

/// Whether every number of a value is finite: `config.json` knows no others, and a NaN would differ from itself.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(number) => number.is_finite(),
        toml::Value::Array(values) => values.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}

fn data(recipe: &Recipe) -> Result<(), Problem> {
    let data = &recipe.data;
    ensure(!data.sources.is_empty(), "data.sources", || "no sources".into())?;
    let weights: Vec<f64> = data.sources.iter().filter_map(|source| source.weight).collect();
    if let Some(bad) = weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
        return Err(("data.sources", format!("weight {bad}, expected a positive number")));
    }
    ensure(weights.is_empty() || weights.len() == data.sources.len(), "data.sources", || {
        "some have a weight and some have none".into()
    })?;
    in_range("data.validation_share", data.validation_share, 0.0, 0.5)?;
    in_range("data.test_share", data.test_share, 0.0, 0.5)?;
    ensure(
        recipe.train.validation_tokens == 0 || data.validation_share > 0.0,
        "data.validation_share",
        || "0 leaves nothing to validate on; set train.validation_tokens to 0 too".into(),
    )
}

fn lengths(recipe: &Recipe) -> Result<(), Problem> {
    let train = &recipe.train;
    ensure((8..=1 << 24).contains(&train.sequence_length), "train.sequence_length", || {
        format!("{}, expected 8 to {}", train.sequence_length, 1 << 24)
    })?;
    let micro = recipe.micro_batch_tokens();
    ensure((1..=1 << 28).contains(&train.batch_tokens), "train.batch_tokens", || {
        format!("{}, expected 1 to {}", train.batch_tokens, 1 << 28)
    })?;
    ensure(micro > 0 && train.batch_tokens.is_multiple_of(micro), "train.micro_batch_tokens", || {
        format!("{micro}, expected a divisor of batch_tokens {}", train.batch_tokens)
    })?;
    let micro_key =
        if train.micro_batch_tokens.is_some() { "train.micro_batch_tokens" } else { "train.batch_tokens" };
    ensure(micro >= train.sequence_length, micro_key, || {
        format!("{micro}, expected at least sequence_length {}", train.sequence_length)
    })?;
    ensure(train.keep_checkpoints >= 1, "train.keep_checkpoints", || "0, expected at least 1".into())?;
    match (train.steps, train.minutes) {
        (Some(0), _) => Err(("train.steps", "0, expected at least 1".into())),
        (Some(_), None) => Ok(()),
        (None, Some(minutes)) => ensure(minutes > 0.0 && minutes <= 1e7, "train.minutes", || {
            format!("{minutes}, expected more than 0 and at most 10000000")
        }),
        (None, None) => Err(("train", "expected `steps` or `minutes`".into())),
        (Some(_), Some(_)) => Err(("train.minutes", "`steps` and `minutes` exclude each other".into())),
    }
}

fn learning_rate(recipe: &Recipe) -> Result<(), Problem> {
    let train = &recipe.train;
    let rate = train.peak_learning_rate;
    ensure(rate > 0.0 && rate <= 10.0, "train.peak_learning_rate", || {
        format!("{rate}, expected more than 0 and at most 10")
    })?;
    in_range("train.min_learning_rate_share", train.min_learning_rate_share, 0.0, 1.0)?;
    in_range("train.decay_share", train.decay_share, 0.0, 1.0)?;
    in_range("train.warmup_share", train.warmup_share.unwrap_or(0.0), 0.0, 1.0)?;
    ensure(train.warmup_steps.is_none() || train.warmup_share.is_none(), "train.warmup_share", || {
        "`warmup_steps` and `warmup_share` exclude each other".into()
    })?;
    let (warmup, steps) = (train.warmup_steps.unwrap_or(0), train.steps.unwrap_or(u64::MAX));
    ensure(warmup <= steps, "train.warmup_steps", || format!("{warmup}, expected at most steps {steps}"))
}

fn optimizer(recipe: &Recipe) -> Result<(), Problem> {
    let train = &recipe.train;
    let adamw = &train.adamw;
    let betas_fit = adamw.betas.iter().all(|beta| (0.0..1.0).contains(beta));
    ensure(betas_fit, "train.adamw.betas", || {
        format!("{:?}, expected 0 up to but not including 1", adamw.betas)
    })?;
    ensure(adamw.eps > 0.0 && adamw.eps <= 1.0, "train.adamw.eps", || {
        format!("{}, expected more than 0 and at most 1", adamw.eps)
    })?;
    in_range("train.adamw.weight_decay", adamw.weight_decay, 0.0, 10.0)?;
    let muon = &train.muon;
    ensure((0.0..1.0).contains(&muon.momentum), "train.muon.momentum", || {
        format!("{}, expected 0 up to but not including 1", muon.momentum)
    })?;
    ensure((1..=20).contains(&muon.iterations), "train.muon.iterations", || {
        format!("{}, expected 1 to 20", muon.iterations)
    })?;
    in_range("train.clip_grad_norm", train.clip_grad_norm, 0.0, f64::MAX)?;
    let ratio = train.max_grad_norm_ratio;
    ensure(ratio == 0.0 || ratio > 1.0, "train.max_grad_norm_ratio", || {
        format!("{ratio}, expected 0 or more than 1")
    })
}

fn control(recipe: &Recipe) -> Result<(), Problem> {
    let (control, train) = (&recipe.control, &recipe.train);
    let validates = train.validate_every > 0 && train.validation_tokens > 0;
    let needed = [
        ("control.patience", control.patience > 0),
        ("control.keep_best", control.keep_best > 0),
        ("control.final_model", control.final_model == FinalModel::Best),
    ];
    for (key, asks) in needed {
        ensure(!asks || validates, key, || {
            "needs validations: set train.validate_every and train.validation_tokens".into()
        })?;
    }
    ensure(control.final_model != FinalModel::Best || control.keep_best > 0, "control.keep_best", || {
        "0, expected at least 1 for final_model `best`".into()
    })?;
    let min = control.min_improvement;
    ensure(min >= 0.0 && min.is_finite(), "control.min_improvement", || format!("{min}, expected 0 or more"))
}
