//! A file mapped into memory for reading: the one place that may do so.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

/// The bytes of a file, read by the system when they are touched.
///
/// The file must not be changed or shortened while it is mapped: the system may end the process when a page
/// vanishes. Files written with [`crate::AtomicFile`] are replaced by renaming, which is safe.
#[derive(Debug)]
pub struct FileMap(Option<memmap2::Mmap>);

impl FileMap {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If it cannot be opened or mapped, or is not a plain file.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        if metadata.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is read-only and private to this value. The documentation asks that nobody changes the file
        // while it is mapped, and no invariant of a Rust type rests on the bytes: callers check text at each use and
        // positions against the length of the map.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Self(Some(map)))
    }
}

impl Deref for FileMap {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}
