//! A report appears whole or not at all: written aside, then renamed to its date.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::ranks::Ranks;

/// A folder beside the one that will be published; deleted if it is dropped before.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    ours: bool, // to publish, or to delete
}

impl Staging {
    /// Opens `output_dir/.<date>.partial-<process>`, the first process's on all.
    pub fn open(output_dir: &Path, date: &str, ranks: &Ranks) -> Result<Self> {
        let folder = output_dir.join(format!(".{date}.partial-{}", std::process::id()));
        if ranks.is_first() {
            std::fs::create_dir_all(folder.join("images")).map_err(|e| Error::io(&folder, e))?;
        }
        let folder = ranks.agree_on(&folder)?;
        if !folder.is_dir() {
            let problem =
                format!("{}: the first process made it, and process {} cannot see it", folder.display(), ranks.rank);
            return Err(Error::config("output_dir", format!("{problem}; name a folder that all machines share")));
        }
        Ok(Self { folder, target: output_dir.join(date), ours: ranks.is_first() })
    }

    /// Where to write.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Flushes the files and renames the folder to its date, in place of an earlier report of that date.
    pub fn publish(mut self) -> Result<PathBuf> {
        flush(&self.folder)?;
        let old = self.folder.with_extension("old");
        let had_old = self.target.exists();
        if had_old {
            std::fs::rename(&self.target, &old).map_err(|e| Error::io(&self.target, e))?;
        }
        std::fs::rename(&self.folder, &self.target).map_err(|e| Error::io(&self.target, e))?;
        self.ours = false;
        if had_old {
            std::fs::remove_dir_all(&old).map_err(|e| Error::io(&old, e))?;
        }
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.ours {
            // Nothing is left to report to: the error that led here is already on its way.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn flush(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_dir() {
            flush(&path)?;
        } else {
            let file = std::fs::File::open(&path).map_err(|e| Error::io(&path, e))?;
            file.sync_all().map_err(|e| Error::io(&path, e))?;
        }
    }
    Ok(())
}
