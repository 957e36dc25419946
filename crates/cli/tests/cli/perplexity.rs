//! `shakti perplexity`.

use crate::common::{arg, fixture, model, shakti};

#[test]
fn loss_perplexity_and_bits_per_byte_belong_together() {
    let (model, text) = (model(), fixture().join("perplexity.txt"));
    std::fs::write(&text, crate::common::TEXT.repeat(30)).expect("a text file");
    let report = shakti(&["perplexity", "-m", arg(&model), arg(&text), "--context", "64", "--json"]).json();
    let number = |name: &str, part: &str| report[name][part].as_f64().expect("a number");
    let (tokens, bytes) =
        (report["tokens"].as_f64().expect("tokens"), report["bytes"].as_f64().expect("bytes"));
    assert_eq!(bytes, (crate::common::TEXT.len() * 30) as f64, "every byte counts, the begin token has none");
    let loss = number("loss", "value");
    assert!((number("perplexity", "value") - loss.exp()).abs() < 1e-6 * loss.exp());
    assert!((number("bits_per_byte", "value") - loss * tokens / bytes / std::f64::consts::LN_2).abs() < 1e-9);
    assert!(number("loss", "low") <= loss && loss <= number("loss", "high"));
    // A random model is about as good as guessing among 300 ids.
    assert!((3.0..30.0).contains(&loss), "{loss}");
    let printed = shakti(&["perplexity", "-m", arg(&model), arg(&text), "--context", "64"]).ok();
    assert!(printed.contains(&format!("{loss:.4}")), "{printed}");
}

#[test]
fn the_divergence_from_a_reference_is_zero_for_itself_alone() {
    let (model, text) = (model(), fixture().join("text.txt"));
    let quantized = fixture().join("diverging.gguf");
    shakti(&["quantize", arg(&model), arg(&quantized), "--type", "q4_0"]).ok();
    let divergence = |of: &std::path::Path, kv_type: &str| {
        let args = ["perplexity", "-m", arg(of), arg(&text), "--reference", arg(&model), "--json"];
        let report = shakti(&[&args[..], &["--kv-type", kv_type]].concat()).json();
        report["kl_divergence"]["value"].as_f64().expect("a number")
    };
    assert!(divergence(&model, "f32").abs() < 1e-9);
    let [half, eight] = ["f16", "q8_0"].map(|kv_type| divergence(&model, kv_type));
    assert!(1e-9 < half && half < eight && eight < 1e-2, "{half} and {eight}");
    assert!(divergence(&quantized, "f32") > 1e-6);
}

#[test]
fn windows_that_do_not_fit_and_empty_texts_are_refused() {
    let (model, text) = (model(), fixture().join("text.txt"));
    let message = shakti(&["perplexity", "-m", arg(&model), arg(&text), "--context", "512"]).refused();
    assert!(message.contains("512") && message.contains("256"), "{message}");
    let empty = fixture().join("empty.txt");
    std::fs::write(&empty, "").expect("a file");
    let message = shakti(&["perplexity", "-m", arg(&model), arg(&empty)]).refused();
    assert!(message.contains("empty.txt"), "{message}");
}
