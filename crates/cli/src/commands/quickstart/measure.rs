//! What is measured of each stage: loss on held-out texts and answers, overlap of generated answers with the
//! references, beside two baselines.

use serde::Serialize;
use shakti_engine::{GenerateOptions, Generation, Model, SamplerOptions};
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

/// Results for one model; `None` where the data has no such records.
#[derive(Debug, Serialize)]
pub struct Measurement {
    /// Loss on held-out texts.
    pub text: Option<LossReport>,
    /// Loss on held-out answers, given their questions.
    pub answers: Option<LossReport>,
    /// Overlap of generated answers, where the model was asked.
    pub overlap: Option<AnswerScores>,
    /// This model minus the baselines: the bigram model, and for F1 the nearest training answer.
    pub against_baselines: Comparison,
    /// This model minus the one that it was tuned from.
    pub against_base: Option<Comparison>,
}

/// Paired differences, this minus the other.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Comparison {
    /// Bits per byte of texts.
    pub text: Option<Estimate>,
    /// Bits per byte of answers.
    pub answers: Option<Estimate>,
    /// Token F1 of generated answers.
    pub answer_f1: Option<Estimate>,
}

/// Results of the baselines.
#[derive(Debug, Serialize)]
pub struct Baselines {
    /// Bigram model: loss on held-out texts.
    pub bigram_text: Option<LossReport>,
    /// Bigram model: loss on held-out answers.
    pub bigram_answers: Option<LossReport>,
    /// The answer to the nearest training question.
    pub nearest: Option<AnswerScores>,
}

/// What was measured item by item, for paired comparisons.
#[derive(Debug, Default)]
struct Items {
    text: Vec<UnitLoss>,
    answers: Vec<UnitLoss>,
    /// Empty where nothing was asked.
    asked: Vec<ItemScores>,
}

impl Items {
    fn minus(&self, other: &Self) -> Comparison {
        let loss =
            |a: &[UnitLoss], b: &[UnitLoss]| (!a.is_empty()).then(|| loss_difference(a, b, recipes::SEED));
        let f1 = |items: &[ItemScores]| items.iter().map(|item| item.token_f1).collect::<Vec<_>>();
        let both_asked = !self.asked.is_empty() && !other.asked.is_empty();
        Comparison {
            text: loss(&self.text, &other.text),
            answers: loss(&self.answers, &other.answers),
            answer_f1: both_asked
                .then(|| mean_difference(&f1(&self.asked), &f1(&other.asked), recipes::SEED)),
        }
    }
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
    baselines: Items,
    /// The model that others are tuned from, once it is measured.
    base: Option<Items>,
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
        let asked = spread(&held_out.questions, QUESTIONS).collect();
        let mut this =
            Self { held_out, texts, answers, asked, baselines: Items::default(), base: None, output };
        this.baselines = this.measure_baselines(model)?;
        Ok(this)
    }

    fn measure_baselines(&self, model: &Model) -> Result<Items, Failure> {
        let texts = self.held_out.train_texts.iter().map(|text| model.encode_text(text));
        let mut training = texts.collect::<Result<Vec<Vec<u32>>, _>>()?;
        for question in &self.held_out.train_questions {
            training.push(rendered(model, question)?.ids);
        }
        let bigram = BigramModel::train(training.iter().map(Vec::as_slice), model.config().vocab_size);
        let windows = WindowOptions::of(model);
        let measure = |ids: &[Ids]| -> Result<Vec<UnitLoss>, Failure> {
            let documents = documents(ids);
            Ok(bigram.measure_like(&measure_loss(model, &documents, windows)?, &documents))
        };
        let asked = nearest(self.held_out, &self.asked);
        Ok(Items { text: measure(&self.texts)?, answers: measure(&self.answers)?, asked })
    }

    /// Measures the model that later ones are tuned from.
    pub fn base(&mut self, name: &str, model: &Model) -> Result<Stage, Failure> {
        let items = self.items(model, true)?;
        let stage = self.report(name, model, &items)?;
        self.base = Some(items);
        Ok(stage)
    }

    /// Measures one model; `answer` asks it the questions too.
    pub fn stage(&self, name: &str, model: &Model, answer: bool) -> Result<Stage, Failure> {
        self.report(name, model, &self.items(model, answer)?)
    }

    fn items(&self, model: &Model, answer: bool) -> Result<Items, Failure> {
        let windows = WindowOptions::of(model);
        Ok(Items {
            text: measure_loss(model, &documents(&self.texts), windows)?,
            answers: measure_loss(model, &documents(&self.answers), windows)?,
            asked: if answer { self.ask(model)? } else { Vec::new() },
        })
    }

    fn report(&self, name: &str, model: &Model, items: &Items) -> Result<Stage, Failure> {
        let measured = Measurement {
            text: loss(&items.text)?,
            answers: loss(&items.answers)?,
            overlap: overlap(&items.asked)?,
            against_baselines: items.minus(&self.baselines),
            against_base: self.base.as_ref().map(|base| items.minus(base)),
        };
        let bits = |report: &Option<LossReport>, of| {
            report.map(|report| format!("{:.3} bits per byte of {of}", report.bits_per_byte.value))
        };
        let f1 = measured.overlap.as_ref().map(|scores| format!("answer F1 {:.3}", scores.token_f1.value));
        let parts = [bits(&measured.text, "texts"), bits(&measured.answers, "answers"), f1];
        let found: Vec<String> = parts.into_iter().flatten().collect();
        self.output.note(format!("  {name}: {}", found.join(", ")));
        Ok(Stage { name: name.into(), weight_bytes: model.network().weight_bytes() as u64, measured })
    }

    fn ask(&self, model: &Model) -> Result<Vec<ItemScores>, Failure> {
        let generated = answers(model, &self.asked)?;
        let score = |(generated, question): (&Generation, &&Question)| {
            ItemScores::new(&generated.text, &question.answer)
        };
        Ok(generated.iter().zip(&self.asked).map(score).collect())
    }

    /// The baselines' results.
    pub fn baselines(&self) -> Result<Baselines, Failure> {
        Ok(Baselines {
            bigram_text: loss(&self.baselines.text)?,
            bigram_answers: loss(&self.baselines.answers)?,
            nearest: overlap(&self.baselines.asked)?,
        })
    }

    /// Three held-out questions, evenly spread, chosen before any model was seen.
    pub fn answer_three(&self, model: &Model) -> Result<Vec<Answered>, Failure> {
        let chosen: Vec<&Question> = spread(&self.asked, 3).copied().collect();
        let pair = |(question, generated): (&&Question, Generation)| Answered {
            question: question.text().into(),
            reference: question.answer.clone(),
            answer: generated.text,
        };
        Ok(chosen.iter().zip(answers(model, &chosen)?).map(pair).collect())
    }
}

fn loss(units: &[UnitLoss]) -> Result<Option<LossReport>, Failure> {
    Ok((!units.is_empty()).then(|| LossReport::new(units, recipes::SEED)).transpose()?)
}

fn overlap(items: &[ItemScores]) -> Result<Option<AnswerScores>, Failure> {
    Ok((!items.is_empty()).then(|| AnswerScores::new(items, recipes::SEED)).transpose()?)
}

/// Asks each question in a conversation of its own.
fn answers(model: &Model, questions: &[&Question]) -> Result<Vec<Generation>, Failure> {
    let conversations: Vec<&[Message]> = questions.iter().map(|question| &question.messages[..]).collect();
    Ok(answer_questions(model, &conversations, &greedy(), 16)?)
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
    let mut messages = question.messages.clone();
    messages.push(Message::new("assistant", question.answer.as_str()));
    let rendered = template.render(tokenizer, &messages, false)?;
    let scored_from = rendered.mask.iter().position(|counts| *counts).unwrap_or(0);
    let end = rendered.mask.iter().rposition(|counts| *counts).map_or(0, |last| last + 1);
    Ok(Ids { ids: rendered.ids[..end].to_vec(), scored_from })
}

fn documents(ids: &[Ids]) -> Vec<Document<'_>> {
    ids.iter().map(|ids| Document { ids: &ids.ids, scored_from: ids.scored_from }).collect()
}

fn nearest(held_out: &HeldOut, asked: &[&Question]) -> Vec<ItemScores> {
    let index = NearestQuestion::new(held_out.train_questions.iter().map(Question::text));
    let score = |question: &&Question| {
        let nearest = index.nearest(question.text())?;
        Some(ItemScores::new(&held_out.train_questions[nearest].answer, &question.answer))
    };
    asked.iter().filter_map(score).collect()
}
