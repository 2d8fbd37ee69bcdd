//! The photos of one process: read, edited in batches of one shape, written aside and renamed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use diffusion::edit::{Editor, Target};
use diffusion::images::{Mask, Photo, MAX_PIXELS};
use diffusion::Error;
use program::{Progress, Stop};
use tracing::warn;

use super::manifest::{hash, Folder, Record, Written};
use super::photos::Listed;
use crate::args::Args;
use crate::failure::FAILED;
use crate::job;

/// Photos of other shapes may wait until they are as many as this many batches.
const WAITING_BATCHES: usize = 4;

/// What all photos of a process share.
pub struct Work<'a> {
    /// The command.
    pub args: &'a Args,
    /// Where edits and records go.
    pub folder: &'a Folder,
    /// Where pictures are written until they are whole.
    pub scratch: PathBuf,
    /// The run.
    pub editor: &'a Editor,
    /// What it edits towards.
    pub target: &'a Target<'a>,
    /// At which strengths.
    pub strengths: &'a [f64],
    /// About the side that is edited.
    pub resolution: i64,
    /// How many photos are edited at once.
    pub batch_size: usize,
    /// Whether a signal came.
    pub stop: &'a Stop,
    /// Counts photos.
    pub progress: &'a Progress,
}

/// A photo that has been read.
struct Ready<'l> {
    listed: &'l Listed,
    record: Record,
    photo: Photo,
    mask: Option<Mask>,
}

/// A photo before its edit: read, finished by an earlier run, or unusable.
enum Read<'l> {
    Ready(Box<Ready<'l>>),
    Done,
    Failed(Record),
}

impl Work<'_> {
    /// Edits `photos` as far as `done` has no record that holds; returns early if a signal came. Photos that cannot
    /// be edited are recorded with the reason, and the others go on.
    pub fn edit(&self, photos: &[&Listed], done: &BTreeMap<String, Record>) -> Result<()> {
        let mut waiting: BTreeMap<(u32, u32), Vec<Ready<'_>>> = BTreeMap::new();
        for listed in photos {
            if self.stop.asked() {
                return Ok(());
            }
            match self.read(listed, done) {
                Read::Done => self.progress.inc(1),
                Read::Failed(record) => self.fail(record)?,
                Read::Ready(ready) => {
                    let shape = self.editor.working_size(ready.photo.dimensions(), self.resolution);
                    waiting.entry(shape).or_default().push(*ready);
                }
            }
            let count: usize = waiting.values().map(Vec::len).sum();
            let fullest =
                waiting.iter().max_by_key(|(_, ready)| ready.len()).map(|(shape, ready)| (*shape, ready.len()));
            if let Some((shape, most)) = fullest {
                if most >= self.batch_size || count >= WAITING_BATCHES * self.batch_size {
                    self.edit_batch(waiting.remove(&shape).unwrap_or_default())?;
                }
            }
        }
        for (_, batch) in waiting {
            if self.stop.asked() {
                return Ok(());
            }
            self.edit_batch(batch)?;
        }
        Ok(())
    }

    fn read<'l>(&self, listed: &'l Listed, done: &BTreeMap<String, Record>) -> Read<'l> {
        let mut record =
            Record { image: listed.image.clone(), image_hash: None, mask_hash: None, outputs: vec![], failed: None };
        match self.inputs(listed, &mut record, done) {
            Ok(Some((photo, mask))) => Read::Ready(Box::new(Ready { listed, record, photo, mask })),
            Ok(None) => Read::Done,
            Err(reason) => Read::Failed(Record { failed: Some(reason), ..record }),
        }
    }

    /// The photo and its mask, or none if they have been edited already; notes their hashes in `record`. The error is
    /// the reason for quarantine.
    fn inputs(
        &self, listed: &Listed, record: &mut Record, done: &BTreeMap<String, Record>,
    ) -> std::result::Result<Option<(Photo, Option<Mask>)>, String> {
        let bytes = fs::read(&listed.path).map_err(|e| e.to_string())?;
        record.image_hash = Some(hash(&bytes));
        let mask = self.args.mask.as_ref().map(|masks| listed.mask(masks)).transpose();
        if let Ok(Some(path)) = &mask {
            record.mask_hash = Some(hash(&fs::read(path).map_err(|e| format!("its mask {}: {e}", path.display()))?));
        }
        let [image, mask_hash] = [&record.image_hash, &record.mask_hash].map(Option::as_deref);
        let former = done.get(&listed.image).filter(|r| self.folder.holds(r, image.unwrap_or_default(), mask_hash));
        match former {
            Some(Record { failed: Some(reason), .. }) => return Err(reason.clone()),
            Some(_) => return Ok(None),
            None => {}
        }
        let photo = Photo::decode(&bytes, &listed.path, MAX_PIXELS).map_err(|e| reason(&e))?.with_way_back();
        photo.warnings.iter().for_each(|warning| warn!(image = listed.image, "{warning}"));
        let mask = mask?.map(|path| {
            let mask = Mask::read(&path, self.args.feather)?;
            let (width, height) = photo.dimensions();
            mask.check(width, height).map(|()| mask)
        });
        Ok(Some((photo, mask.transpose().map_err(|e| e.to_string())?)))
    }

    /// Edits photos of one shape and writes each with its record.
    fn edit_batch(&self, batch: Vec<Ready<'_>>) -> Result<()> {
        let photos: Vec<&Photo> = batch.iter().map(|ready| &ready.photo).collect();
        let source = self.editor.source_of_photos(&photos, self.resolution)?;
        let mut changes: Vec<Vec<diffusion::Result<tch::Tensor>>> = batch.iter().map(|_| Vec::new()).collect();
        for &strength in self.strengths {
            for (of_photo, change) in changes.iter_mut().zip(self.editor.changes(&source, self.target, strength)) {
                of_photo.push(change);
            }
        }
        for (Ready { listed, record, photo, mask }, changes) in batch.into_iter().zip(changes) {
            let changes = match changes.into_iter().collect::<diffusion::Result<Vec<_>>>() {
                Ok(changes) => changes,
                Err(error) => {
                    self.fail(Record { failed: Some(error.to_string()), ..record })?;
                    continue;
                }
            };
            let edit = |nth: usize| self.editor.finished_photo_masked(&photo, &changes[nth], mask.as_ref());
            match self.write(listed, &photo, edit)? {
                Ok(outputs) => self.folder.file(Record { outputs, ..record })?,
                Err(error) => {
                    self.fail(Record { failed: Some(reason(&error)), ..record })?;
                    continue;
                }
            }
            self.progress.inc(1);
        }
        Ok(())
    }

    /// Writes a photo's pictures aside, and renames them once all are whole. The outer error is the disk's.
    fn write(
        &self, listed: &Listed, photo: &Photo, edit: impl Fn(usize) -> diffusion::Result<Photo>,
    ) -> Result<std::result::Result<Vec<Written>, Error>> {
        let name = listed.output.file_name().unwrap_or_default();
        let files = match job::write(self.args, &self.scratch.join(name), photo, self.strengths, edit) {
            Err(Error::Io { path, source }) if source.raw_os_error().is_some() => {
                return Err(source).with_context(|| path.display().to_string());
            }
            Err(error) => return Ok(Err(error)),
            Ok(files) => files,
        };
        let below = listed.output.parent().unwrap_or(Path::new(""));
        let mut written = Vec::new();
        for file in files {
            let path = below.join(file.file_name().unwrap_or_default());
            let place = self.args.output.join(&path);
            let moved = fs::read(&file).map(|bytes| hash(&bytes)).and_then(|hash| {
                fs::create_dir_all(self.args.output.join(below))?;
                durable::rename(&file, &place).map(|()| hash)
            });
            let hash = moved.with_context(|| place.display().to_string())?;
            written.push(Written { path: path.to_string_lossy().into_owned(), hash });
        }
        Ok(Ok(written))
    }

    /// Records that a photo has no edit, and why.
    fn fail(&self, record: Record) -> Result<()> {
        warn!("{}: not edited: {}", record.image, record.failed.as_deref().unwrap_or_default());
        self.folder.file(record)?;
        self.progress.inc(1);
        Ok(())
    }
}

/// An error's message without the path, which the record has.
fn reason(error: &Error) -> String {
    match error {
        Error::Image { message, .. } => message.clone(),
        error => error.to_string(),
    }
}

/// The exit code of a finished batch.
pub fn exit_code(failed: usize) -> u8 {
    if failed > 0 {
        FAILED
    } else {
        0
    }
}
