//! What pixels each file holds. A file is decoded once: its identity is remembered with its size and modification time,
//! for the next run and for the other processes of this one.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::config::PhotoLimits;
use crate::error::{Error, Result};
use crate::photo;
use crate::share::Share;
use crate::sources::{Content, Item};
use crate::staging::{write_whole, Staging};
use crate::waiting::{wait_for, Patience};

/// The identities of a data set's files, beside its manifest.
const FILE: &str = ".identities.jsonl";

/// Files decoded between two writes: what a killed run loses.
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

/// What tells a file from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified_ns: u64,
}

impl Stamp {
    /// None for images that are no files.
    fn of(item: &Item) -> Option<Self> {
        let Content::File(path) = &item.content else { return None };
        let metadata = fs::metadata(path).ok()?;
        let modified_ns = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos() as u64;
        Some(Self { bytes: metadata.len(), modified_ns })
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    path: String,
    #[serde(flatten)]
    stamp: Stamp,
    #[serde(flatten)]
    identity: Identity,
}

/// Identities of readable files, by path.
#[derive(Debug, Default)]
struct Memory(HashMap<String, (Stamp, Identity)>);

impl Memory {
    fn read(&mut self, path: &Path) {
        let Ok(file) = File::open(path) else { return };
        for line in BufReader::new(file).lines().map_while(std::result::Result::ok) {
            // The last line of a killed run may be cut.
            if let Ok(line) = serde_json::from_str::<Line>(&line) {
                self.0.insert(line.path, (line.stamp, line.identity));
            }
        }
    }

    /// None also for an image that is beyond the limits by now, so that it is looked at, and refused, again.
    fn get(&self, item: &Item, stamp: Option<Stamp>, limits: &PhotoLimits) -> Option<&Identity> {
        let (known, identity) = self.0.get(&item.path)?;
        let usable = limits.allow(known.bytes, identity.width, identity.height);
        (usable && Some(*known) == stamp).then_some(identity)
    }
}

/// The identity of every item, or why it has none: this process decodes its share of what is not known yet and waits
/// for the others'. `each` is called after every image that it decoded.
pub fn identify(
    items: &[Item], folder: &Path, staging: &Staging, share: &Share, limits: &PhotoLimits, patience: Patience,
    each: impl Fn() + Sync,
) -> Result<Vec<std::result::Result<Identity, String>>> {
    let stamps: Vec<Option<Stamp>> = items.par_iter().map(Stamp::of).collect();
    let mut memory = Memory::default();
    memory.read(&folder.join(FILE));
    (0..share.size).for_each(|rank| memory.read(&notes(staging, rank)));
    let mut found: Vec<Option<std::result::Result<Identity, String>>> =
        items.iter().zip(&stamps).map(|(item, stamp)| memory.get(item, *stamp, limits).cloned().map(Ok)).collect();
    let is_mine = |n: usize| found[n].is_none() && (stamps[n].is_none() || share.owns(n));
    let mine: Vec<usize> = (0..items.len()).filter(|&n| is_mine(n)).collect();
    let mut lines = Notes::open(&notes(staging, share.rank))?;
    for block in mine.chunks(BLOCK) {
        let decoded: Vec<_> = block
            .par_iter()
            .map(|&n| {
                let identity = look_at(&items[n], limits);
                each();
                identity
            })
            .collect();
        for (&n, identity) in block.iter().zip(decoded) {
            lines.add(&items[n], stamps[n], &identity);
            found[n] = Some(identity);
        }
        lines.flush()?;
    }
    if share.size > 1 {
        wait_for_others(items, &stamps, staging, share, patience)?;
        (0..share.size).for_each(|rank| memory.read(&notes(staging, rank)));
    }
    let rest = found.into_par_iter().zip(items).zip(&stamps);
    Ok(rest
        .map(|((found, item), stamp)| {
            // What the others could not read is read once more, for its reason.
            let known = || memory.get(item, *stamp, limits).cloned().map(Ok);
            found.or_else(known).unwrap_or_else(|| look_at(item, limits))
        })
        .collect())
}

/// Remembers the identities for the next run.
pub fn remember(folder: &Path, items: &[Item], identities: &[std::result::Result<Identity, String>]) -> Result<()> {
    let mut text = String::new();
    for (item, identity) in items.iter().zip(identities) {
        text.extend(line(item, Stamp::of(item), identity));
    }
    match text.is_empty() {
        true => Ok(()),
        false => write_whole(&folder.join(FILE), text.as_bytes()),
    }
}

fn look_at(item: &Item, limits: &PhotoLimits) -> std::result::Result<Identity, String> {
    let decoded = photo::decode(item, limits)?;
    let (width, height) = decoded.dimensions();
    Ok(Identity { image_id: photo::image_id(&decoded), width, height })
}

fn line(item: &Item, stamp: Option<Stamp>, identity: &std::result::Result<Identity, String>) -> Option<String> {
    let (Some(stamp), Ok(identity)) = (stamp, identity) else { return None };
    let line = Line { path: item.path.clone(), stamp, identity: identity.clone() };
    Some(serde_json::to_string(&line).expect("a line is plain data") + "\n")
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
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| failed(path, e))?;
        // The line that a killed run left cut must not swallow ours.
        Ok(Self { path: path.into(), file, pending: "\n".into() })
    }

    fn add(&mut self, item: &Item, stamp: Option<Stamp>, identity: &std::result::Result<Identity, String>) {
        self.pending.extend(line(item, stamp, identity));
    }

    fn flush(&mut self) -> Result<()> {
        let written = self.file.write_all(self.pending.as_bytes());
        self.pending.clear();
        written.map_err(|e| failed(&self.path, e))
    }
}

/// Says that this process's share is done, and waits until all have said so of the same files.
fn wait_for_others(
    items: &[Item], stamps: &[Option<Stamp>], staging: &Staging, share: &Share, patience: Patience,
) -> Result<()> {
    let mut hasher = blake3::Hasher::new();
    for (item, stamp) in items.iter().zip(stamps) {
        hasher.update(format!("{:?} {stamp:?}\n", item.path).as_bytes());
    }
    let listing = &hasher.finalize().to_hex()[..16];
    let done = |rank: usize| staging.path().join(format!("identified-{rank}-of-{}-{listing}", share.size));
    write_whole(&done(share.rank), b"")?;
    wait_for(&staging.path(), patience, || {
        let waiting: Vec<usize> = (0..share.size).filter(|&rank| !done(rank).exists()).collect();
        (!waiting.is_empty()).then(|| format!("ranks {waiting:?} to identify their images"))
    })
}

fn failed(path: &Path, reason: impl ToString) -> Error {
    Error::store(path.display().to_string(), reason)
}
