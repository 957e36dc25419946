//! Every rule seen to fail on a made-up bad tree, and this tree seen to keep them all.

use std::path::Path;

use super::source::Source;
use super::{Problem, check, levels, paths, rules};

/// Rules about one Rust file, as `path:line: message`.
fn rust(path: &str, text: &str) -> Vec<String> {
    let problems = rules::check(&Source::new(Path::new(path), text));
    problems.iter().map(Problem::to_string).collect()
}

/// Asserts that a rule finds one problem, at this line and with these words.
#[track_caller]
fn finds(path: &str, text: &str, line: usize, words: &str) {
    let problems = rust(path, text);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with(&format!("{path}:{line}: ")), "{problems:#?}");
    assert!(problems[0].contains(words), "{problems:#?}");
}

#[track_caller]
fn finds_nothing(path: &str, text: &str) {
    assert_eq!(rust(path, text), [""; 0]);
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("a file has a folder")).expect("creating a folder");
    std::fs::write(path, text).expect("writing a file");
}

/// A workspace in which `shakti-engine` depends on the packages `names`.
fn workspace(names: &[String]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder");
    let manifest = |name: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lints]\nworkspace = true\n"
        )
    };
    let mut engine = manifest("shakti-engine") + "[dependencies]\n";
    for name in names {
        let folder = if let Some(ours) = name.strip_prefix("shakti-") { ours } else { name };
        engine += &format!("{name} = {{ path = \"../{folder}\" }}\n");
        write(root.path(), &format!("crates/{folder}/Cargo.toml"), &manifest(name));
        write(root.path(), &format!("crates/{folder}/src/lib.rs"), "//! Made up.\n//! For a test.\n");
    }
    write(
        root.path(),
        "Cargo.toml",
        "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"3\"\n[workspace.lints]\n",
    );
    write(root.path(), "crates/engine/Cargo.toml", &engine);
    write(root.path(), "crates/engine/src/lib.rs", "//! Made up.\n//! For a test.\n");
    root
}

fn check_workspace(root: &Path) -> Vec<String> {
    check(root).expect("the check runs").iter().map(Problem::to_string).collect()
}

#[test]
fn this_tree_is_tidy() {
    let problems = check(&crate::workspace_root()).expect("the check runs");
    let errors: Vec<String> = problems.iter().filter(|p| !p.warning).map(Problem::to_string).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

#[test]
fn a_crate_must_not_use_one_of_a_higher_level() {
    let root = workspace(&["shakti-kernels".into()]);
    assert_eq!(check_workspace(root.path()), [""; 0]);
    let manifest = "[package]\n[lints]\nworkspace = true\n[dependencies]\nshakti-engine.workspace = true\n";
    write(root.path(), "crates/model/Cargo.toml", manifest);
    let problems = levels::check(root.path()).expect("the check runs");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].to_string().starts_with("crates/model/Cargo.toml:5: `model` must not use `engine`"));
}

#[test]
fn levels_hold_in_every_kind_of_dependency_table_but_not_for_tests() {
    let bad = ["[build-dependencies]", "[target.'cfg(unix)'.dependencies]"];
    for table in bad {
        let root = workspace(&[]);
        let text = format!("[lints]\nworkspace = true\n{table}\nshakti-train = {{ path = \"../train\" }}\n");
        write(root.path(), "crates/quant/Cargo.toml", &text);
        assert_eq!(levels::check(root.path()).expect("the check runs")[0].line, 4, "{table}");
    }
    let root = workspace(&[]);
    let text = "[lints]\nworkspace = true\n[dependencies.shakti-train]\npath = \"../train\"\n";
    write(root.path(), "crates/quant/Cargo.toml", text);
    assert_eq!(levels::check(root.path()).expect("the check runs")[0].line, 3);
    let text = "[lints]\nworkspace = true\n[dev-dependencies]\nshakti-train.workspace = true\n";
    write(root.path(), "crates/quant/Cargo.toml", text);
    assert_eq!(levels::check(root.path()).expect("the check runs"), []);
}

#[test]
fn a_crate_needs_a_level_and_the_lints_of_the_workspace() {
    let root = workspace(&["shakti-helpers".into()]);
    let problems = levels::check(root.path()).expect("the check runs");
    assert!(problems.iter().any(|p| p.message.contains("crate `helpers` has no level")), "{problems:?}");
    let root = workspace(&[]);
    write(root.path(), "crates/quant/Cargo.toml", "[package]\n[features]\nworkspace = true\n");
    let problems = levels::check(root.path()).expect("the check runs");
    assert!(problems[0].message.contains("`[lints] workspace = true` is missing"), "{problems:?}");
}

#[test]
fn the_engine_must_not_need_many_packages() {
    let names: Vec<String> = (0..39).map(|index| format!("package-{index}")).collect();
    let root = workspace(&names);
    assert!(!check_workspace(root.path()).iter().any(|p| p.contains("packages")));
    let names: Vec<String> = (0..40).map(|index| format!("package-{index}")).collect();
    let root = workspace(&names);
    assert!(check_workspace(root.path()).iter().any(|p| p.contains("the engine needs 41 packages")));
}

#[test]
fn the_engine_must_not_need_training_or_the_network() {
    for name in ["shakti-train", "shakti-data", "hyper", "socket2"] {
        let root = workspace(&[name.into()]);
        let problems = check_workspace(root.path());
        assert!(problems.iter().any(|p| p.contains(&format!("the engine needs `{name}`"))), "{problems:?}");
    }
}

#[test]
fn a_file_must_not_grow_beyond_its_budget() {
    let file = |lines: usize| "//! Doc.\n\n".to_owned() + &"// comment\n\nstatic A: u8 = 0;\n".repeat(lines);
    finds_nothing("crates/model/src/a.rs", &file(400));
    finds("crates/model/src/a.rs", &file(401), 1, "warning: 401 lines of code");
    finds("crates/model/src/a.rs", &file(800), 1, "warning: 800 lines of code");
    finds("crates/model/src/a.rs", &file(801), 1, ":1: 801 lines of code");
    finds_nothing("crates/model/src/a/tests.rs", &file(801));
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", file(400), "fn a() {}\n".repeat(500));
    finds_nothing("crates/model/src/a.rs", &tests);
    finds("crates/model/src/a.rs", &(tests + "fn b() {}\n"), 1, "401 lines of code");
    // A sibling file of tests does not hide the code after its declaration.
    let sibling = file(400) + "#[cfg(test)]\nmod tests;\nfn b() {}\n";
    finds("crates/model/src/a.rs", &sibling, 1, "401 lines of code");
}

#[test]
fn a_file_must_begin_by_saying_what_it_holds() {
    finds("crates/model/src/a.rs", "fn a() {}\n", 1, "must begin with `//!`");
    finds("crates/model/src/a.rs", "/// Not of the module.\nfn a() {}\n", 1, "must begin with `//!`");
    finds_nothing("crates/model/src/a.rs", "//! One sentence.\n");
}

#[test]
fn a_crate_must_document_itself() {
    finds("crates/model/src/lib.rs", "//! The model.\n", 1, "the crate must say");
    finds_nothing("crates/model/src/lib.rs", "//! The model.\n//!\n//! `Decoder` is where to begin.\n");
}

#[test]
fn unsafe_stands_in_few_places() {
    let text = "//! Doc.\n\n// SAFETY: sound.\nunsafe impl Send for A {}\n";
    finds("crates/model/src/a.rs", text, 4, "`unsafe` may stand only in");
    finds_nothing("crates/kernels/src/a.rs", text);
    finds_nothing("crates/gguf/src/file_map.rs", text);
    finds("crates/gguf/src/reader.rs", text, 4, "`unsafe` may stand only in");
    finds_nothing(
        "crates/model/src/a.rs",
        "//! Without unsafe.\n#![forbid(unsafe_code)]\nstatic A: &str = \"unsafe {\";\n",
    );
}

#[test]
fn unsafe_says_why_it_is_sound() {
    let bad = [
        "//! Doc.\nfn a() {\n    unsafe { b() }\n}\n",
        "//! Doc.\n// SAFETY: sound.\n\nunsafe impl Send for A {}\n",
        "//! Doc.\n// SAFETY: of another.\nlet a = unsafe { b() };\nlet c = unsafe { d() };\n",
    ];
    for (text, line) in bad.into_iter().zip([3, 4, 4]) {
        finds("crates/kernels/src/a.rs", text, line, "without a `// SAFETY:` comment");
    }
    let good = [
        "//! Doc.\n// SAFETY: sound,\n// for two reasons.\n#[inline]\nunsafe impl Send for A {}\n",
        "//! Doc.\n// SAFETY: sound.\nlet a =\n    unsafe { b() };\n",
    ];
    good.into_iter().for_each(|text| finds_nothing("crates/kernels/src/a.rs", text));
}

#[test]
fn nothing_is_owed() {
    let bad = [
        "#[ignore]",
        "#[ignore = \"slow\"]",
        "todo!()",
        "unimplemented!(\"later\")",
        "// TODO: finish",
        "/* FIXME */",
    ];
    for text in bad {
        finds("crates/model/src/a.rs", &format!("//! Doc.\n\n{text}\n"), 3, "finish it");
    }
    finds_nothing("crates/model/src/a.rs", "//! Doc.\nlet a = \"todo!() TODO\"; // hackneyed\n");
}

#[test]
fn a_silenced_lint_gives_its_reason() {
    let bad = [
        "#[allow(dead_code)]",
        "#![allow(dead_code)]",
        "#[expect(dead_code)]",
        "#[cfg_attr(test, allow(dead_code))]",
        "#[allow(\n    dead_code\n)]\nfn reason() { let reason = 1; }",
    ];
    for text in bad {
        finds("crates/model/src/a.rs", &format!("//! Doc.\n\n{text}\n"), 3, "without `reason");
    }
    let good = [
        "#[allow(dead_code, reason = \"used by a macro\")]",
        "#[expect(\n    dead_code,\n    reason = \"used by a macro\"\n)]",
        "#[test]\nfn a() { b().expect(\"text\"); allow(1); }",
    ];
    good.into_iter()
        .for_each(|text| finds_nothing("crates/model/src/a.rs", &format!("//! Doc.\n\n{text}\n")));
}

#[test]
fn only_the_command_line_prints() {
    for word in ["println!()", "eprintln!()", "print!()", "eprint!()", "dbg!(1)", "std::io::stdout()"] {
        let text = format!("//! Doc.\nfn a() {{ {word}; }}\n");
        finds("crates/model/src/a.rs", &text, 2, "only the command line prints");
        for path in [
            "crates/cli/src/a.rs",
            "xtask/src/a.rs",
            "bench/a.rs",
            "crates/data/examples/a.rs",
            "crates/data/tests/a.rs",
        ] {
            finds_nothing(path, &text);
        }
    }
    finds_nothing(
        "crates/model/src/a.rs",
        "//! Doc.\n#[cfg(test)]\nmod tests {\n    fn a() { println!(); }\n}\n",
    );
}

#[test]
fn nothing_opens_a_socket() {
    for word in ["use std::net::IpAddr;", "let a = TcpStream::connect(b);"] {
        finds("crates/cli/src/a.rs", &format!("//! Doc.\n{word}\n"), 2, "opens a socket");
    }
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let check = |text: &str| paths::check(Path::new("docs/a.md"), text);
    // Put together here, so that this file keeps the rule.
    for folder in ["home", "root", "Users", "work"] {
        for text in
            [format!("\n/{folder}/me"), format!("\nsee `/{folder}/me`"), format!("\n\"/{folder}/me\"")]
        {
            assert_eq!(check(&text).len(), 1, "{text}");
            assert_eq!(check(&text)[0].line, 2, "{text}");
        }
        for text in
            [format!("https://example.org/{folder}/me"), format!("crates/{folder}/me"), format!("/{folder}")]
        {
            assert_eq!(check(&text), [], "{text}");
        }
    }
}

#[test]
fn code_and_comments_are_told_apart() {
    let text = r###"let a = "// no"; // yes
let b = r#"" /* no */ "#; /* yes /* yes */ yes
yes */ let c = '"'; let d = b'\''; let e: &'static str = "\" // no";
let f = br"\"; // yes
let g = "no \
no"; // yes
"###;
    let source = Source::new(Path::new("a.rs"), text);
    let code: Vec<&str> = source.lines.iter().map(|line| line.code.trim()).collect();
    let expected = [
        "let a = \"\";",
        "let b = r#\"\";",
        "let c = ''; let d = b''; let e: &'static str = \"\";",
        "let f = br\"\";",
        "let g = \"",
        "\";",
        "",
    ];
    assert_eq!(code, expected);
    assert!(source.lines.iter().all(|line| !line.comment.contains("no")));
    assert_eq!(source.lines.iter().map(|line| line.comment.matches("yes").count()).sum::<usize>(), 7);
}
