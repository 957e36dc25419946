//! Folders that appear whole or not at all.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::CheckpointError;
use crate::adapter::ADAPTER_CONFIG_FILE;
use crate::files::{Overwrite, create_folder, list_files};
use crate::hf::CONFIG_FILE;
use crate::manifest::write_manifest;

/// A folder under construction beside its final place. [`AtomicFolder::commit`] gives it its name; dropped before, it
/// is removed.
#[derive(Debug)]
pub struct AtomicFolder {
    temporary: PathBuf,
    target: PathBuf,
    overwrite: Overwrite,
}

impl AtomicFolder {
    /// Starts a hidden folder beside `target`, creating missing parents.
    ///
    /// # Errors
    /// If `target` exists and `overwrite` is [`Overwrite::Refuse`], or it exists and is no checkpoint folder: a folder
    /// of something else is never replaced.
    pub fn create(target: &Path, overwrite: Overwrite) -> Result<Self, CheckpointError> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let target = target.to_path_buf();
        check_target(&target, overwrite)?;
        let name = target.file_name().ok_or_else(|| {
            let (expected, found) = ("the name of a folder", "none");
            CheckpointError::damaged(&target, "output", expected, found)
        })?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
        let temporary = target.with_file_name(hidden);
        // Left by a killed process of the same number.
        if temporary.exists() {
            fs::remove_dir_all(&temporary)
                .map_err(|e| CheckpointError::io(&temporary, "remove the folder", e))?;
        }
        create_folder(&temporary)?;
        Ok(Self { temporary, target, overwrite })
    }

    /// Where to write the files.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Writes the checksums, flushes everything to the disk and gives the folder its name.
    ///
    /// A replaced folder is first renamed out of the way and removed last: at every moment the old or the new one is
    /// whole.
    ///
    /// # Errors
    /// Whatever the system reports; the old folder is then still there.
    pub fn commit(self) -> Result<(), CheckpointError> {
        write_manifest(&self.temporary)?;
        for name in list_files(&self.temporary)? {
            let path = self.temporary.join(name);
            sync(&path).map_err(|e| CheckpointError::io(&path, "flush the file", e))?;
        }
        sync(&self.temporary).map_err(|e| CheckpointError::io(&self.temporary, "flush the folder", e))?;
        check_target(&self.target, self.overwrite)?;
        let moved = |e| CheckpointError::io(&self.target, "move the folder into place", e);
        let old = self.temporary.with_extension("old");
        let replaces = self.target.symlink_metadata().is_ok();
        if replaces {
            fs::rename(&self.target, &old).map_err(moved)?;
        }
        if let Err(error) = fs::rename(&self.temporary, &self.target) {
            if replaces {
                fs::rename(&old, &self.target).map_err(moved)?;
            }
            return Err(moved(error));
        }
        let parent = self.target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        sync(parent).map_err(|e| CheckpointError::io(parent, "flush the folder", e))?;
        if replaces {
            fs::remove_dir_all(&old).map_err(|e| CheckpointError::io(&old, "remove the old folder", e))?;
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        // After a commit the name is gone and this does nothing; an error has no one to go to.
        let _ = fs::remove_dir_all(&self.temporary);
    }
}

/// Flushes a file or, where that is possible, a folder.
fn sync(path: &Path) -> std::io::Result<()> {
    if cfg!(not(unix)) && path.is_dir() {
        return Ok(());
    }
    File::open(path)?.sync_all()
}

/// A folder that holds one of these is a checkpoint or an adapter.
const MARKS: [&str; 2] = [CONFIG_FILE, ADAPTER_CONFIG_FILE];

fn check_target(target: &Path, overwrite: Overwrite) -> Result<(), CheckpointError> {
    if target.symlink_metadata().is_err() {
        return Ok(());
    }
    let path = target.to_path_buf();
    match overwrite {
        Overwrite::Refuse => Err(CheckpointError::AlreadyExists { path }),
        Overwrite::Replace if MARKS.iter().any(|name| target.join(name).is_file()) => Ok(()),
        Overwrite::Replace => {
            let expected = "a checkpoint folder to replace".to_owned();
            let found = format!("something without {CONFIG_FILE}");
            Err(CheckpointError::NotAModel { path, expected, found })
        }
    }
}
