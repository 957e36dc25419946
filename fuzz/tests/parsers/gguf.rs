//! The GGUF container.

#[path = "../../../crates/gguf/tests/sample/mod.rs"]
mod sample;

use sample::{read_all, valid_file};
use shakti_fuzz::Target;

#[test]
fn container() {
    let seeds = vec![valid_file()];
    Target { test: "gguf::container", seeds, words: &[], rounds: 20_000 }
        .run(|bytes| read_all(bytes.to_vec()).is_ok());
}
