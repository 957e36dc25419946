//! Damaged files: whatever the bytes, opening ends with a file or an error, and allocates no more than the bytes say.

mod sample;

use std::process::Command;

use proptest::prelude::*;
use sample::{read_all, valid_file};

#[test]
fn every_truncation_is_an_error() {
    let bytes = valid_file();
    read_all(bytes.clone()).expect("the whole file is valid");
    // The last tensor has 20 bytes; only the padding after it may be absent.
    let needed = bytes.len() - 12;
    for len in 0..bytes.len() {
        assert_eq!(read_all(bytes[..len].to_vec()).is_ok(), len >= needed, "cut to {len} of {}", bytes.len());
    }
}

#[test]
fn every_bit_may_flip() {
    let bytes = valid_file();
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let _ = read_all(damaged);
    }
}

proptest! {
    #[test]
    fn damaged_files_are_read_or_refused(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..16),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = valid_file();
        for (index, value) in edits {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        let len = cut.index(bytes.len() * 2).min(bytes.len());
        bytes.truncate(len);
        let _ = read_all(bytes);
    }

    #[test]
    fn random_bytes_behind_a_valid_start_are_read_or_refused(
        tensors in 0u64..4,
        entries in 0u64..4,
        tail in prop::collection::vec(prop_oneof![3 => 0u8..14, 1 => any::<u8>()], 0..400),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes.extend(tail);
        let _ = read_all(bytes);
    }
}

/// The other tests once more in a process that may use 256 MiB: whoever allocates what a header claims dies there.
#[cfg(target_os = "linux")]
#[test]
fn hostile_files_allocate_little() {
    const INSIDE: &str = "SHAKTI_INSIDE_MEMORY_LIMIT";
    if std::env::var_os(INSIDE).is_some() {
        return;
    }
    let program = std::env::current_exe().expect("this test program");
    let status = Command::new("sh")
        .args(["-c", "ulimit -v 262144 && exec \"$0\" --test-threads=1"])
        .arg(program)
        .env(INSIDE, "1")
        .env("MALLOC_ARENA_MAX", "1")
        .status()
        .expect("a shell");
    assert!(status.success(), "the tests need more than 256 MiB: {status}");
}
