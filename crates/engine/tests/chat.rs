//! Conversations: history, reuse of the cache, forgetting, documents.

mod common;

use std::ops::ControlFlow;

use common::model;
use shakti_engine::{Answer, Chat, EngineError, GenerateOptions, Message, SamplerOptions};

fn options(limit: usize) -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: Some(limit),
        sampler: SamplerOptions::greedy(),
        stop_strings: Vec::new(),
        ignore_eos: false,
    }
}

fn ask(chat: &mut Chat, question: &str) -> Result<Answer, EngineError> {
    chat.ask(question, &options(10), &mut |_| Ok(ControlFlow::Continue(())))
}

#[test]
fn an_answer_depends_on_the_history_as_the_template_renders_it() {
    let model = model();
    let mut chat = Chat::new(&model, 256).expect("a chat template");
    chat.set_system(Some("Be brief.".into())).expect("room");
    let first = ask(&mut chat, "What is asthma?").expect("room").generation;
    let second = ask(&mut chat, "And the lungs?").expect("room").generation;
    assert_eq!(first.stats.reused_tokens, 0);
    // At least the system message and the first question are still in the cache.
    let first_prompt = first.stats.prompt_tokens;
    assert!(second.stats.reused_tokens >= first_prompt, "{:?}", second.stats);
    let messages = [
        Message::new("system", "Be brief."),
        Message::new("user", "What is asthma?"),
        Message::new("assistant", first.text.as_str()),
        Message::new("user", "And the lungs?"),
    ];
    let prompt = model.chat_prompt(&messages).expect("a conversation");
    let mut session =
        shakti_engine::Session::new(model.network(), shakti_engine::CacheMode::Bounded { max_seq_len: 256 });
    let fresh = shakti_engine::generate(&model, &mut session, &prompt, &options(10), &mut |_| {
        Ok(ControlFlow::Continue(()))
    });
    assert_eq!(fresh.expect("room").ids, second.ids, "the reused cache changes nothing");
    assert_eq!(chat.turns().len(), 4);
    chat.reset();
    assert_eq!(ask(&mut chat, "What is asthma?").expect("room").generation.ids, first.ids);
}

#[test]
fn a_full_history_forgets_its_oldest_turns_and_keeps_the_system_message() {
    let model = model();
    let mut chat = Chat::new(&model, 160).expect("a chat template");
    chat.set_system(Some("Be brief.".into())).expect("room");
    let mut forgotten = 0;
    for _ in 0..12 {
        let answer = ask(&mut chat, "What is asthma? The lungs take up air.").expect("room after forgetting");
        forgotten += answer.forgotten_turns;
        assert!(answer.generation.stats.prompt_tokens + answer.generation.stats.new_tokens <= 160);
    }
    assert!(forgotten > 0);
    assert_eq!(chat.turns().len(), 2 * (12 - forgotten));
}

#[test]
fn a_question_or_document_that_does_not_fit_is_refused_and_changes_nothing() {
    let model = model();
    let mut chat = Chat::new(&model, 200).expect("a chat template");
    chat.set_system(Some("Be brief.".into())).expect("room");
    let before = ask(&mut chat, "What is asthma?").expect("room").generation.ids;
    let long = "lungs ".repeat(300);
    let error = ask(&mut chat, &long).expect_err("a long question");
    assert!(
        matches!(error, EngineError::ContextOverflow { what: "the question", max_seq_len: 200, .. }),
        "{error}"
    );
    assert_eq!(chat.turns().len(), 2);
    let error = chat.set_system(Some(long)).expect_err("a long document");
    assert!(matches!(error, EngineError::ContextOverflow { what: "the system message", .. }), "{error}");
    chat.reset();
    assert_eq!(
        ask(&mut chat, "What is asthma?").expect("room").generation.ids,
        before,
        "the old frame stands"
    );
}
