//! A report appears as a whole or not at all: it is written to a temporary folder, which is renamed to its date.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::evaluation::parts::Parts;
use crate::evaluation::ranks::Ranks;

/// A folder beside the one that will be published. If it is dropped unpublished, it stays for the next try as soon as
/// one batch is finished.
#[derive(Debug)]
pub struct Staging {
    folder: PathBuf,
    target: PathBuf,
    ours: bool, // this process may publish or delete it
}

impl Staging {
    /// Opens `output_dir/.<date>.partial` for the evaluation `identity`, with the finished parts of an earlier try;
    /// the first process does so for all.
    pub fn open(output_dir: &Path, date: &str, identity: &str, ranks: &Ranks) -> Result<Self> {
        let folder = output_dir.join(format!(".{date}.partial"));
        let staging = Self { folder, target: output_dir.join(date), ours: ranks.is_first() };
        if staging.ours {
            warn_of_unfinished(output_dir, &staging.folder);
            staging.prepare(identity)?;
        }
        let folder = ranks.agree_on(&staging.folder)?;
        if !folder.is_dir() {
            let problem =
                format!("{}: the first process made it, and process {} cannot see it", folder.display(), ranks.rank);
            return Err(Error::config("output_dir", format!("{problem}; name a folder that all machines share")));
        }
        Ok(staging)
    }

    fn prepare(&self, identity: &str) -> Result<()> {
        let finished = Parts::open(&self.work(), identity)?.finished();
        if finished > 0 {
            tracing::info!("{}: going on from {finished} finished batches", self.folder.display());
        }
        let images = self.folder.join("images");
        remove(&images)?;
        fs::create_dir_all(&images).map_err(|e| Error::io(&images, e))
    }

    /// Where to write the report.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The finished parts of the evaluation; they are deleted when the report is published.
    pub fn parts(&self) -> Parts {
        Parts::at(&self.work())
    }

    /// The folder of edits until the report has chosen among them.
    pub fn pictures(&self) -> PathBuf {
        self.work().join("pictures")
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// Flushes the files and renames the folder to its date, replacing an earlier report of that date.
    pub fn publish(mut self) -> Result<PathBuf> {
        remove(&self.work())?;
        durable::sync_all(&self.folder).map_err(|e| Error::io(&self.folder, e))?;
        let old = self.folder.with_extension("old");
        remove(&old)?;
        if self.target.exists() {
            durable::rename(&self.target, &old).map_err(|e| Error::io(&self.target, e))?;
        }
        durable::rename(&self.folder, &self.target).map_err(|e| Error::io(&self.target, e))?;
        self.ours = false;
        remove(&old)?;
        Ok(self.target.clone())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.ours && self.parts().finished() == 0 {
            // A failure here is not reported: the error that led here is being reported already.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// Staging folders of other nights are kept for their own next try, although there may never be one.
fn warn_of_unfinished(output_dir: &Path, ours: &Path) {
    let entries = fs::read_dir(output_dir).into_iter().flatten().filter_map(|entry| entry.ok());
    for folder in entries.map(|entry| entry.path()).filter(|path| path != ours) {
        if folder.extension().is_some_and(|suffix| suffix == "partial") && folder.is_dir() {
            tracing::warn!("{}: an unfinished night; finish it with its --date, or delete it", folder.display());
        }
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::parts::Part;

    #[test]
    fn what_is_finished_stays_for_the_same_evaluation_alone() {
        let reports = tempfile::tempdir().expect("a folder");
        let open = |identity| Staging::open(reports.path(), "2026-01-31", identity, &Ranks::alone()).expect("opened");
        drop(open("one"));
        assert!(!reports.path().join(".2026-01-31.partial").exists(), "nothing was finished");
        open("one").parts().save("sources-000000", Part::default()).expect("saved");
        assert!(open("one").parts().has("sources-000000"));
        assert!(!open("another").parts().has("sources-000000"), "another evaluation's");
        assert!(!reports.path().join(".2026-01-31.partial").exists());
    }
}
