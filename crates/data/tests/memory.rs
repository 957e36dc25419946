//! Reading takes memory for one record, not for the file: peak memory of this process over large files.

use shakti_data::{ErrorKind, ReaderSettings, RecordReader};
use std::io::Write;
use std::path::Path;

/// Peak resident memory of this process so far, in bytes; only Linux tells.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Writes `pieces` copies of `piece` compressed, without ever holding them all.
fn write_zst(path: &Path, piece: &[u8], pieces: usize) {
    let mut encoder = zstd::Encoder::new(std::fs::File::create(path).unwrap(), 1).unwrap();
    (0..pieces).for_each(|_| encoder.write_all(piece).unwrap());
    encoder.finish().unwrap();
}

#[test]
fn large_files_are_read_in_little_memory() {
    const MIB: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let records = format!("{{\"text\":\"{}\"}}\n", "word ".repeat(200)).repeat(64);
    let files = [
        ("lines.jsonl.zst", records.clone().into_bytes()),
        ("list.json.zst", records.into_bytes()),
        ("one_line.txt.zst", "word ".repeat(13_000).into_bytes()),
        ("one_line.jsonl.zst", "word ".repeat(13_000).into_bytes()),
    ];
    for (name, piece) in &files {
        write_zst(&dir.path().join(name), piece, 80 * MIB as usize / piece.len());
    }
    let Some(before) = peak_bytes() else {
        println!("skipped: this system does not tell a process's peak memory");
        return;
    };
    for (name, _) in &files {
        let read = RecordReader::open(&dir.path().join(name), &ReaderSettings::default())
            .and_then(|reader| reader.map(|record| record.map(drop)).collect::<Result<Vec<()>, _>>());
        match read {
            Ok(records) => assert!(records.len() > 50_000, "{name}"),
            Err(error) => {
                assert!(name.starts_with("one_line"), "{error}");
                assert!(matches!(error.kind(), ErrorKind::RecordTooLong { .. }), "{error}");
            }
        }
    }
    let grown = (peak_bytes().unwrap() - before) / MIB;
    println!("80 MiB of text a file read in {grown} MiB more than before");
    // The limit of a record is 16 MiB, and a buffer may have doubled once.
    assert!(grown < 48, "{grown} MiB");
}
