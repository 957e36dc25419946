//! Scanners against the regular expressions they stand for, on text made of troublesome characters.

use super::*;
use proptest::prelude::*;

fn pieces(stages: &[Stage], text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    split(stages, text, &mut |piece| pieces.push(piece.to_owned()));
    pieces
}

/// The pieces of `text` by a regular expression: matches and what lies between them.
fn by_regex(pattern: &fancy_regex::Regex, texts: Vec<String>) -> Vec<String> {
    let mut pieces = Vec::new();
    for text in texts {
        let mut at = 0;
        for found in pattern.find_iter(&text) {
            let found = found.unwrap();
            pieces.extend([&text[at..found.start()], found.as_str()].map(str::to_owned));
            at = found.end();
        }
        pieces.push(text[at..].to_owned());
        pieces.retain(|piece| !piece.is_empty());
    }
    pieces
}

/// Every stage with its pattern.
fn stages() -> Vec<(Stage, String)> {
    let mut stages = vec![
        (Stage::Gpt2, GPT2_PATTERN.to_owned()),
        (Stage::EachNumber, r"\p{N}".into()),
        (Stage::Numbers, r"\p{N}+".into()),
        (Stage::DigitTriples, "[0-9][0-9][0-9]".into()),
        (Stage::Punctuation(false), r"[\p{P}\$\+<=>\^~\|]+".into()),
        (Stage::Punctuation(true), r"[\p{P}\$\+<=>\^~\|`]+".into()),
    ];
    for marks in [false, true] {
        for digits in [1, 3] {
            for folded in [false, true] {
                let rule = WordRule { marks, digits, folded };
                stages.push((Stage::Words(rule), rule.pattern()));
            }
        }
    }
    stages
}

/// Characters of every class, those that patterns name more often than others.
fn text() -> impl Strategy<Value = String> {
    let named = proptest::sample::select(
        "  \t\n\r\r\n\u{A0}\u{85}\u{2003}'''sStTmMdDrReElLvVſK019½٣Ⅷ.,!-$+<=>^~|`aÄéह\u{93F}\u{94D}\u{301}க🙂\u{200D}\u{E0001}"
            .chars()
            .collect::<Vec<_>>(),
    );
    proptest::collection::vec(prop_oneof![8 => named, 1 => any::<char>()], 0..40).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn scanners_equal_their_patterns(text in text()) {
        thread_local! {
            static PATTERNS: Vec<(Stage, fancy_regex::Regex)> =
                stages().into_iter().map(|(stage, p)| (stage, fancy_regex::Regex::new(&p).unwrap())).collect();
        }
        PATTERNS.with(|patterns| {
            for (stage, pattern) in patterns {
                prop_assert_eq!(pieces(&[*stage], &text), by_regex(pattern, vec![text.clone()]), "{:?}", stage);
            }
            for names in NAMES.iter().filter(|names| names.1.len() > 1) {
                let expected = names.1.iter().fold(vec![text.clone()], |pieces, stage| {
                    by_regex(&patterns.iter().find(|(known, _)| known == stage).unwrap().1, pieces)
                });
                prop_assert_eq!(pieces(names.1, &text), expected, "{:?}", names.0);
            }
            Ok(())
        })?;
    }

    #[test]
    fn spaces_begin_pieces(text in "[ a]{0,12}") {
        let split = pieces(&[Stage::AtSpace], &text);
        prop_assert_eq!(split.concat(), text);
        prop_assert!(split.iter().all(|piece| !piece[1..].contains(' ')));
        prop_assert!(split.iter().skip(1).all(|piece| piece.starts_with(' ')));
    }
}

#[test]
fn patterns_are_known_by_their_text_and_names() {
    for (stage, pattern) in stages() {
        if matches!(stage, Stage::Gpt2 | Stage::Words(_) | Stage::DigitTriples) {
            assert_eq!(Stage::from_pattern(&pattern), Some(stage));
        }
    }
    assert_eq!(Stage::from_pattern(r"\w+"), None);
    for (names, stages, ignore_merges) in NAMES {
        for name in *names {
            let pre = PreTokenizer::from_gguf_name(name).unwrap();
            assert_eq!((pre.name, pre.stages, pre.ignore_merges), (*name, *stages, *ignore_merges));
        }
    }
    assert_eq!(PreTokenizer::from_gguf_name("tekken"), None);
    assert_eq!(PreTokenizer::gguf_name(QWEN35, false), Some("qwen35"));
    let folded = Stage::Words(WordRule { marks: false, digits: 3, folded: true });
    assert_eq!(PreTokenizer::gguf_name(&[folded], true), Some("llama-bpe"));
}
