//! How much an answer shares with a reference: exact match, token F1, ROUGE-L.
//!
//! Exact match and F1 normalise as SQuAD does (arXiv 1606.05250): lower case, punctuation and the English articles
//! removed, split at white space. ROUGE-L (Lin 2004) takes lower-case runs of letters and digits, without stemming.

use std::collections::HashMap;

/// 1 if the normalised texts are equal, else 0.
pub fn exact_match(answer: &str, reference: &str) -> f64 {
    f64::from(normalized_tokens(answer) == normalized_tokens(reference))
}

/// `2 P R / (P + R)` with `P = common / |answer|`, `R = common / |reference|`, and `common` the size of the multiset
/// intersection of normalised tokens. Two empty texts score 1, an empty one beside a non-empty one 0.
pub fn token_f1(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalized_tokens(answer), normalized_tokens(reference));
    let mut left: HashMap<&str, usize> = HashMap::new();
    for token in &reference {
        *left.entry(token).or_default() += 1;
    }
    let mut common = 0;
    for token in &answer {
        if let Some(count) = left.get_mut(token.as_str()).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    f1(common, answer.len(), reference.len())
}

/// `2 P R / (P + R)` with `P = lcs / |answer|`, `R = lcs / |reference|`, and `lcs` the length of the longest common
/// subsequence of words. Empty texts as in [`token_f1`].
pub fn rouge_l(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (words(answer), words(reference));
    f1(longest_common_subsequence(&answer, &reference), answer.len(), reference.len())
}

fn f1(common: usize, answer: usize, reference: usize) -> f64 {
    match (answer, reference) {
        (0, 0) => 1.0,
        // 2 P R / (P + R) with the fractions multiplied out.
        _ => 2.0 * common as f64 / (answer + reference) as f64,
    }
}

fn normalized_tokens(text: &str) -> Vec<String> {
    let kept: String = text.to_lowercase().chars().filter(|c| !is_punctuation(*c)).collect();
    let is_article = |token: &&str| ["a", "an", "the"].contains(token);
    kept.split_whitespace().filter(|token| !is_article(token)).map(str::to_owned).collect()
}

/// ASCII punctuation, and the common marks beyond it.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || "¡¿«»‘’‚“”„–—…।॥·•".contains(c)
}

/// Lower-case runs of letters, marks and digits, in any script.
pub(crate) fn words(text: &str) -> Vec<String> {
    // Vowel signs of Indic scripts are no letters; they are part of words because they are neither white space nor
    // punctuation nor symbols of ASCII.
    let is_gap =
        |c: char| c.is_whitespace() || is_punctuation(c) || (c.is_ascii() && !c.is_ascii_alphanumeric());
    text.to_lowercase().split(is_gap).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// By dynamic programming over one row: `row[j]` holds the length for the first `j` words of `b`.
fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_match_ignores_case_articles_and_punctuation() {
        assert_eq!(exact_match("The liver.", "liver"), 1.0);
        assert_eq!(exact_match("the livers", "liver"), 0.0);
        assert_eq!(exact_match("", ""), 1.0);
    }

    #[test]
    fn token_f1_counts_each_common_token_once() {
        // Answer: cat sat sat (3), reference: cat sat mat (3), common: cat, sat.
        assert!((token_f1("the cat sat sat", "a cat sat mat") - 2.0 / 3.0).abs() < 1e-12);
        // P = 1, R = 1/4: F1 = 2 * 0.25 / 1.25.
        assert!((token_f1("fever", "fever with severe chills") - 0.4).abs() < 1e-12);
        assert_eq!(token_f1("", "fever"), 0.0);
        assert_eq!(token_f1("", ""), 1.0);
    }

    #[test]
    fn token_f1_ignores_order_and_rouge_l_does_not() {
        let (a, b) = ("one two three four", "four three two one");
        assert_eq!(token_f1(a, b), 1.0);
        // The longest common subsequence is one word of four.
        assert_eq!(rouge_l(a, b), 0.25);
    }

    #[test]
    fn rouge_l_of_the_textbook_example() {
        // Lin 2004: "police killed the gunman" against "police kill the gunman": the common subsequence is
        // `police the gunman`, so P = R = 3/4; against "the gunman kill police" it is `the gunman`, 2/4.
        assert_eq!(rouge_l("police kill the gunman", "police killed the gunman"), 0.75);
        assert_eq!(rouge_l("the gunman kill police", "police killed the gunman"), 0.5);
    }

    #[test]
    fn words_of_other_scripts_stay_whole() {
        assert_eq!(words("हृदय, रोग!"), ["हृदय", "रोग"]);
        assert_eq!(words("X-ray (COVID-19)"), ["x", "ray", "covid", "19"]);
    }

    #[test]
    fn the_subsequence_equals_the_one_by_exhaustion() {
        fn slow(a: &[String], b: &[String]) -> usize {
            match (a.split_first(), b.split_first()) {
                (Some((x, a_rest)), Some((y, b_rest))) if x == y => 1 + slow(a_rest, b_rest),
                (Some((_, a_rest)), Some((_, b_rest))) => slow(a_rest, b).max(slow(a, b_rest)),
                _ => 0,
            }
        }
        let mut rng = shakti_engine::Rng::new(4);
        for _ in 0..100 {
            let mut text =
                || (0..rng.below(8)).map(|_| ["x", "y", "z"][rng.below(3)].to_owned()).collect::<Vec<_>>();
            let (a, b) = (text(), text());
            assert_eq!(longest_common_subsequence(&a, &b), slow(&a, &b), "{a:?} {b:?}");
        }
    }
}
