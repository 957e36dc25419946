//! Checksums of a folder: `checksums.sha256`, in the format that `sha256sum --check` reads.

use std::path::Path;

use crate::CheckpointError;
use crate::files::{Overwrite, list_files, read_text, sha256_file, write_file};

/// Name of the file that holds the checksums of its folder.
pub const MANIFEST_FILE: &str = "checksums.sha256";

/// Hashes every file of `folder` (subfolders included) and writes [`MANIFEST_FILE`] beside them, atomically.
///
/// Written last, it says that the folder is complete.
///
/// # Errors
/// If a file cannot be read, has a name with a line break, or the manifest cannot be written.
pub fn write_manifest(folder: &Path) -> Result<(), CheckpointError> {
    let mut text = String::new();
    for name in list_files(folder)? {
        if is_outside(&name) {
            continue;
        }
        if name.contains(['\n', '\r', '\\', '\u{fffd}']) {
            let path = folder.join(&name);
            let (expected, found) = ("a plain file name".to_owned(), name.escape_debug().to_string());
            return Err(CheckpointError::damaged(&path, "file name", expected, found));
        }
        let (hash, _) = sha256_file(&folder.join(&name))?;
        text.push_str(&format!("{hash}  {name}\n"));
    }
    write_file(&folder.join(MANIFEST_FILE), text.as_bytes(), Overwrite::Replace)
}

/// Checks every file against [`MANIFEST_FILE`].
///
/// # Errors
/// Names the first file that is missing, changed, or not listed, or the line that is no checksum.
pub fn verify_manifest(folder: &Path) -> Result<(), CheckpointError> {
    let path = folder.join(MANIFEST_FILE);
    let text = read_text(&path)?;
    let mut listed = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let entry = line.split_once("  ").filter(|(hash, name)| {
            let is_hash = hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit());
            // A manifest names files below its own folder only.
            let is_inside = !name.is_empty() && !name.starts_with('/') && !name.split('/').any(|p| p == "..");
            is_hash && is_inside
        });
        let Some((hash, name)) = entry else {
            let (place, expected) = (format!("line {}", index + 1), "`HASH  NAME`".to_owned());
            return Err(CheckpointError::damaged(&path, place, expected, line.escape_debug().to_string()));
        };
        let file = folder.join(name);
        let (found, _) = sha256_file(&file)?;
        if !found.eq_ignore_ascii_case(hash) {
            return Err(CheckpointError::Checksum { path: file, expected: hash.to_owned(), found });
        }
        listed.push(name);
    }
    match list_files(folder)?.iter().find(|name| !is_outside(name) && !listed.contains(&name.as_str())) {
        Some(name) => {
            let expected = "every file of the folder".to_owned();
            Err(CheckpointError::damaged(&path, "list", expected, format!("no line for `{name}`")))
        }
        None => Ok(()),
    }
}

/// The manifest itself and files under construction.
fn is_outside(name: &str) -> bool {
    name == MANIFEST_FILE || name.ends_with(".tmp")
}
