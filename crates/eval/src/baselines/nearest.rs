//! The answer to the most similar training question, by BM25.
//!
//! Okapi BM25 (Robertson and Zaragoza 2009) over the words of questions, with `tf` the count of a word in a training
//! question of `len` words, `avg` the mean length, `n` questions, `df` of them with the word:
//!
//! `score = sum over words of idf * tf (k1 + 1) / (tf + k1 (1 - b + b len / avg))`,
//! `idf = ln(1 + (n - df + 0.5) / (df + 0.5))`, `k1 = 1.2`, `b = 0.75`.

use std::collections::HashMap;

use crate::overlap::words;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// An index of training questions.
#[derive(Clone, Debug)]
pub struct NearestQuestion {
    /// For each word: the questions that hold it, and how often.
    postings: HashMap<String, Vec<(usize, u32)>>,
    lengths: Vec<f64>,
    mean_length: f64,
}

impl NearestQuestion {
    /// Indexes questions by their position.
    pub fn new<'a>(questions: impl IntoIterator<Item = &'a str>) -> Self {
        let mut postings: HashMap<String, Vec<(usize, u32)>> = HashMap::new();
        let mut lengths = Vec::new();
        for (index, question) in questions.into_iter().enumerate() {
            let words = words(question);
            lengths.push(words.len() as f64);
            for word in words {
                let list = postings.entry(word).or_default();
                match list.last_mut().filter(|(last, _)| *last == index) {
                    Some((_, count)) => *count += 1,
                    None => list.push((index, 1)),
                }
            }
        }
        let mean_length = lengths.iter().sum::<f64>() / lengths.len().max(1) as f64;
        Self { postings, lengths, mean_length }
    }

    /// Position of the training question with the highest score, ties to the first; the first one if no word is
    /// shared; `None` without questions.
    pub fn nearest(&self, question: &str) -> Option<usize> {
        let scores = self.scores(question);
        let better = |best: usize, index: usize| if scores[index] > scores[best] { index } else { best };
        (0..scores.len()).reduce(better)
    }

    /// The score of every training question.
    fn scores(&self, question: &str) -> Vec<f64> {
        let mut scores = vec![0.0; self.lengths.len()];
        for word in words(question) {
            let Some(list) = self.postings.get(&word) else { continue };
            let (n, df) = (self.lengths.len() as f64, list.len() as f64);
            let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
            for (index, count) in list {
                let tf = f64::from(*count);
                let length = 1.0 - B + B * self.lengths[*index] / self.mean_length;
                scores[*index] += idf * tf * (K1 + 1.0) / (tf + K1 * length);
            }
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTIONS: [&str; 4] = [
        "What is asthma?",
        "What are the symptoms of asthma?",
        "What is the treatment of diabetes?",
        "What is malaria, and what causes malaria?",
    ];

    #[test]
    fn a_rare_word_decides() {
        let index = NearestQuestion::new(QUESTIONS);
        assert_eq!(index.nearest("How is diabetes treated?"), Some(2));
        assert_eq!(index.nearest("symptoms?"), Some(1));
        assert_eq!(index.nearest("Malaria"), Some(3));
    }

    #[test]
    fn of_two_that_share_a_word_the_shorter_wins() {
        assert_eq!(NearestQuestion::new(QUESTIONS).nearest("asthma"), Some(0));
    }

    #[test]
    fn a_question_without_known_words_still_has_an_answer() {
        assert_eq!(NearestQuestion::new(QUESTIONS).nearest("xylophone"), Some(0));
        assert_eq!(NearestQuestion::new([]).nearest("asthma"), None);
    }

    #[test]
    fn the_score_is_bm25s() {
        // Two questions of 1 and 3 words that share `b`; the mean is 2. By hand: idf(b) = ln(1 + 0.5 / 2.5) = 0.18232,
        // idf(c) = ln 2 = 0.69315; the factor is 2.2 / (1 + 1.2 * 0.625) = 1.25714 for question 0 and
        // 2.2 / (1 + 1.2 * 1.375) = 0.83019 for question 1.
        let scores = NearestQuestion::new(["b", "b c d"]).scores("b c");
        assert!((scores[0] - 0.22920).abs() < 1e-4, "{scores:?}");
        assert!((scores[1] - 0.72681).abs() < 1e-4, "{scores:?}");
    }
}
