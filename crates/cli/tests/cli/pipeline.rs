//! `shakti pipeline`: what has not changed is not made again; what is interrupted goes on.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::{arg, command, shakti};
use crate::train::{data, result};

/// Cleaning, training and quantizing the texts of `data`, as a pipeline in its folder.
fn pipeline(folder: &Path) -> String {
    let at = folder.display();
    let recipe = fs::read_to_string(folder.join("recipe.toml")).expect("the recipe");
    let recipe = recipe.replace("/text.jsonl", "/clean.jsonl");
    fs::write(folder.join("recipe.toml"), recipe).expect("a file");
    let text = format!(
        "[[stage]]\nname = 'clean'\ncommand = ['data', 'dedup', '{at}/text.jsonl', '-o', '{at}/clean.jsonl']\noutputs = ['{at}/clean.jsonl']\n\
         [[stage]]\nname = 'train'\ncommand = ['train', 'pretrain', '{at}/recipe.toml']\noutputs = ['{at}/out']\n\
         [[stage]]\nname = 'small'\ncommand = ['quantize', '{at}/out/model', '{at}/small.gguf', '--type', 'q8_0']\n\
         inputs = ['{at}/out/model']\noutputs = ['{at}/small.gguf']\n"
    );
    let file = folder.join("pipeline.toml");
    fs::write(&file, text).expect("a file");
    arg(&file).to_owned()
}

/// State and reason of every stage.
fn states(args: &[&str]) -> Vec<(String, String)> {
    let done = shakti(&[&["pipeline", "--json"], args].concat()).json();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    done.as_array()
        .expect("a list")
        .iter()
        .map(|done| (text(&done["state"]), text(&done["reason"])))
        .collect()
}

fn names(states: &[(String, String)]) -> Vec<&str> {
    states.iter().map(|(state, _)| state.as_str()).collect()
}

#[test]
fn stages_run_once_and_again_when_what_they_read_changes() {
    let data = data();
    let file = pipeline(data.path());
    let dry = states(&[&file, "--dry-run"]);
    assert_eq!(names(&dry), ["stale"; 3]);
    assert_eq!(dry[1].1, "follows clean");
    assert!(
        !data.path().join("clean.jsonl").exists() && !data.path().join("pipeline.toml.state.json").exists()
    );
    assert_eq!(names(&states(&[&file])), ["made"; 3]);
    assert_eq!(names(&states(&[&file])), ["cached"; 3]);
    // A setting of the recipe: training and what follows.
    let recipe = data.path().join("recipe.toml");
    let text = fs::read_to_string(&recipe).expect("the recipe").replace("steps = 12", "steps = 13");
    fs::write(&recipe, text).expect("a file");
    let dry = states(&[&file, "--dry-run"]);
    assert_eq!(names(&dry), ["cached", "stale", "stale"]);
    assert!(dry[1].1.ends_with("recipe.toml changed") && dry[2].1 == "follows train", "{dry:?}");
    assert_eq!(names(&states(&[&file])), ["cached", "made", "made"]);
    // A duplicate that the first stage drops: what follows reads the same as before.
    let texts = data.path().join("text.jsonl");
    let text = fs::read_to_string(&texts).expect("texts");
    let first = text.lines().next().expect("a line");
    fs::write(&texts, format!("{text}{first}\n")).expect("a file");
    let found = states(&[&file]);
    assert_eq!(
        (names(&found), found[0].1.ends_with("text.jsonl changed")),
        (vec!["made", "cached", "cached"], true)
    );
    // An output that somebody changed, or deleted.
    fs::write(data.path().join("small.gguf"), "mine").expect("a file");
    let found = states(&[&file]);
    assert!(found[2].1.contains("small.gguf is not what the stage wrote"), "{found:?}");
    fs::remove_file(data.path().join("small.gguf")).expect("a file");
    assert!(states(&[&file])[2].1.contains("small.gguf is gone"));
}

#[test]
fn an_interrupted_pipeline_goes_on_in_the_stage_where_it_was() {
    let data = data();
    let file = pipeline(data.path());
    states(&[&file]);
    let whole = result(&data.path().join("out"));
    let other = self::data();
    let file = pipeline(other.path());
    let recipe = other.path().join("recipe.toml");
    let text = fs::read_to_string(&recipe).expect("the recipe");
    // Slow enough to be met in the middle.
    fs::write(&recipe, text.replace("steps = 12", "steps = 100000")).expect("a file");
    let mut child = command()
        .args(["pipeline", &file])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("a start");
    while !other.path().join("out/checkpoint-4").exists() {
        assert!(child.try_wait().expect("a state").is_none(), "it ended early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    let dry = states(&[&file, "--dry-run"]);
    assert_eq!((dry[0].0.as_str(), dry[1].1.as_str()), ("cached", "it was interrupted"));
    // The run goes on where it was, and nothing else may be started in its place meanwhile.
    let resolved = fs::read_to_string(other.path().join("out/recipe.toml")).expect("the resolved recipe");
    assert!(resolved.contains("steps = 100000"));
    let mut child = command()
        .args(["pipeline", &file])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a start");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().expect("a pipe")));
    let resumed = lines.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("resumed after step")));
    assert!(resumed.is_some());
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    lines.for_each(drop);
    assert_eq!(child.wait().expect("an end").code(), Some(130));
    // With other settings it begins anew.
    fs::write(&recipe, text).expect("a file");
    assert_eq!(names(&states(&[&file])), ["cached", "made", "made"]);
    assert!(result(&other.path().join("out")) == whole, "the same data, the same bits");
}

#[test]
fn pipelines_that_make_no_sense_are_refused_by_stage_and_key() {
    let data = data();
    let file = data.path().join("p.toml");
    let at = data.path().display();
    let ok = "[[stage]]\nname = 'a'\ncommand = ['data', 'inspect', 'x']\noutputs = ['y']\n";
    for (text, expected) in [
        ("", "no `[[stage]]`".into()),
        ("[[stage]]\nname = 'a'\ncommand = []\noutputs = ['y']\n", "stage `a`: `command` is empty".into()),
        ("[[stage]]\nname = 'a'\ncommand = ['data']\noutputs = []\n", "stage `a`: `outputs` is empty".into()),
        ("[[stage]]\nname = 'a'\ncommand = ['data']\noutput = ['y']\n", "unknown field `output`".into()),
        (
            "[[stage]]\nname = 'a'\ncommand = ['chat']\noutputs = ['y']\n",
            "`command` is `chat`, which cannot be a stage".into(),
        ),
        (&format!("{ok}{ok}"), "stage `a`: `name` is empty or taken".into()),
        (&format!("{ok}{}", ok.replace("'a'", "'b'")), "stage `b`: `y` is written by stage `a` too".into()),
        (
            &format!(
                "{}{}",
                ok.replace("outputs", "inputs = ['z/1']\noutputs"),
                ok.replace("'a'", "'b'").replace("'y'", "'z'")
            ),
            "stage `a`: its input `z/1` is written by stage `b`, which comes later".into(),
        ),
        (&ok.replace("outputs", &format!("inputs = ['{at}/absent']\noutputs")), format!("{at}/absent")),
        (
            &ok.replace("'y'", &format!("'{at}/text.jsonl'")),
            "text.jsonl exists, and this pipeline did not make it".into(),
        ),
        (ok, "stage `a` was refused".into()),
    ] {
        fs::write(&file, text).expect("a file");
        let message = shakti(&["pipeline", arg(&file)]).refused();
        assert!(message.contains(&expected), "expected {expected}: {message}");
    }
    assert!(data.path().join("text.jsonl").exists(), "what it did not make it does not delete");
    fs::write(data.path().join("p.toml.state.json"), "{}").expect("a file");
    assert!(
        shakti(&["pipeline", arg(&file)]).refused().contains("p.toml.state.json: not a pipeline's state")
    );
}
