//! The corpus of a quickstart, split by source document, and the part of it that no stage trains on.

use shakti_data::{Corpus, CorpusSettings, OverlapReport, Record, RecordKind, Split};
use shakti_tokenizer::Message;

use super::files::Files;
use super::recipes;
use crate::failure::Failure;
use crate::output::Output;

/// What a model is asked, and the answer in the data.
#[derive(Clone, Debug)]
pub struct Question {
    /// The conversation up to the answer; it ends with a user's message.
    pub messages: Vec<Message>,
    /// The first answer of the conversation.
    pub answer: String,
}

impl Question {
    /// The last thing said before the answer.
    pub fn text(&self) -> &str {
        self.messages.last().map_or("", |message| &message.content)
    }
}

/// The corpus and what the measurements use of it.
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
    /// Scans the files with the settings that every stage uses.
    ///
    /// # Errors
    /// The first thing wrong in any file; too few documents for training and for every held-out split.
    pub fn scan(files: &Files, output: &Output) -> Result<Self, Failure> {
        let settings = CorpusSettings {
            seed: recipes::SEED,
            validation: recipes::VALIDATION_SHARE,
            test: recipes::TEST_SHARE,
            ..CorpusSettings::default()
        };
        let corpus = Corpus::scan(&files.all(), &settings)?;
        let splits = &corpus.report().splits;
        if let Some(empty) = Split::ALL.into_iter().find(|split| splits[*split as usize].records == 0) {
            let (documents, name) = (corpus.report().documents, empty.name());
            let problem = format!("the files hold {documents} different documents: none is left for {name}");
            return Err(Failure::bad_input(problem).hint("training needs hundreds, better thousands"));
        }
        let overlap = corpus.overlap()?;
        for pair in &overlap.pairs {
            output.note(format!("  {pair}"));
        }
        let (mut texts, mut questions) = <([Vec<String>; 2], [Vec<Question>; 2])>::default();
        for (index, split) in [Split::Test, Split::Train].into_iter().enumerate() {
            for record in corpus.records(split, None) {
                let Record { kind, .. } = record?;
                match kind {
                    RecordKind::Text(text) => texts[index].push(text),
                    RecordKind::Chat(messages) => questions[index].extend(question(messages)),
                    // `Files::find` takes no file of these.
                    RecordKind::Preference { .. } | RecordKind::Rated { .. } => {}
                }
            }
        }
        let ([texts, train_texts], [questions, train_questions]) = (texts, questions);
        Ok(Self { corpus, overlap, texts, questions, train_questions, train_texts })
    }
}

/// The first answer of a conversation and what leads to it; `None` where no question does.
fn question(messages: Vec<shakti_data::Message>) -> Option<Question> {
    use shakti_data::Role;
    let at = messages.iter().position(|message| message.role == Role::Assistant)?;
    let asked = at.checked_sub(1).is_some_and(|before| messages[before].role == Role::User);
    asked.then(|| Question {
        messages: messages[..at]
            .iter()
            .map(|message| Message::new(message.role.name(), message.content.as_str()))
            .collect(),
        answer: messages[at].content.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shakti quantize` measures on a section that the quickstart's models have never seen.
    #[test]
    fn the_sample_of_quantize_is_held_out() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::unpack(&folder.path().join("data")).unwrap();
        let held_out = HeldOut::scan(&files, &Output::new(false, true)).unwrap();
        let sample = crate::commands::quantize::SAMPLE.trim();
        let starts: Vec<&str> = held_out.texts.iter().filter_map(|text| text.get(..60)).collect();
        assert!(held_out.texts.iter().any(|text| text.trim() == sample), "held out are: {starts:#?}");
        assert!(held_out.questions.len() >= 300 && !held_out.train_questions.is_empty());
    }

    #[test]
    fn the_first_answer_is_asked_for_with_all_that_leads_to_it() {
        use shakti_data::{Message, Role};
        let message = |role, content: &str| Message { role, content: content.into() };
        let (system, user, assistant) = (Role::System, Role::User, Role::Assistant);
        let chat = [message(system, "s"), message(user, "u"), message(assistant, "a"), message(user, "v")];
        let asked = question(chat.to_vec()).unwrap();
        assert_eq!((asked.messages.len(), asked.text(), asked.answer.as_str()), (2, "u", "a"));
        assert!(question(vec![message(assistant, "a"), message(user, "u")]).is_none());
        assert!(question(vec![message(user, "u")]).is_none());
    }
}
