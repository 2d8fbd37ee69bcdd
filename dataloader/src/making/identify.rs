//! Which pixels each file holds. A file is decoded once: its identity is stored with its size and modification time,
//! for the next run and for the other processes of this one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::making::config::PhotoLimits;
use crate::making::photo;
use crate::making::staging::{write_whole, Staging};
use crate::making::waiting::{wait_for, Patience};
use crate::making::worker_rank::WorkerRank;
use crate::sources::{Content, Item};

/// The identities of a data set's files, beside its manifest.
const FILE: &str = ".identities.jsonl";

/// Files decoded between two writes; a killed run loses at most this many.
const BLOCK: usize = 512;

/// A readable image's pixels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// blake3 of the pixels.
    pub image_id: String,
    /// Upright width in pixels.
    pub width: u32,
    /// Upright height in pixels.
    pub height: u32,
}

/// What shows whether a file has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u64,
}

impl Stamp {
    /// The state of the file that an image lies in; none for images in memory.
    fn of(item: &Item) -> Option<Self> {
        let path = match &item.content {
            Content::File(path) => path,
            Content::Parquet(image) => image.file(),
            Content::Bytes(_) => return None,
        };
        let metadata = fs::metadata(path).ok()?;
        let modified_ns = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos() as u64;
        Some(Self { bytes: metadata.len(), modified_ns })
    }
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Found {
    /// An image.
    Image(Identity),
    /// No image, or one outside these limits.
    Unusable { reason: String, limits: PhotoLimits },
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    path: String,
    stamp: Stamp,
    found: Found,
}

/// What was found in each file, by path.
#[derive(Debug, Default)]
struct Memory(HashMap<String, (Stamp, Found)>);

impl Memory {
    fn read(&mut self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        for line in BufReader::new(file).lines().map_while(std::result::Result::ok) {
            // The last line of a killed run may be incomplete.
            if let Ok(line) = serde_json::from_str::<Line>(&line) {
                self.0.insert(line.path, (line.stamp, line.found));
            }
        }
    }

    /// The lines of these items, for a file.
    fn lines(&self, items: &[Item]) -> String {
        let line = |item: &Item| {
            let (stamp, found) = self.0.get(&item.path)?;
            Some(line(&item.path, *stamp, found))
        };
        items.iter().filter_map(line).collect()
    }

    /// None if the file has changed, or if other limits may decide differently.
    fn get(
        &self, item: &Item, stamp: Option<Stamp>, limits: &PhotoLimits,
    ) -> Option<std::result::Result<Identity, String>> {
        let (known, found) = self.0.get(&item.path).filter(|(known, _)| Some(*known) == stamp)?;
        // A Parquet file's size is not that of one image in it; such an image is checked when it is read.
        let bytes = if matches!(item.content, Content::Parquet(_)) { 0 } else { known.bytes };
        match found {
            Found::Image(identity) => {
                limits.allow(bytes, identity.width, identity.height).then(|| Ok(identity.clone()))
            }
            Found::Unusable { reason, limits: then } => (then == limits).then(|| Err(reason.clone())),
        }
    }
}

/// The identity of every item, or why it has none. This process decodes its share of the unknown ones and waits for
/// the others'. `each` is called after every image that it has decoded.
pub fn identify(
    items: &[Item], folder: &Path, staging: &Staging, worker_rank: &WorkerRank, limits: &PhotoLimits,
    patience: Patience, each: impl Fn() + Sync,
) -> Result<Vec<std::result::Result<Identity, String>>> {
    let stamps: Vec<Option<Stamp>> = items.par_iter().map(Stamp::of).collect();
    let mut memory = Memory::default();
    memory.read(&folder.join(FILE));
    (0..worker_rank.size).for_each(|rank| memory.read(&notes(staging, rank)));
    let mut found: Vec<Option<std::result::Result<Identity, String>>> =
        items.iter().zip(&stamps).map(|(item, stamp)| memory.get(item, *stamp, limits)).collect();
    let is_mine = |n: usize| found[n].is_none() && (stamps[n].is_none() || worker_rank.owns(n));
    let mine: Vec<usize> = (0..items.len()).filter(|&n| is_mine(n)).collect();
    let mut lines = Notes::open(&notes(staging, worker_rank.rank))?;
    for block in mine.chunks(BLOCK) {
        let decoded: Vec<Looked> = block
            .par_iter()
            .map(|&n| {
                let looked = look_at(&items[n], limits);
                each();
                looked
            })
            .collect();
        for (&n, looked) in block.iter().zip(decoded) {
            if let (Some(stamp), Some(lasting)) = (stamps[n], looked.lasting(limits)) {
                lines.pending += &line(&items[n].path, stamp, &lasting);
                memory.0.insert(items[n].path.clone(), (stamp, lasting));
            }
            found[n] = Some(looked.into());
        }
        lines.flush()?;
    }
    if worker_rank.size > 1 {
        let others = found.iter().any(Option::is_none);
        meet_others(items, &stamps, staging, worker_rank, others.then_some(patience))?;
        (0..worker_rank.size).for_each(|rank| memory.read(&notes(staging, rank)));
        memory.read(&folder.join(FILE)); // if the first process was quick, it has put everything there by now
    }
    if worker_rank.is_first() {
        write_whole(&folder.join(FILE), memory.lines(items).as_bytes())?;
    }
    let all = found.into_par_iter().zip(items).zip(&stamps);
    let known = |item: &Item, stamp: &Option<Stamp>| memory.get(item, *stamp, limits);
    Ok(all
        .map(|((found, item), stamp)| {
            found.or_else(|| known(item, stamp)).unwrap_or_else(|| look_at(item, limits).into())
        })
        .collect())
}

/// The result of looking at a file.
enum Looked {
    Image(Identity),
    /// Its bytes are no usable image and will not be one until they change.
    Unusable(String),
    /// Its bytes could not be read; that may pass.
    Unread(String),
}

impl Looked {
    /// The part that is worth storing.
    fn lasting(&self, limits: &PhotoLimits) -> Option<Found> {
        match self {
            Looked::Image(identity) => Some(Found::Image(identity.clone())),
            Looked::Unusable(reason) => Some(Found::Unusable { reason: reason.clone(), limits: limits.clone() }),
            Looked::Unread(_) => None,
        }
    }
}

impl From<Looked> for std::result::Result<Identity, String> {
    fn from(looked: Looked) -> Self {
        match looked {
            Looked::Image(identity) => Ok(identity),
            Looked::Unusable(reason) | Looked::Unread(reason) => Err(reason),
        }
    }
}

fn look_at(item: &Item, limits: &PhotoLimits) -> Looked {
    let bytes = match photo::read(item, limits) {
        Ok(bytes) => bytes,
        Err(reason) => return Looked::Unread(reason),
    };
    match photo::decode_own(item, &bytes, limits) {
        Ok(photo) => {
            for warning in &photo.warnings {
                tracing::warn!(path = %item.path, "{warning}");
            }
            let photo = photo.into_srgb();
            let (width, height) = photo.dimensions();
            Looked::Image(Identity { image_id: photo::image_id(&photo), width, height })
        }
        Err(reason) => Looked::Unusable(reason),
    }
}

fn line(path: &str, stamp: Stamp, found: &Found) -> String {
    let line = Line { path: path.into(), stamp, found: found.clone() };
    serde_json::to_string(&line).expect("a line is plain data") + "\n"
}

/// What one process has found so far.
fn notes(staging: &Staging, rank: usize) -> PathBuf {
    staging.path().join(format!("identities-{rank}.jsonl"))
}

/// A file that grows by whole lines.
struct Notes {
    path: PathBuf,
    file: File,
    pending: String,
}

impl Notes {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| Error::file(path, e))?;
        // Our line must not be joined to an incomplete line of a killed run.
        Ok(Self { path: path.into(), file, pending: "\n".into() })
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(self.pending.as_bytes());
        self.pending.clear();
        written.map_err(|e| Error::file(&self.path, e))
    }
}

/// Signs that this process's share is done. If `patience` is given, waits until every process has signed for the same
/// files.
fn meet_others(
    items: &[Item], stamps: &[Option<Stamp>], staging: &Staging, worker_rank: &WorkerRank, patience: Option<Patience>,
) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    for (item, stamp) in items.iter().zip(stamps) {
        hasher.update(format!("{:?} {stamp:?}\n", item.path).as_bytes());
    }
    let listing = hasher.finalize().to_hex()[..16].to_string();
    staging.sign("identified", worker_rank, &listing)?;
    let Some(patience) = patience else { return Ok(()) };
    wait_for(&staging.path(), patience, || {
        let waiting = staging.unsigned("identified", worker_rank, &listing);
        // If our own signature is gone, the first process has read it and has completed the data set.
        let is_over = waiting.contains(&worker_rank.rank);
        (!waiting.is_empty() && !is_over).then(|| format!("ranks {waiting:?} to identify their images"))
    })
}
