//! Every kind of reward on what it accepts, what it does not, and what is malformed.

#[cfg(unix)]
mod command;
mod sections;

use std::path::Path;

use super::number::last_number;
use super::*;

/// A sample of `completion` with an answer.
fn sample<'a>(completion: &'a str, answer: &'a str) -> Sample<'a> {
    Sample { prompt: "Q?", completion, answer, ended: true, tokens: 10, ids: &[] }
}

/// `[[rewards]]` sections from TOML.
fn sections(text: &str) -> Result<Vec<RewardSection>, toml::de::Error> {
    #[derive(serde::Deserialize)]
    struct File {
        rewards: Vec<RewardSection>,
    }
    toml::from_str::<File>(text).map(|file| file.rewards)
}

fn no_model(path: &Path) -> Result<Box<dyn Reward>, RewardError> {
    panic!("a model is asked for: {}", path.display())
}

/// The rewards of TOML sections, which must be right.
fn open(text: &str) -> Rewards {
    Rewards::open(&sections(text).expect("sections"), &mut no_model).expect("rewards")
}

/// Scores of (completion, answer) pairs by one section.
fn scores(section: &str, pairs: &[(&str, &str)]) -> Vec<f32> {
    let samples: Vec<Sample<'_>> = pairs.iter().map(|(text, answer)| sample(text, answer)).collect();
    open(&format!("[[rewards]]\n{section}")).score(&samples).expect("scores").total
}

#[test]
fn a_regex_matches_anywhere_and_its_group_must_be_the_answer() {
    let pairs = [("so <a>42</a>.", "42"), ("<a> 42 </a><a>7</a>", "42"), ("<a>7</a>", "42"), ("42", "42")];
    assert_eq!(scores("kind = 'regex'\npattern = '<a>.*</a>'", &pairs), [1.0, 1.0, 1.0, 0.0]);
    let by_index = scores("kind = 'regex'\npattern = '<a>(.*?)</a>'\ngroup = 1", &pairs);
    let by_name = scores("kind = 'regex'\npattern = '<a>(?<it>.*?)</a>'\ngroup = 'it'", &pairs);
    assert_eq!((&by_index[..], by_name), (&[1.0, 1.0, 0.0, 0.0][..], by_index.clone()));
    // A group that takes no part in the match.
    assert_eq!(scores("kind = 'regex'\npattern = 'a|(b)'\ngroup = 1", &[("a", ""), ("b", "b")]), [0.0, 1.0]);
}

#[test]
fn the_last_number_of_a_text_is_found() {
    let same = [
        ("#### 42", "42"),
        ("The total is $1,234.50.", "1234.5"),
        ("first 7 then -8", "-8"),
        ("5-3", "3"),
        ("(2)-3", "3"),
        ("x=-3", "-3"),
        ("\u{2212}12 degrees", "-12"),
        ("-$5", "-5"),
        ("+5", "5"),
        ("007", "7"),
        ("0.50", ".5"),
        ("is .5", "0.5"),
        ("1.5.2", "2"),
        ("-0", "0"),
        ("3e8", "300000000"),
        ("1.2E-3 m", "0.0012"),
        ("2 eggs", "2"),
        ("2e", "2"),
        ("4ever", "4"),
        ("12,34", "34"),
        ("1,2345", "2345"),
        ("1234,567", "567"),
        ("12,345,678", "12345678"),
        ("1/2", "2"),
        ("42%", "42"),
        ("100,", "100"),
        ("é9", "9"),
        ("123456789012345678901", "123456789012345678901.0"),
    ];
    for (text, number) in same {
        assert_eq!(last_number(text), last_number(number), "{text} ends with {number}");
        assert!(last_number(text).is_some(), "{text}");
    }
    let different =
        [("-8", "8"), ("1,200", "1.2"), ("123456789012345678901", "123456789012345678902"), ("1e3", "1e4")];
    for (a, b) in different {
        assert_ne!(last_number(a), last_number(b), "{a} and {b}");
    }
    for none in ["", "none", "-", "$.", "१२"] {
        assert_eq!(last_number(none), None, "{none:?}");
    }
}

#[test]
fn a_number_is_compared_exactly_or_within_a_share() {
    let pairs = [("it is 72.0", "so\n#### 72"), ("72.5", "#### 72"), ("none", "#### 72"), ("-72", "#### 72")];
    assert_eq!(scores("kind = 'number'", &pairs), [1.0, 0.0, 0.0, 0.0]);
    assert_eq!(scores("kind = 'number'\ntolerance = 0.01", &pairs), [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(scores("kind = 'number'\ntolerance = 0.001", &pairs), [1.0, 0.0, 0.0, 0.0]);
    // Too large for a float: equal as decimals, not near to each other.
    let huge = [("1e999", "1e999"), ("2e999", "1e999")];
    assert_eq!(scores("kind = 'number'\ntolerance = 0.5", &huge), [1.0, 0.0]);
    let error = open("[[rewards]]\nkind = 'number'").score(&[sample("1", "one")]).expect_err("no number");
    assert_eq!(error.to_string(), "reward `number`: no number in the answer \"one\"");
}

#[test]
fn json_must_be_whole_and_of_the_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("schema.json");
    let schema = r##"{"type": "object", "required": ["city"], "additionalProperties": false,
        "properties": {"city": {"$ref": "#/$defs/name"}}, "$defs": {"name": {"type": "string", "minLength": 2}}}"##;
    std::fs::write(&path, schema).expect("written");
    let texts = [
        " {\"city\": \"Oslo\"}\n",
        "{\"city\": \"O\"}",
        "{\"city\": \"Oslo\"} there",
        "{\"city\":",
        "",
        "{\"town\": 1}",
    ];
    let pairs = texts.map(|text| (text, ""));
    let section = format!("kind = 'json_schema'\nschema = '{}'", path.display());
    assert_eq!(scores(&section, &pairs), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    // Deeper than a parser should follow.
    let deep = "[".repeat(100_000);
    assert_eq!(scores(&section, &[(&deep, "")]), [0.0]);
}

#[test]
fn a_schema_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("schema.json");
    let other = folder.path().join("other.json");
    std::fs::write(&other, "{}").expect("written");
    let fails = |schema: Option<&str>| {
        match schema {
            Some(schema) => std::fs::write(&path, schema).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let sections = sections(&format!("[[rewards]]\nkind = 'json_schema'\nschema = '{}'", path.display()));
        let error =
            Rewards::open(&sections.expect("sections"), &mut no_model).err().expect("refused").to_string();
        assert!(error.starts_with(&path.display().to_string()), "{error}");
        error
    };
    assert!(fails(Some("{\"type\": ")).contains("no JSON"));
    assert!(fails(Some("{\"type\": \"text\"}")).contains("no schema"));
    // A reference out of the file is not followed, neither into the network nor to a file.
    assert!(fails(Some("{\"$ref\": \"https://example.com/schema.json\"}")).contains("no schema"));
    assert!(fails(Some(&format!("{{\"$ref\": \"file://{}\"}}", other.display()))).contains("no schema"));
    assert!(fails(Some(&format!("\"{}\"", "x".repeat(1 << 20)))).contains("bytes"));
    fails(None);
}

#[test]
fn exact_compares_what_is_not_ignored() {
    let pairs = [
        ("  New\n York ", "new york"),
        ("New York!", "New York"),
        ("New York", "New York"),
        ("NewYork", "New York"),
    ];
    let of = |keys: &str| scores(&format!("kind = 'exact'\n{keys}"), &pairs);
    assert_eq!(of(""), [1.0, 0.0, 1.0, 0.0]);
    assert_eq!(of("ignore_punctuation = true"), [1.0, 1.0, 1.0, 0.0]);
    assert_eq!(of("ignore_case = false"), [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(of("ignore_white_space = false"), [0.0, 0.0, 1.0, 0.0]);
    let other_scripts = [("क्या?", "क्या"), ("ÉTÉ…", "été")];
    assert_eq!(scores("kind = 'exact'\nignore_punctuation = true", &other_scripts), [1.0, 1.0]);
}

#[test]
fn length_falls_linearly_outside_its_range() {
    let of = |section: &str, tokens: &[usize]| {
        let samples: Vec<_> =
            tokens.iter().map(|tokens| Sample { tokens: *tokens, ..sample("", "") }).collect();
        open(&format!("[[rewards]]\nkind = 'length'\n{section}")).score(&samples).expect("scores").total
    };
    let tokens = [0, 5, 6, 8, 10, 15, 20, 21, 24, 25, 1000];
    let expected = [0.0, 0.0, 0.2, 0.6, 1.0, 1.0, 1.0, 0.8, 0.2, 0.0, 0.0];
    for (found, expected) in of("min = 10\nmax = 20\nslack = 5", &tokens).into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found}, expected {expected}");
    }
    assert_eq!(of("max = 20", &[0, 20, 21]), [1.0, 1.0, 0.0]);
}

#[test]
fn several_rewards_are_added_by_weight_and_reported_apart() {
    let mut rewards = open(
        "[[rewards]]\nkind = 'exact'\nweight = 2\n[[rewards]]\nkind = 'regex'\npattern = 'sorry'\nweight = -0.5\n",
    );
    let found = rewards.score(&[sample("yes", "yes"), sample("sorry", "yes")]).expect("scores");
    assert_eq!(found.total, [2.0, -0.5]);
    assert_eq!(found.parts, [("exact", vec![1.0, 0.0]), ("regex", vec![0.0, 1.0])]);
    assert!(rewards.score(&[]).expect("scores").total.is_empty());
}

#[test]
fn a_reward_model_is_opened_by_the_caller() {
    struct Longest;
    impl Reward for Longest {
        fn score(&mut self, samples: &[Sample<'_>]) -> Result<Vec<f32>, RewardError> {
            Ok(samples.iter().map(|sample| sample.completion.len() as f32).collect())
        }
    }
    let sections =
        sections("[[rewards]]\nkind = 'model'\npath = 'runs/reward/model'\nweight = 0.5").expect("sections");
    let mut asked = None;
    let mut rewards = Rewards::open(&sections, &mut |path| {
        asked = Some(path.to_path_buf());
        Ok(Box::new(Longest))
    })
    .expect("rewards");
    assert_eq!(asked.as_deref(), Some(Path::new("runs/reward/model")));
    assert_eq!(rewards.score(&[sample("four", "")]).expect("scores").total, [2.0]);
}
