//! Nothing leaves the machine: commands run without any network interface, open no socket, and the binary does not even
//! know how to.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;

use crate::common::{arg, command, fixture, model, namespace};

/// A recipe of two steps on a few sentences.
fn recipe() -> PathBuf {
    let folder = fixture().join("offline");
    fs::create_dir_all(&folder).expect("a folder");
    let text: String =
        (0..60).map(|n| format!("{{\"text\": \"Case {n}: the lungs take up air.\"}}\n")).collect();
    fs::write(folder.join("text.jsonl"), text).expect("a file");
    let at = folder.display();
    let recipe = format!(
        "[model]\nconfig = '{at}/config.json'\n\n[tokenizer.train]\nvocab_size = 280\n\n[data]\n\
         sources = [{{ path = '{at}/text.jsonl' }}]\n\n[train]\nstage = 'pretrain'\nsequence_length = 32\n\
         batch_tokens = 64\nmicro_batch_tokens = 64\nsteps = 2\npeak_learning_rate = 1e-3\n\n\
         [output]\ndir = '{at}/run'\n"
    );
    fs::copy(model().join("config.json"), folder.join("config.json")).expect("a configuration");
    fs::write(folder.join("recipe.toml"), recipe).expect("a recipe");
    folder.join("recipe.toml")
}

/// Runs a command in a network namespace without interfaces, where the system allows one.
pub fn offline(args: &[&str]) -> Option<std::process::Output> {
    let run = namespace("--net")?.arg(env!("CARGO_BIN_EXE_shakti")).args(args).output();
    Some(run.expect("unshare runs"))
}

#[test]
fn every_command_passes_without_network_interfaces() {
    let (model, text) = (model(), fixture().join("text.txt"));
    let out = |name: &str| fixture().join("offline").join(name);
    let (vocabulary, quantized, exported) = (out("vocabulary"), out("quantized.gguf"), out("exported"));
    let (cleaned, planted, list) = (out("cleaned.txt"), out("planted.txt"), out("canaries.json"));
    let recipe = recipe();
    let (model, text) = (arg(&model), arg(&text));
    let commands: [&[&str]; 16] = [
        &["train", "pretrain", arg(&recipe)],
        &["quantize", model, arg(&quantized), "--type", "q4_0"],
        &["export", model, arg(&exported), "--to", "hf"],
        &["generate", model, "-p", "Asthma", "-n", "4"],
        &["chat", model],
        &["model", "info", "shakti-nano"],
        &["perplexity", "-m", model, text],
        &["bench", "-m", model, "--prompt", "8,16", "--gen", "4", "--repeat", "1"],
        &["tokenizer", "train", text, "-o", arg(&vocabulary), "--vocab-size", "280"],
        &["tokenizer", "encode", "-m", model, "Asthma"],
        &["tokenizer", "decode", "-m", model, "20"],
        &["data", "inspect", text],
        &["data", "dedup", text, "-o", arg(&cleaned)],
        &["data", "decontaminate", text, "--against", text],
        &["data", "pii", text],
        &["data", "canary", text, "-o", arg(&planted), "--list", arg(&list), "--count", "1", "--seed", "1"],
    ];
    for args in commands {
        let Some(run) = offline(args) else {
            eprintln!("skipped: this system allows no network namespaces");
            return;
        };
        let stderr = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{args:?}: {stderr}");
    }
}

/// Names of the functions that a 64-bit little-endian ELF binary imports: the undefined symbols of its dynamic symbol
/// table (section type 11; entries of 24 bytes: name at 0, section at 6).
fn imports(binary: &[u8]) -> Vec<String> {
    let number = |at: usize, len: usize| {
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(&binary[at..at + len]);
        u64::from_le_bytes(bytes) as usize
    };
    assert_eq!(&binary[..6], b"\x7fELF\x02\x01", "a 64-bit little-endian ELF binary");
    let (sections, size, count) = (number(40, 8), number(58, 2), number(60, 2));
    let section = |index: usize| sections + index * size;
    let is_dynamic_symbols = |index: &usize| number(section(*index) + 4, 4) == 11;
    let symbols = section((0..count).find(is_dynamic_symbols).expect("a dynamic symbol table"));
    let names = number(section(number(symbols + 40, 4)) + 24, 8);
    let (start, len) = (number(symbols + 24, 8), number(symbols + 32, 8));
    let undefined = (start..start + len).step_by(24).filter(|symbol| number(symbol + 6, 2) == 0);
    let name = |symbol| {
        let bytes = &binary[names + number(symbol, 4)..];
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    };
    undefined.map(name).collect()
}

#[test]
fn the_binary_imports_no_function_that_opens_a_socket() {
    let imports = imports(&fs::read(env!("CARGO_BIN_EXE_shakti")).expect("the binary"));
    assert!(imports.iter().any(|name| name.starts_with("mmap")), "the table is read: {imports:?}");
    // Not in the list: `socketpair` and `sendmsg`, which Rust's library imports to start processes (`bench`). They reach
    // only the process's own children.
    for name in ["socket", "connect", "getaddrinfo", "sendto", "bind", "listen", "accept", "accept4"] {
        assert!(!imports.iter().any(|import| import == name), "`{name}` is imported");
    }
}

#[test]
fn a_running_process_has_no_socket_open() {
    let model = model();
    let mut child = command()
        .args(["generate", arg(&model), "-p", "Asthma", "-n", "20000", "--greedy", "--ignore-eos", "-q"])
        .args(["--stream-context", "--context", "64"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    // The first text shows that the program is under way, not still being started.
    let mut text = child.stdout.take().expect("a pipe");
    text.read_exact(&mut [0]).expect("text");
    // What follows is taken away, so that the program does not wait for a reader.
    let reader = std::thread::spawn(move || std::io::copy(&mut text, &mut std::io::sink()));
    let folder = format!("/proc/{}/fd", child.id());
    let mut looks = 0;
    while child.try_wait().expect("a child").is_none() && looks < 200 {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            assert!(!target.to_string_lossy().starts_with("socket:"), "{}", target.display());
        }
        looks += 1;
    }
    // Only our own child; it may have ended by itself.
    let _ = child.kill();
    child.wait().expect("a child");
    reader.join().expect("a reader").expect("text");
    assert!(looks > 0);
}

#[cfg(unix)]
#[test]
fn what_is_written_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let (text, out) = (fixture().join("text.txt"), fixture().join("private-vocabulary"));
    crate::common::shakti(&["tokenizer", "train", arg(&text), "-o", arg(&out), "--vocab-size", "280"]).ok();
    for entry in fs::read_dir(&out).expect("a folder").flatten() {
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}: {mode:o}", entry.path().display());
    }
    let mode = fs::metadata(&out).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
