//! `shakti generate`.

use std::process::Command;

use crate::common::{arg, command, fixture, model, repository, shakti, shakti_with_input};

#[test]
fn standard_output_is_the_continuation_alone() {
    let model = model();
    let args = ["generate", "-m", arg(&model), "-p", "Asthma is", "-n", "16", "--greedy", "--ignore-eos"];
    let run = shakti(&args);
    let stderr = run.stderr.clone();
    let text = run.ok();
    let report = shakti(&[&args[..], &["--json"]].concat()).json();
    assert_eq!(text, format!("{}\n", report["text"].as_str().expect("text")));
    assert_eq!(report["ids"].as_array().expect("ids").len(), 16);
    assert_eq!(report["stop"]["kind"], "length");
    assert!(!text.contains("Asthma is"), "the prompt is not repeated");
    assert!(stderr.contains("tokens/s") && stderr.contains("number of tokens"), "{stderr}");
    let quiet = shakti(&[&args[..], &["-q"]].concat());
    assert_eq!((quiet.stderr.as_str(), quiet.stdout.as_str()), ("", text.as_str()));
}

#[test]
fn the_model_is_a_flag_or_the_positional_argument() {
    let model = model();
    let rest = ["-p", "Asthma", "-n", "4", "--greedy"];
    let flag = shakti(&[&["generate", "-m", arg(&model)], &rest[..]].concat()).ok();
    let positional = shakti(&[&["generate", arg(&model)], &rest[..]].concat()).ok();
    assert_eq!(flag, positional);
    shakti(&[&["generate", arg(&model), "-m", arg(&model)], &rest[..]].concat()).refused();
    assert!(shakti(&[&["generate"], &rest[..]].concat()).refused().contains("MODEL"));
}

#[test]
fn a_seed_repeats_a_text_whatever_the_threads() {
    let model = model();
    let run = |threads: &str, seed: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_shakti"))
            .args(["--threads", threads, "generate", arg(&model), "-p", "Asthma", "-n", "24", "--seed", seed])
            .args([
                "--temp",
                "1.2",
                "--top-k",
                "0",
                "--top-p",
                "0.99",
                "--min-p",
                "0.01",
                "--repeat-penalty",
                "1.1",
                "-q",
            ])
            .output()
            .expect("the binary runs");
        assert!(output.status.success());
        output.stdout
    };
    assert_eq!(run("1", "7"), run("3", "7"));
    assert_ne!(run("1", "7"), run("1", "8"));
}

#[test]
fn the_prompt_may_come_from_a_file_or_standard_input() {
    let model = model();
    let file = fixture().join("text.txt");
    let rest = ["-n", "8", "--greedy", "-q"];
    let from_file = shakti(&[&["generate", arg(&model), "-f", arg(&file)], &rest[..]].concat()).ok();
    let from_input =
        shakti_with_input(&[&["generate", arg(&model), "-f", "-"], &rest[..]].concat(), crate::common::TEXT)
            .ok();
    assert_eq!(from_file, from_input);
}

#[test]
fn a_stop_string_is_not_printed() {
    let model = model();
    let args = ["generate", arg(&model), "-p", "Asthma", "-n", "30", "--greedy", "--ignore-eos", "--json"];
    let full = shakti(&args).json()["text"].as_str().expect("text").to_owned();
    let starts: Vec<usize> = full.char_indices().map(|(at, _)| at).collect();
    let stop = &full[starts[4]..starts[8]];
    let stopped = shakti(&[&args[..], &["--stop", stop]].concat()).json();
    assert_eq!(stopped["text"], full[..full.find(stop).expect("a part of the text")]);
    assert_eq!(stopped["stop"]["text"], stop);
}

#[test]
fn a_prompt_beyond_the_context_is_refused_with_numbers_unless_it_streams() {
    let model = model();
    let long = "lungs ".repeat(300);
    let args = ["generate", arg(&model), "-p", &long, "-n", "8", "--greedy"];
    let message = shakti(&args).refused();
    assert!(message.contains("the context holds 256"), "{message}");
    assert!(message.contains("hint: ") && message.contains("--stream-context"), "{message}");
    shakti(&[&args[..], &["--stream-context", "--context", "64"]].concat()).ok();
    let endless = [
        "generate",
        arg(&model),
        "-p",
        "Asthma",
        "-n",
        "400",
        "--greedy",
        "--ignore-eos",
        "--stream-context",
    ];
    let report = shakti(&[&endless[..], &["--context", "64", "--json"]].concat()).json();
    assert_eq!(report["stats"]["new_tokens"], 400);
}

#[test]
fn sampling_options_out_of_range_are_named() {
    let model = model();
    for (option, value, name) in [
        ("--temp", "-1", "temperature"),
        ("--top-p", "0", "top_p"),
        ("--min-p", "1", "min_p"),
        ("--repeat-penalty", "0", "repetition_penalty"),
    ] {
        let option = format!("{option}={value}");
        let message = shakti(&["generate", arg(&model), "-p", "Asthma", &option]).refused();
        assert!(message.contains(name), "{message}");
    }
    shakti(&["generate", arg(&model), "-p", "Asthma", "--greedy", "--top-k", "5"]).refused();
}

#[test]
fn files_that_llama_cpp_wrote_speak() {
    for name in ["bpe_q4_k_m.gguf", "spm_q4_0.gguf"] {
        let file = repository("golden/gguf").join(name);
        let args =
            ["generate", "-m", arg(&file), "-p", "Hello", "-n", "8", "--greedy", "--ignore-eos", "--json"];
        let report = shakti(&args).json();
        assert_eq!(report["ids"].as_array().expect("ids").len(), 8, "{name}");
        let again = shakti(&[&args[..], &["--kernels", "scalar"]].concat()).json();
        assert_eq!(again["ids"].as_array().expect("ids").len(), 8, "{name} on the scalar kernels");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_text_with_code_130() {
    use std::io::Read as _;
    use std::process::Stdio;
    let model = model();
    let mut child = command()
        .args(["generate", arg(&model), "-p", "Asthma", "-n", "10000000", "--greedy", "--ignore-eos"])
        .args(["--stream-context", "--context", "64"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut first = [0; 8];
    stdout.read_exact(&mut first).expect("some text");
    let drain = std::thread::spawn(move || {
        let mut rest = Vec::new();
        let _ = stdout.read_to_end(&mut rest);
    });
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(killed.expect("kill").success());
    let output = child.wait_with_output().expect("the binary ends");
    drain.join().expect("the reader");
    assert_eq!(output.status.code(), Some(130));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("error: interrupted"), "{stderr}");
}

#[test]
fn a_reader_that_closes_the_pipe_is_no_error() {
    use std::io::Read as _;
    use std::process::Stdio;
    let model = model();
    let mut child = command()
        .args(["generate", arg(&model), "-p", "Asthma", "-n", "100000", "--greedy", "--ignore-eos", "-q"])
        .args(["--stream-context", "--context", "64"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = [0; 4];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("some text");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_screened_head_writes_the_same_text() {
    let quantized = fixture().join("screened-q8_0.gguf");
    shakti(&["quantize", arg(&model()), arg(&quantized), "--type", "q8_0"]).ok();
    for choice in [&["--greedy"][..], &["--temp", "1.5", "--top-k", "3", "--seed", "4"]] {
        let args = ["generate", arg(&quantized), "-p", "Asthma", "-n", "100", "--ignore-eos"];
        let run = |more: &[&str]| shakti(&[&args[..], choice, more].concat()).ok();
        assert_eq!(run(&["--head-screen"]), run(&[]), "{choice:?}");
    }
    let small = ["--prompt", "8", "--gen", "8", "--repeat", "1", "--json", "--head-screen"];
    let bench = |model| shakti(&[&["bench", "-m", arg(model)], &small[..]].concat()).json();
    let cell = bench(&quantized);
    assert!(cell["head_screen_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{cell}");
    assert!(cell["head_share_read"].as_f64().is_some_and(|share| share > 0.0 && share <= 1.0), "{cell}");
    assert!(bench(&model())["head_screen_bytes"].is_null(), "a head of floats has no copy");
    let floats = shakti(&["generate", arg(&model()), "-p", "Asthma", "-n", "2", "--greedy", "--head-screen"]);
    assert!(floats.stderr.contains("not Q8_0 or Q6_K"), "{}", floats.stderr);
}
