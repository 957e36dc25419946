//! Folders and files that only their owner may read, written whole or not at all.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
pub use shakti_gguf::{AtomicFile, Overwrite};

use crate::CheckpointError;

/// Longest text file (`config.json`, `tokenizer.json`, an index) that is read into memory, in bytes.
pub const MAX_TEXT_BYTES: u64 = 256 << 20;

/// Writes `bytes` to `path` atomically, readable by the owner only.
///
/// # Errors
/// If the file exists and `overwrite` is [`Overwrite::Refuse`], or cannot be written; an older file is then whole.
pub fn write_file(path: &Path, bytes: &[u8], overwrite: Overwrite) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = AtomicFile::create(path, overwrite)?;
        file.write_all(bytes)?;
        file.commit()
    };
    write().map_err(|e| CheckpointError::io(path, "write the file", e))
}

/// Writes files of a folder, readable by the owner only: none gets its name before all of them are written.
///
/// # Errors
/// As [`write_file`]; where the disk is full, no file has been created or replaced.
pub fn write_files<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    overwrite: Overwrite,
) -> Result<(), CheckpointError> {
    let mut written = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        let write = || {
            let mut file = AtomicFile::create(&path, overwrite)?;
            file.write_all(bytes)?;
            file.flush()?;
            Ok(file)
        };
        let file = write().map_err(|e| CheckpointError::io(&path, "write the file", e))?;
        written.push((path, file));
    }
    for (path, file) in written {
        file.commit().map_err(|e| CheckpointError::io(&path, "write the file", e))?;
    }
    Ok(())
}

/// Creates a folder that only its owner may enter (mode 0700 where the system has modes), and missing parents.
///
/// # Errors
/// If it cannot be created. A folder that exists is left as it is.
pub fn create_folder(path: &Path) -> Result<(), CheckpointError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|e| CheckpointError::io(path, "create the folder", e))
}

/// Reads a text file of at most [`MAX_TEXT_BYTES`].
///
/// # Errors
/// If it is missing, too long or not UTF-8.
pub fn read_text(path: &Path) -> Result<String, CheckpointError> {
    let file = fs::File::open(path).map_err(|e| CheckpointError::io(path, "open the file", e))?;
    let mut text = String::new();
    let limited = file.take(MAX_TEXT_BYTES + 1).read_to_string(&mut text);
    limited.map_err(|e| CheckpointError::io(path, "read the text", e))?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        let found = "more".to_owned();
        return Err(CheckpointError::damaged(
            path,
            "length",
            format!("at most {MAX_TEXT_BYTES} bytes"),
            found,
        ));
    }
    Ok(text)
}

/// Reads a text file if it exists.
///
/// # Errors
/// As [`read_text`], absence excepted.
pub fn read_text_if_present(path: &Path) -> Result<Option<String>, CheckpointError> {
    match read_text(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A writer that passes everything on and hashes it (SHA-256).
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> HashingWriter<W> {
    /// Hashes what goes into `inner` from now on.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// The inner writer and the hash as 64 hexadecimal digits.
    pub fn finish(self) -> (W, String) {
        (self.inner, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-256 of a file as 64 hexadecimal digits, and its length in bytes.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_file(path: &Path) -> Result<(String, u64), CheckpointError> {
    let hash_all = || {
        let mut file = fs::File::open(path)?;
        let mut writer = HashingWriter::new(io::sink());
        let len = io::copy(&mut file, &mut writer)?;
        Ok((writer.finish().1, len))
    };
    hash_all().map_err(|e| CheckpointError::io(path, "read the file", e))
}

/// SHA-256 of bytes as 64 hexadecimal digits.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The files of a folder and its subfolders as `/`-separated relative paths, sorted; links are not followed.
pub(crate) fn list_files(folder: &Path) -> Result<Vec<String>, CheckpointError> {
    fn visit(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), (PathBuf, io::Error)> {
        let fail = |e| (folder.to_path_buf(), e);
        for entry in fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type().map_err(fail)?;
            if kind.is_dir() {
                visit(&entry.path(), &format!("{name}/"), names)?;
            } else if kind.is_file() {
                names.push(name);
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    visit(folder, "", &mut names).map_err(|(path, e)| CheckpointError::io(&path, "list the folder", e))?;
    names.sort();
    Ok(names)
}
