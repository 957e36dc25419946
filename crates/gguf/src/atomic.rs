//! Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What to do when the output exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Leave the existing file as it is and fail.
    #[default]
    Refuse,
    /// Replace it, atomically.
    Replace,
}

/// A file under construction. It gets its name in [`AtomicFile::commit`]; dropped before, it leaves nothing behind.
///
/// The file is readable and writable by its owner only (mode 0600 where the system has modes).
#[derive(Debug)]
pub struct AtomicFile {
    /// `None` only after the temporary file was given away in `commit`.
    writer: Option<BufWriter<File>>,
    temporary: PathBuf,
    target: PathBuf,
    overwrite: Overwrite,
}

impl AtomicFile {
    /// Starts a temporary file in the folder of `target`, which must exist.
    ///
    /// # Errors
    /// `AlreadyExists` if `target` exists and `overwrite` is [`Overwrite::Refuse`].
    pub fn create(target: impl AsRef<Path>, overwrite: Overwrite) -> io::Result<Self> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let target = target.as_ref().to_path_buf();
        let name = target
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the output path names no file"))?;
        if overwrite == Overwrite::Refuse && target.symlink_metadata().is_ok() {
            return Err(already_exists());
        }
        loop {
            let mut temporary = std::ffi::OsString::from(".");
            temporary.push(name);
            let count = COUNTER.fetch_add(1, Ordering::Relaxed);
            temporary.push(format!(".{}-{count}.tmp", std::process::id()));
            let temporary = target.with_file_name(temporary);
            match private_options().open(&temporary) {
                Ok(file) => {
                    let writer = Some(BufWriter::with_capacity(1 << 20, file));
                    return Ok(Self { writer, temporary, target, overwrite });
                }
                // Left by a killed process that had the same number: take the next name.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Flushes everything to the disk and gives the file its name. After `Ok` a crash no longer loses it.
    ///
    /// # Errors
    /// Whatever the system reports; the old file, if there was one, is then still whole.
    pub fn commit(mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|e| e.into_error())?;
        file.sync_all()?;
        drop(file);
        match self.overwrite {
            Overwrite::Replace => fs::rename(&self.temporary, &self.target)?,
            Overwrite::Refuse => self.rename_without_replacing()?,
        }
        sync_folder(&self.target)
    }

    /// A hard link fails if its target exists, also when somebody made it a moment ago; a rename would replace it.
    fn rename_without_replacing(&self) -> io::Result<()> {
        match fs::hard_link(&self.temporary, &self.target) {
            Ok(()) => fs::remove_file(&self.temporary),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(already_exists()),
            // A file system without hard links.
            Err(_) if self.target.symlink_metadata().is_ok() => Err(already_exists()),
            Err(_) => fs::rename(&self.temporary, &self.target),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.writer {
            Some(writer) => writer.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        // After a successful commit the temporary name is gone and this does nothing; an error has no one to go to.
        if let Some(writer) = self.writer.take() {
            drop(writer.into_parts());
        }
        let _ = fs::remove_file(&self.temporary);
    }
}

fn already_exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "the output exists")
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a rename in the folder of `path` durable, where folders can be flushed.
fn sync_folder(path: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
