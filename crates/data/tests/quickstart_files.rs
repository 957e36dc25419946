//! The quickstart files in the repository are the ones that their README describes, and small.

use sha2::{Digest, Sha256};
use std::path::Path;

#[test]
fn readme_names_every_file_with_its_size_and_hash() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/quickstart");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let mut total = 0;
    for name in ["medical_text.jsonl.zst", "medical_qa.jsonl.zst"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let row = readme.lines().find(|line| line.starts_with(&format!("| {name} |"))).unwrap();
        assert!(row.contains(&format!("| {} |", bytes.len())), "{name}: {} bytes", bytes.len());
        assert!(row.contains(&hash), "{name}: {hash}");
        total += bytes.len();
    }
    assert!(total <= 8_000_000, "{total} bytes");
}
