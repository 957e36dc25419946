//! `shakti chat` with piped standard input.

use crate::common::{arg, fixture, model, repository, shakti_with_input};

fn chat(extra: &[&str], input: &str) -> crate::common::Run {
    let model = model();
    let base = ["chat", arg(&model), "--greedy", "-n", "12"];
    shakti_with_input(&[&base[..], extra].concat(), input)
}

#[test]
fn every_line_gets_an_answer_and_a_stats_line() {
    let run = chat(&[], "What is asthma?\n\nAnd the lungs?\n");
    assert_eq!(run.stderr.matches("tokens/s").count(), 4, "two rates a line, two lines: {}", run.stderr);
    let report = chat(&["--json"], "What is asthma?\n\nAnd the lungs?\n").json();
    let turns = report["turns"].as_array().expect("turns");
    let answer =
        |index: usize| turns[index]["answer"]["generation"]["text"].as_str().expect("text").trim_start();
    assert_eq!(run.ok(), format!("{}\n{}\n", answer(0), answer(1)));
    assert!(turns[1]["answer"]["generation"]["stats"]["reused_tokens"].as_u64() > Some(0));
}

#[test]
fn reset_forgets_and_exit_ends() {
    let input = "What is asthma?\n/reset\nWhat is asthma?\n/exit\nWhat is asthma?\n";
    let report = chat(&["--json"], input).json();
    let turns = report["turns"].as_array().expect("turns");
    assert_eq!(turns.len(), 2);
    let ids = |index: usize| &turns[index]["answer"]["generation"]["ids"];
    assert_eq!(ids(0), ids(1));
}

#[test]
fn the_system_text_counts_and_can_change() {
    let tokens = |report: &serde_json::Value, index: usize| {
        report["turns"][index]["answer"]["generation"]["stats"]["prompt_tokens"].as_u64().expect("a number")
    };
    let plain = chat(&["--json"], "What is asthma?\n").json();
    let framed = chat(&["--json", "--system", "Be brief."], "What is asthma?\n").json();
    assert!(tokens(&framed, 0) > tokens(&plain, 0));
    let changed =
        chat(&["--json"], "/system Be brief.\nWhat is asthma?\n/reset\n/system\nWhat is asthma?\n").json();
    assert_eq!(tokens(&changed, 0), tokens(&framed, 0));
    assert_eq!(tokens(&changed, 1), tokens(&plain, 0));
}

#[test]
fn help_lists_the_commands_and_an_unknown_one_is_told() {
    let run = chat(&[], "/help\n/hlep\n");
    for word in ["/reset", "/system", "/exit", "no command /hlep"] {
        assert!(run.stderr.contains(word), "{}", run.stderr);
    }
    assert_eq!(run.ok(), "");
}

#[test]
fn a_document_is_asked_about_or_refused_if_it_is_too_long_empty_or_binary() {
    let short = fixture().join("text.txt");
    let with = chat(&["--json", "--document", arg(&short)], "What is asthma?\n").json();
    let without = chat(&["--json"], "What is asthma?\n").json();
    let tokens = |report: &serde_json::Value| {
        report["turns"][0]["answer"]["generation"]["stats"]["prompt_tokens"].as_u64().expect("a number")
    };
    assert!(tokens(&with) > tokens(&without) + 10);
    let long = fixture().join("long.txt");
    std::fs::write(&long, crate::common::TEXT.repeat(40)).expect("a text file");
    let message = chat(&["--document", arg(&long)], "What is asthma?\n").refused();
    assert!(message.contains("tokens") && message.contains("the context holds 256"), "{message}");
    assert!(message.contains("long.txt: the document does not fit"), "{message}");
    assert!(message.contains("hint: shorten the document"), "{message}");
    let missing = chat(&["--document", "no/such/file"], "").refused();
    assert!(missing.contains("no/such/file"), "{missing}");
    for (name, bytes, reason) in
        [("blank.txt", &b" \n\t\n"[..], "has no text"), ("binary.bin", b"\x7fELF\xff\xfe", "UTF-8")]
    {
        let path = fixture().join(name);
        std::fs::write(&path, bytes).expect("a file");
        let message = chat(&["--document", arg(&path)], "What is asthma?\n").refused();
        assert!(message.contains(name) && message.contains(reason), "{message}");
    }
}

#[test]
fn a_question_that_does_not_fit_is_told_and_the_chat_goes_on() {
    let long = "lungs ".repeat(300);
    let run = chat(&[], &format!("{long}\nWhat is asthma?\n"));
    assert!(run.stderr.contains("warning: the question has"), "{}", run.stderr);
    assert_eq!(run.ok().lines().count(), chat(&[], "What is asthma?\n").ok().lines().count());
}

#[test]
fn a_model_without_a_chat_template_is_refused_with_a_hint() {
    let file = repository("golden/gguf/spm_q4_0.gguf");
    let message = shakti_with_input(&["chat", "-m", arg(&file)], "hello\n").refused();
    assert!(message.contains("no chat template") && message.contains("hint: "), "{message}");
}
