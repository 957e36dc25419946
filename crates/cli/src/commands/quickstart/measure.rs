//! What is measured of each stage: loss on held-out texts and answers, overlap of generated answers with the
//! references, beside two baselines.

use serde::Serialize;
use shakti_engine::{GenerateOptions, Model, SamplerOptions};
use shakti_eval::baselines::{BigramModel, NearestQuestion};
use shakti_eval::{
    AnswerScores, Document, Estimate, ItemScores, LossReport, UnitLoss, WindowOptions, answer_questions,
    loss_difference, mean_difference, measure_loss,
};
use shakti_tokenizer::{ChatTemplate, Message};

use super::data::{HeldOut, Question};
use super::{Answered, Stage, recipes};
use crate::failure::Failure;
use crate::output::Output;

/// Held-out texts are measured up to this many ids.
const TEXT_IDS: usize = 32_768;
/// Held-out answers whose loss is measured.
const ANSWERS: usize = 300;
/// Held-out questions that are answered.
const QUESTIONS: usize = 80;
/// Most new ids of an answer; references have up to 600 characters.
const ANSWER_IDS: usize = 96;

/// Results for one model.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Loss on held-out texts.
    pub text: LossReport,
    /// Loss on held-out answers, given their questions.
    pub answers: LossReport,
    /// Overlap of generated answers, where the model was asked.
    pub overlap: Option<AnswerScores>,
    /// Bits per byte of answers minus those of the bigram model, paired.
    pub against_bigram: Estimate,
    /// Bits per byte of texts minus those of the bigram model, paired.
    pub against_bigram_text: Estimate,
    /// Token F1 minus that of the nearest training answer, paired.
    pub against_nearest: Option<Estimate>,
}

/// Results of the baselines.
#[derive(Debug, Serialize)]
pub struct Baselines {
    /// Bigram model: loss on held-out texts.
    pub bigram_text: LossReport,
    /// Bigram model: loss on held-out answers.
    pub bigram_answers: LossReport,
    /// The answer to the nearest training question.
    pub nearest: AnswerScores,
}

/// Ids of a text and where its scored part begins.
struct Ids {
    ids: Vec<u32>,
    scored_from: usize,
}

/// The held-out items as ids, and the baselines' results on them.
pub struct Measured<'a> {
    held_out: &'a HeldOut,
    texts: Vec<Ids>,
    answers: Vec<Ids>,
    asked: Vec<&'a Question>,
    bigram_text: Vec<UnitLoss>,
    bigram_answers: Vec<UnitLoss>,
    nearest: Vec<ItemScores>,
    output: Output,
}

impl<'a> Measured<'a> {
    /// Turns the held-out items into ids with the one tokenizer and template of all stages.
    pub fn new(held_out: &'a HeldOut, model: &Model, output: Output) -> Result<Self, Failure> {
        let mut texts = Vec::new();
        let mut left = TEXT_IDS;
        for text in &held_out.texts {
            let ids: Vec<u32> = model.encode_text(text)?.into_iter().take(left).collect();
            left -= ids.len();
            texts.push(Ids { ids, scored_from: 1 });
        }
        texts.retain(|text| text.ids.len() > 1);
        let answers = spread(&held_out.questions, ANSWERS).map(|question| rendered(model, question));
        let answers = answers.collect::<Result<Vec<_>, Failure>>()?;
        let asked: Vec<&Question> = spread(&held_out.questions, QUESTIONS).collect();
        let nearest = nearest(held_out, &asked)?;
        let mut this = Self {
            held_out,
            texts,
            answers,
            asked,
            bigram_text: Vec::new(),
            bigram_answers: Vec::new(),
            nearest,
            output,
        };
        this.measure_bigram(model)?;
        Ok(this)
    }

    fn measure_bigram(&mut self, model: &Model) -> Result<(), Failure> {
        let texts = self.held_out.train_texts.iter().map(|text| model.encode_text(text));
        let mut training = texts.collect::<Result<Vec<Vec<u32>>, _>>()?;
        for question in &self.held_out.train_questions {
            training.push(rendered(model, question)?.ids);
        }
        let bigram = BigramModel::train(training.iter().map(Vec::as_slice), model.config().vocab_size);
        let windows = WindowOptions::of(model);
        let (texts, answers) = (documents(&self.texts), documents(&self.answers));
        let units = |documents: &[Document<'_>]| measure_loss(model, documents, windows);
        self.bigram_text = bigram.measure_like(&units(&texts)?, &texts);
        self.bigram_answers = bigram.measure_like(&units(&answers)?, &answers);
        Ok(())
    }

    /// Measures one model; `answer` asks it the questions too.
    pub fn stage(&mut self, name: &str, model: &Model, answer: bool) -> Result<Stage, Failure> {
        let windows = WindowOptions::of(model);
        let text = measure_loss(model, &documents(&self.texts), windows)?;
        let answers = measure_loss(model, &documents(&self.answers), windows)?;
        let items = if answer { Some(self.ask(model)?) } else { None };
        let measured = Measurement {
            text: LossReport::new(&text, recipes::SEED)?,
            answers: LossReport::new(&answers, recipes::SEED)?,
            overlap: items.as_ref().map(|items| AnswerScores::new(items, recipes::SEED)).transpose()?,
            against_bigram: loss_difference(&answers, &self.bigram_answers, recipes::SEED),
            against_bigram_text: loss_difference(&text, &self.bigram_text, recipes::SEED),
            against_nearest: items.map(|items| {
                let f1 = |items: &[ItemScores]| items.iter().map(|item| item.token_f1).collect::<Vec<_>>();
                mean_difference(&f1(&items), &f1(&self.nearest), recipes::SEED)
            }),
        };
        let f1 = measured
            .overlap
            .map_or_else(String::new, |scores| format!(", answer F1 {:.3}", scores.token_f1.value));
        self.output.note(format!(
            "  {name}: {:.3} bits per byte of text, {:.3} of answers{f1}",
            measured.text.bits_per_byte.value, measured.answers.bits_per_byte.value
        ));
        Ok(Stage { name: name.into(), weight_bytes: model.network().weight_bytes() as u64, measured })
    }

    fn ask(&self, model: &Model) -> Result<Vec<ItemScores>, Failure> {
        let questions: Vec<&str> = self.asked.iter().map(|question| question.question.as_str()).collect();
        let generated = answer_questions(model, &questions, &greedy(), 16)?;
        let score = |(generated, question): (&shakti_engine::Generation, &&Question)| {
            ItemScores::new(&generated.text, &question.answer)
        };
        Ok(generated.iter().zip(&self.asked).map(score).collect())
    }

    /// The baselines' results.
    pub fn baselines(&self) -> Result<Baselines, Failure> {
        Ok(Baselines {
            bigram_text: LossReport::new(&self.bigram_text, recipes::SEED)?,
            bigram_answers: LossReport::new(&self.bigram_answers, recipes::SEED)?,
            nearest: AnswerScores::new(&self.nearest, recipes::SEED)?,
        })
    }

    /// Three held-out questions, evenly spread, chosen before any model was seen.
    pub fn answer_three(&self, model: &Model) -> Result<Vec<Answered>, Failure> {
        let chosen: Vec<&&Question> = spread(&self.asked, 3).collect();
        let questions: Vec<&str> = chosen.iter().map(|question| question.question.as_str()).collect();
        let generated = answer_questions(model, &questions, &greedy(), 3)?;
        let pair = |(question, generated): (&&&Question, shakti_engine::Generation)| Answered {
            question: question.question.clone(),
            reference: question.answer.clone(),
            answer: generated.text,
        };
        Ok(chosen.iter().zip(generated).map(pair).collect())
    }
}

/// At most `count` items, evenly spread.
fn spread<T>(items: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(items.len());
    (0..count).map(move |index| &items[index * items.len() / count])
}

fn greedy() -> GenerateOptions {
    GenerateOptions {
        max_new_tokens: Some(ANSWER_IDS),
        sampler: SamplerOptions::greedy(),
        stop_strings: Vec::new(),
        ignore_eos: false,
    }
}

/// A question with its answer, rendered as in training; only the answer counts.
fn rendered(model: &Model, question: &Question) -> Result<Ids, Failure> {
    let tokenizer = model.tokenizer()?;
    let template =
        tokenizer.chat_template().ok_or_else(|| Failure::internal("the model has no chat template"))?;
    let template = ChatTemplate::new(template)?;
    let messages = [
        Message::new("user", question.question.as_str()),
        Message::new("assistant", question.answer.as_str()),
    ];
    let rendered = template.render(tokenizer, &messages, false)?;
    let scored_from = rendered.mask.iter().position(|counts| *counts).unwrap_or(0);
    let end = rendered.mask.iter().rposition(|counts| *counts).map_or(0, |last| last + 1);
    Ok(Ids { ids: rendered.ids[..end].to_vec(), scored_from })
}

fn documents(ids: &[Ids]) -> Vec<Document<'_>> {
    ids.iter().map(|ids| Document { ids: &ids.ids, scored_from: ids.scored_from }).collect()
}

fn nearest(held_out: &HeldOut, asked: &[&Question]) -> Result<Vec<ItemScores>, Failure> {
    let index =
        NearestQuestion::new(held_out.train_questions.iter().map(|question| question.question.as_str()));
    let score = |question: &&Question| {
        let nearest =
            index.nearest(&question.question).ok_or_else(|| Failure::internal("no training question"))?;
        Ok(ItemScores::new(&held_out.train_questions[nearest].answer, &question.answer))
    };
    asked.iter().map(score).collect()
}
