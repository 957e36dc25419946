//! `shakti data inspect`.

use crate::common::{arg, fixture, model, shakti};

#[test]
fn a_file_is_described_with_a_masked_sample_and_its_overlap() {
    let file = fixture().join("questions.jsonl");
    let record = |n: usize| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"What is disease {n}?\"}}, \
             {{\"role\": \"assistant\", \"content\": \"Disease {n} is an illness of the lungs.\"}}], \"document\": \"d{n}\"}}\n"
        )
    };
    let text: String = (0..40).map(record).chain([record(3)]).collect();
    std::fs::write(&file, text).expect("a file");
    let plain = shakti(&["data", "inspect", arg(&file)]).ok();
    for part in [
        "41 conversations",
        "40 named",
        "1 duplicates",
        "user: What is disease 0?",
        "splits",
        "13-gram overlap of test with train",
    ] {
        assert!(plain.contains(part), "`{part}` in: {plain}");
    }
    let model = model();
    let args = ["data", "inspect", arg(&file), "--tokenizer", arg(&model), "--sample", "2", "--json"];
    let report = shakti(&args).json();
    assert_eq!(report["chats"], 41);
    let target: String = report["sample"]
        .as_array()
        .expect("parts")
        .iter()
        .filter(|part| part["is_target"] == true)
        .filter_map(|part| part["text"].as_str())
        .collect();
    assert_eq!(target, "Disease 2 is an illness of the lungs.<|end|>", "what is learned");
    let splits = report["splits"].as_array().expect("splits");
    let records: u64 = splits.iter().filter_map(|split| split["records"].as_u64()).sum();
    assert_eq!(records, 40);
}

#[test]
fn a_damaged_line_is_named() {
    let file = fixture().join("damaged.jsonl");
    std::fs::write(&file, "{\"text\": \"one\"}\n{\"text\": 5}\n").expect("a file");
    let message = shakti(&["data", "inspect", arg(&file)]).refused();
    assert!(message.contains("damaged.jsonl") && message.contains('2'), "{message}");
}
