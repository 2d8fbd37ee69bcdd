//! The finished parts of an evaluation: one file for each emotion's edits of a batch, written as a whole or not at
//! all.
//!
//! The processes of one evaluation exchange their results here, and a killed night goes on from here. The same
//! recipe, weights, photos and program find their files again; anything else starts anew. The report is made from
//! these files alone, in the order of the batches, so that it does not depend on who made them or when.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tch::Tensor;

use crate::error::{Error, Result};

/// The file that names the evaluation.
const IDENTITY: &str = "identity";
/// The suffix of finished parts.
const SUFFIX: &str = "safetensors";
/// The pause between two looks for a part of another process.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The files of one evaluation.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: PathBuf,
}

/// The results of one batch.
#[derive(Debug)]
pub struct Part {
    /// [`ScoreTable::rows`](crate::scores::ScoreTable::rows).
    pub cases: Tensor,
    /// [`Sets::rows`](crate::scores::sets::Sets::rows).
    pub seen: Tensor,
    /// [`Judgements::rows`](crate::scores::judgements::Judgements::rows).
    pub judged: Tensor,
    /// [`Seconds::rows`](crate::scores::costs::Seconds::rows).
    pub seconds: Tensor,
}

impl Parts {
    /// Makes `folder` the folder of the evaluation `identity`; files of another evaluation are deleted. One process
    /// does this before the others use [`at`](Self::at).
    pub fn open(folder: &Path, identity: &str) -> Result<Self> {
        let file = folder.join(IDENTITY);
        if folder.exists() && fs::read_to_string(&file).ok().as_deref() != Some(identity) {
            fs::remove_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        }
        fs::create_dir_all(folder).map_err(|e| Error::io(folder, e))?;
        fs::write(&file, identity).map_err(|e| Error::io(&file, e))?;
        Ok(Self::at(folder))
    }

    /// The files in a folder that [`open`](Self::open) has prepared.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf() }
    }

    /// How many parts are finished.
    pub fn finished(&self) -> usize {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().filter_map(|entry| entry.ok());
        entries.filter(|entry| entry.path().extension().is_some_and(|suffix| suffix == SUFFIX)).count()
    }

    /// Whether the part `name` is finished.
    pub fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    /// Stores a part.
    pub fn save(&self, name: &str, part: &Part) -> Result<()> {
        let (path, aside) = (self.path(name), self.folder.join(format!("{name}.partial")));
        let Part { cases, seen, judged, seconds } = part;
        let tensors = [("cases", cases), ("seen", seen), ("judged", judged), ("seconds", seconds)];
        Tensor::write_safetensors(&tensors, &aside)?;
        File::open(&aside).and_then(|file| file.sync_all()).map_err(|e| Error::io(&aside, e))?;
        fs::rename(&aside, &path).map_err(|e| Error::io(&path, e))
    }

    /// The part `name`, once it is finished; meanwhile `check` says whether it can still come.
    pub fn wait(&self, name: &str, check: impl Fn() -> Result<()>) -> Result<Part> {
        while !self.has(name) {
            std::thread::sleep(LOOK_EVERY);
            match check() {
                // It may have been finished just before its process left.
                Err(error) if !self.has(name) => return Err(error),
                _ => {}
            }
        }
        let path = self.path(name);
        let mut tensors = Tensor::read_safetensors(&path)?;
        let mut take = |wanted: &str| {
            let place = tensors.iter().position(|(key, _)| key == wanted);
            place.map(|place| tensors.swap_remove(place).1).ok_or_else(|| {
                let source =
                    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("has no {wanted}; delete it"));
                Error::io(&path, source)
            })
        };
        Ok(Part { cases: take("cases")?, seen: take("seen")?, judged: take("judged")?, seconds: take("seconds")? })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension(SUFFIX)
    }
}
