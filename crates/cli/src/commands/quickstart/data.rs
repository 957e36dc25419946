//! The data inside the binary, and the part of it that no stage trains on.

use std::path::PathBuf;

use shakti_data::{Corpus, CorpusSettings, OverlapReport, Record, RecordKind, Split};

use super::recipes;
use crate::failure::Failure;
use crate::output::Output;

/// Name and contents of the medical texts (CC BY, see [`ATTRIBUTION`]).
pub const TEXT: (&str, &[u8]) =
    ("medical_text.jsonl.zst", include_bytes!("../../../../../data/quickstart/medical_text.jsonl.zst"));
/// Name and contents of the medical questions (CC BY, see [`ATTRIBUTION`]).
pub const QUESTIONS: (&str, &[u8]) =
    ("medical_qa.jsonl.zst", include_bytes!("../../../../../data/quickstart/medical_qa.jsonl.zst"));
/// Authors and licences.
pub const ATTRIBUTION: &[u8] = include_bytes!("../../../../../data/quickstart/README.md");

/// Where the data was unpacked.
pub struct Files {
    pub text: PathBuf,
    pub questions: PathBuf,
}

/// A question with its answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub question: String,
    pub answer: String,
}

/// The corpus, split by source document, and what the measurements use of it.
pub struct HeldOut {
    pub corpus: Corpus,
    pub overlap: OverlapReport,
    /// Held-out texts.
    pub texts: Vec<String>,
    /// Held-out questions.
    pub questions: Vec<Question>,
    /// Training questions, for the nearest-answer baseline.
    pub train_questions: Vec<Question>,
    /// Training texts, for the bigram baseline.
    pub train_texts: Vec<String>,
}

impl HeldOut {
    /// Scans both files with the settings that every stage uses.
    pub fn scan(files: &Files, output: &Output) -> Result<Self, Failure> {
        let settings = CorpusSettings {
            seed: recipes::SEED,
            validation: recipes::VALIDATION_SHARE,
            test: recipes::TEST_SHARE,
            ..CorpusSettings::default()
        };
        let corpus = Corpus::scan(&[&files.text, &files.questions], &settings)?;
        let overlap = corpus.overlap()?;
        for pair in &overlap.pairs {
            output.note(format!("  {pair}"));
        }
        let records = |split, file| corpus.records(split, Some(file)).collect::<Result<Vec<Record>, _>>();
        let texts = |split| -> Result<Vec<String>, Failure> {
            Ok(records(split, 0)?.into_iter().filter_map(|record| text(record.kind)).collect())
        };
        let questions = |split| -> Result<Vec<Question>, Failure> {
            Ok(records(split, 1)?.into_iter().filter_map(|record| question(record.kind)).collect())
        };
        Ok(Self {
            texts: texts(Split::Test)?,
            questions: questions(Split::Test)?,
            train_questions: questions(Split::Train)?,
            train_texts: texts(Split::Train)?,
            overlap,
            corpus,
        })
    }
}

fn text(kind: RecordKind) -> Option<String> {
    match kind {
        RecordKind::Text(text) => Some(text),
        RecordKind::Chat(_) => None,
    }
}

fn question(kind: RecordKind) -> Option<Question> {
    match kind {
        RecordKind::Chat(messages) => match <[_; 2]>::try_from(messages) {
            Ok([question, answer]) => Some(Question { question: question.content, answer: answer.content }),
            Err(_) => None,
        },
        RecordKind::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shakti quantize` measures on a section that the quickstart's models have never seen.
    #[test]
    fn the_sample_of_quantize_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let put = |(name, bytes): (&str, &[u8])| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let files = Files { text: put(TEXT), questions: put(QUESTIONS) };
        let held_out = HeldOut::scan(&files, &Output::new(false, true)).unwrap();
        let sample = crate::commands::quantize::SAMPLE.trim();
        let starts: Vec<&str> = held_out.texts.iter().filter_map(|text| text.get(..60)).collect();
        assert!(held_out.texts.iter().any(|text| text.trim() == sample), "held out are: {starts:#?}");
        assert!(held_out.questions.len() >= 300 && !held_out.train_questions.is_empty());
    }
}
