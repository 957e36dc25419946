//! A real program that gives rewards, and everything that can go wrong with one.

use std::time::{Duration, Instant};

use super::*;

/// The section that runs a script.
fn script(text: &str, seconds: f64) -> Rewards {
    let command = ["/bin/sh", "-c", text].map(str::to_owned).to_vec();
    let section = RewardSection::Command(CommandSection { command, seconds, weight: 1.0 });
    Rewards::open(&[section], &mut no_model).expect("it starts")
}

/// What is wrong when two samples are scored, and the line it is about.
fn failure(rewards: &mut Rewards) -> (u64, String) {
    match rewards.score(&[sample("a", ""), sample("b", "")]) {
        Err(RewardError::Command { command, line, problem }) => {
            assert!(command.starts_with("/bin/sh -c"), "{command}");
            (line, problem)
        }
        other => panic!("{other:?}"),
    }
}

/// Says how long each line is, and counts lines, so that a second start would show.
const LENGTHS: &str =
    r#"n=0; while read -r line; do n=$((n+1)); echo "{\"reward\": ${#line}.25, \"n\": $n}"; done"#;

#[test]
fn a_program_is_started_once_and_scores_batch_after_batch() {
    let mut rewards = script(LENGTHS, 20.0);
    let text = "two\nlines \"quoted\" \u{1F600}";
    let samples = [Sample { prompt: "p", ..sample(text, "x") }, Sample { prompt: "", ..sample("", "") }];
    let line = |sample: &Sample<'_>| {
        let value = serde_json::json!({
            "prompt": sample.prompt, "completion": sample.completion, "answer": sample.answer
        });
        value.to_string()
    };
    for _ in 0..3 {
        let found = rewards.score(&samples).expect("scores").total;
        // `${#line}` counts bytes or characters, as the shell's locale says.
        let (bytes, characters) = (line(&samples[0]).len(), line(&samples[0]).chars().count());
        assert!([bytes, characters].iter().any(|len| found[0] == *len as f32 + 0.25), "{found:?}");
        assert_eq!(found[1], line(&samples[1]).len() as f32 + 0.25);
    }
}

#[test]
fn a_batch_larger_than_the_pipes_goes_through() {
    // It answers only when all has arrived; then it answers with more than a pipe holds.
    let text = "x".repeat(1 << 12);
    let samples = vec![sample(&text, ""); 300];
    let wait = r#"i=0; while [ $i -lt 300 ]; do read -r line; i=$((i+1)); done
        while [ $i -gt 0 ]; do printf '{"reward": 1%0300d}\n' 0; i=$((i-1)); done"#;
    let error = script(wait, 60.0).score(&samples).expect_err("too large");
    assert!(error.to_string().contains("not a finite 32-bit number"), "{error}");
    let pad = r#"while read -r line; do printf '{"reward": 1, "pad": "%0400d"}\n' 0; done"#;
    assert_eq!(script(pad, 60.0).score(&samples).expect("scores").total, vec![1.0; 300]);
}

#[test]
fn whatever_a_program_does_wrong_is_an_error_with_its_line() {
    let good = r#"read -r line; echo '{"reward": 1}'"#;
    let cases = [
        ("exit 3".to_owned(), 1, "it ended (exit status: 3)"),
        (
            format!("{good}; echo broken model >&2; exit 4"),
            2,
            "it ended (exit status: 4) and wrote: broken model",
        ),
        (format!("{good}; echo nonsense; cat"), 2, "\"nonsense\" is not {\"reward\": number}"),
        (format!("{good}; echo; cat"), 2, "\"\" is not {\"reward\": number}"),
        (format!("{good}; echo 1; cat"), 2, "\"1\" is not {\"reward\": number}"),
        (format!("{good}; echo '{{\"score\": 1}}'; cat"), 2, "missing field `reward`"),
        (format!("{good}; echo '{{\"reward\": \"1\"}}'; cat"), 2, "invalid type: string"),
        (format!("{good}; echo '{{\"reward\": null}}'; cat"), 2, "invalid type: null"),
        (format!("{good}; echo '{{\"reward\": NaN}}'; cat"), 2, "is not {\"reward\": number}"),
        (format!("{good}; echo '{{\"reward\": 1e39}}'; cat"), 2, "not a finite 32-bit number"),
        (format!("{good}; printf '\\377\\n'; cat"), 2, "not UTF-8"),
        (format!("{good}; head -c 70000 /dev/zero; cat"), 2, "a line of more than 65536 bytes"),
        ("kill -9 $$".to_owned(), 1, "signal: 9"),
        (good.to_owned(), 2, "it ended (exit status: 0)"),
    ];
    for (text, line, expected) in cases {
        let (found, problem) = failure(&mut script(&text, 20.0));
        assert_eq!(found, line, "{text}: {problem}");
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}

#[test]
fn a_program_that_is_late_is_stopped_and_not_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let alive = folder.path().join("alive");
    let text = format!("read -r line; echo '{{\"reward\": 1}}'; sleep 3; touch {}", alive.display());
    let mut rewards = script(&text, 0.3);
    let start = Instant::now();
    assert_eq!(failure(&mut rewards), (2, "no answer within 0.3 seconds for the batch".into()));
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(failure(&mut rewards), (2, "it failed before and is not started again".into()));
    std::thread::sleep(Duration::from_secs(4));
    assert!(!alive.exists(), "it went on");
}

#[test]
fn a_line_too_many_and_an_early_end_are_noticed_by_the_next_batch() {
    let both = r#"read -r a; read -r b; echo '{"reward": 1}'; echo '{"reward": 2}'"#;
    let mut rewards = script(&format!("{both}; echo '{{\"reward\": 3}}'; cat > /dev/null"), 20.0);
    assert_eq!(rewards.score(&[sample("a", ""), sample("b", "")]).expect("scores").total, [1.0, 2.0]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(failure(&mut rewards), (3, "a line that nothing asked for: {\"reward\": 3}".into()));
    let mut rewards = script(both, 20.0);
    rewards.score(&[sample("a", ""), sample("b", "")]).expect("scores");
    assert_eq!(failure(&mut rewards), (3, "it ended (exit status: 0)".into()));
}

#[test]
fn a_program_that_is_not_there_is_an_error_before_anything_runs() {
    let section =
        sections("[[rewards]]\nkind = 'command'\ncommand = ['/nowhere/judge', '-x']").expect("sections");
    match Rewards::open(&section, &mut no_model) {
        Err(RewardError::Command { command, problem, .. }) => {
            assert_eq!(command, "/nowhere/judge -x");
            assert!(problem.starts_with("cannot start it: "), "{problem}");
        }
        other => panic!("{:?}", other.map(drop)),
    }
}
