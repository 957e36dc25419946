//! A disk that is full: a clear error, nothing half-written under its final name, and the old files still whole.
//!
//! Each command writes into a small file system in memory, mounted in a namespace of its own, and what it leaves is
//! copied out of there.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::{Path, PathBuf};

use shakti_train::Checkpoints;
use tempfile::TempDir;

use crate::adapters::adapter;
use crate::common::{Run, arg, fixture, model, names, namespace, shakti};
use crate::train::{data, result};

/// What the operating system says.
const REASON: &str = "No space left on device";

/// A folder on which a small disk is mounted, and one that keeps what was on it.
struct Disk {
    _folder: TempDir,
    path: PathBuf,
    kept: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, kept) = (folder.path().join("disk"), folder.path().join("kept"));
        fs::create_dir(&path).expect("a folder");
        Self { _folder: folder, path, kept }
    }

    /// Runs `shakti` after `before`, a line for the shell, on a disk of so many bytes; the disk's contents are then in
    /// `kept`. `None` where the system allows no such disk.
    fn run(&self, bytes: u64, before: &str, args: &[&str]) -> Option<Run> {
        let script = format!(
            "mount -t tmpfs -o size={bytes} none \"$DISK\" && {{ {before}; }} || exit 99\n\
             \"$SHAKTI\" --threads 1 \"$@\"; code=$?\ncp -a \"$DISK\" \"$KEPT\" && exit $code"
        );
        let output = namespace("--mount")?
            .args(["sh", "-c", &script, "sh"])
            .args(args)
            .env("SHAKTI", env!("CARGO_BIN_EXE_shakti"))
            .env("DISK", &self.path)
            .env("KEPT", &self.kept)
            .output()
            .expect("unshare runs");
        let run = Run::new(output);
        if run.code == Some(99) {
            eprintln!("skipped: this system mounts nothing here: {}", run.stderr);
            return None;
        }
        Some(run)
    }
}

/// Bytes of a folder on a disk of pages of 4 KiB.
fn bytes_on_disk(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let size = |entry: fs::DirEntry| match entry.metadata().expect("metadata") {
        metadata if metadata.is_dir() => bytes_on_disk(&entry.path()),
        metadata => metadata.len().next_multiple_of(4096),
    };
    entries.map(size).sum()
}

/// The message of a command that a full disk stopped: exit code 1, the file, the reason.
#[track_caller]
fn stopped_by_full_disk(run: Run, place: &str) -> String {
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{place}: {}", run.stderr);
    let message = run.stderr.lines().skip_while(|line| !line.starts_with("error: "));
    let message = message.collect::<Vec<_>>().join("\n");
    assert!(message.contains(place) && message.contains(REASON), "{place}: {message}");
    assert!(message.contains("hint: free some space"), "{message}");
    message
}

#[test]
fn training_on_a_disk_that_fills_up_keeps_its_checkpoints_and_goes_on_to_the_same_bits() {
    let data = data();
    let (recipe, whole) = (data.path().join("recipe.toml"), data.path().join("out"));
    shakti(&["train", "pretrain", arg(&recipe)]).ok();
    let (expected, needed) = (result(&whole), bytes_on_disk(&whole));
    let mut resumed = 0;
    const SIZES: u64 = 12;
    for size in 1..=SIZES {
        let disk = Disk::new();
        let place = format!("output.dir='{}/run'", disk.path.display());
        // Every size is less than what the finished run takes.
        let args = ["train", "pretrain", arg(&recipe), "--set", &place];
        let Some(run) = disk.run(needed * size / (SIZES + 1), "true", &args) else { return };
        let message = stopped_by_full_disk(run, arg(&disk.path.join("run")));
        assert!(message.contains("--resume"), "{message}");
        let kept = disk.kept.join("run");
        let unfinished = names(&kept).into_iter().find(|name| name.ends_with(".tmp") || name == "model");
        assert_eq!(unfinished, None, "size {size}: {message}");
        let newest = Checkpoints::new(&kept, 2).newest(&mut |warning| panic!("size {size}: {warning}"));
        resumed += u64::from(newest.expect("a list").is_some());
        let place = format!("output.dir='{}'", kept.display());
        shakti(&["train", "pretrain", arg(&recipe), "--set", &place, "--resume"]).ok();
        assert!(result(&kept) == expected, "size {size}: other weights or another loss curve");
    }
    println!(
        "full disks of {SIZES} sizes; {resumed} runs went on from a checkpoint, the others from the start"
    );
    assert!(resumed > 0 && resumed < SIZES);
}

/// The files of a folder, or the one file, with their bytes.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |path: &Path| fs::read(path).expect("a file");
    if path.is_file() {
        return vec![(String::new(), read(path))];
    }
    names(path).into_iter().map(|name| (name.clone(), read(&path.join(name)))).collect()
}

#[test]
fn what_does_not_fit_is_not_there_and_what_it_would_replace_is_whole() {
    let (model, text, whole) = (model(), fixture().join("text.txt"), tempfile::tempdir().expect("a folder"));
    let adapter = adapter(false);
    let commands: [(&str, &[&str]); 8] = [
        ("", &["quantize", arg(&model), "OUT", "--type", "q8_0"]),
        ("", &["export", arg(&model), "OUT", "--to", "gguf"]),
        ("", &["export", arg(&model), "OUT", "--to", "hf"]),
        ("", &["export", arg(&model), "OUT", "--to", "gguf", "--adapter", arg(&adapter)]),
        ("", &["export", arg(&model), "OUT", "--to", "hf", "--adapter", arg(&adapter)]),
        (".gguf", &["merge", "-m", arg(&model), "--adapter", arg(&adapter), "-o", "OUT", "--type", "q8_0"]),
        ("", &["merge", "-m", arg(&model), "--adapter", arg(&adapter), "-o", "OUT"]),
        ("", &["tokenizer", "train", arg(&text), "-o", "OUT", "--vocab-size", "300"]),
    ];
    for (index, (ending, command)) in commands.into_iter().enumerate() {
        let old = whole.path().join(format!("{index}{ending}"));
        let with_out = |out: &Path| -> Vec<String> {
            command.iter().map(|word| word.replace("OUT", arg(out))).collect()
        };
        let strings = with_out(&old);
        shakti(&strings.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let needed =
            if old.is_dir() { bytes_on_disk(&old) } else { fs::metadata(&old).expect("a file").len() };
        for (size, replaces) in (1..=4).flat_map(|size| [(size, false), (size, true)]) {
            let disk = Disk::new();
            let new = format!("new{ending}");
            let out = disk.path.join(&new);
            let mut strings = with_out(&out);
            let (mut bytes, mut before) = ((needed * size / 5).max(4096), "true".to_owned());
            if replaces {
                strings.push("--force".into());
                bytes += needed.next_multiple_of(4096);
                before = format!("cp -a '{}' \"$DISK/{new}\"", old.display());
            }
            let args: Vec<&str> = strings.iter().map(String::as_str).collect();
            let Some(run) = disk.run(bytes, &before, &args) else { return };
            stopped_by_full_disk(run, arg(&disk.path));
            if replaces {
                assert_eq!(names(&disk.kept), [new.as_str()], "{args:?}");
                assert!(contents(&disk.kept.join(&new)) == contents(&old), "{args:?}: the old one changed");
            } else {
                assert!(contents_are_absent(&disk.kept), "{args:?}: {:?}", names(&disk.kept));
            }
        }
    }
}

/// Nothing there, or an empty folder.
fn contents_are_absent(kept: &Path) -> bool {
    names(kept).iter().all(|name| kept.join(name).is_dir() && names(&kept.join(name)).is_empty())
}

/// The adapter's run, then the first file of the merged model, do not fit.
#[test]
fn tuning_a_base_on_a_full_disk_says_so_and_leaves_no_half_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, base) = (crate::quickstart::own_data(folder.path(), 120, 5), model());
    let before = contents(&base);
    let whole = folder.path().join("whole");
    let tune = |out: &Path, how: &[&str]| -> Vec<String> {
        let args = ["quickstart", "--data", arg(&data), "--base", arg(&base), "--out", arg(out)];
        [&args[..], &["--minutes", "0.02"], how].concat().into_iter().map(str::to_owned).collect()
    };
    for (how, run) in [(&[][..], "lora"), (&["--full"], "full")] {
        let args = tune(&whole, how);
        shakti(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
        let first = bytes_on_disk(&whole.join(run));
        for bytes in [first / 2, first + 8192] {
            let disk = Disk::new();
            let out = disk.path.join("quick");
            let args = tune(&out, how);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let Some(stopped) = disk.run(bytes, "true", &args) else { return };
            stopped_by_full_disk(stopped, arg(&out));
            let left = names(&disk.kept.join("quick"));
            assert!(left.iter().all(|name| name == run), "{left:?}");
            let left = names(&disk.kept.join("quick").join(run));
            assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
        }
        fs::remove_dir_all(&whole).expect("a folder");
    }
    assert!(contents(&base) == before, "the base is as it was");
}

#[test]
fn a_quickstart_on_a_full_disk_says_so_and_leaves_no_half_file() {
    // The data do not fit; the model of the first stage does not fit.
    for megabytes in [1, 12] {
        let disk = Disk::new();
        let out = disk.path.join("quick");
        let args = ["quickstart", "--out", arg(&out), "--minutes", "0.02"];
        let Some(run) = disk.run(megabytes << 20, "true", &args) else { return };
        stopped_by_full_disk(run, arg(&out));
        let data = disk.kept.join("quick/quickstart-data");
        for name in names(&data) {
            let original = crate::common::repository("data/quickstart").join(&name);
            assert!(fs::read(data.join(&name)).ok() == fs::read(original).ok(), "{name} is cut short");
        }
        let pretrain = disk.kept.join("quick/pretrain");
        assert!(!pretrain.join("model").exists());
        let left = if pretrain.exists() { names(&pretrain) } else { Vec::new() };
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    }
}
