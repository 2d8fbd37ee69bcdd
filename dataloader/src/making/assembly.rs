//! A data set made shard by shard, by one process or by many that share its folder and never talk to each other.
//!
//! Each makes its share of the shards; the first waits for all and puts the data set in its place. Shards that exist
//! already, in the old data set or from a killed run, are kept if they were made from the same inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use collective::FolderLock;
use program::Progress;

use crate::error::{Error, Result};
use crate::format::manifest::{Manifest, Quarantined, Shard};
use crate::making::staging::{in_place, is_cut_off, recover, Receipt, Staging};
use crate::making::waiting::{wait_for, Patience};
use crate::making::worker_rank::WorkerRank;
use crate::making::writer::measure;

/// What the other processes sign when their share is done.
const FINISHED: &str = "finished";

/// A shard that is to be made.
#[derive(Debug)]
pub struct Wanted {
    /// Its file's name.
    pub file: String,
    /// A hash of everything that decides its bytes.
    pub key: String,
    /// The paths of its images.
    pub paths: Vec<String>,
}

/// The result of all processes.
#[derive(Debug)]
pub struct Made {
    /// One for each shard, in order.
    pub receipts: Vec<Receipt>,
    /// Images that went through the models.
    pub encoded: usize,
    /// Images taken from an earlier data set, or from an earlier run that did not finish.
    pub reused: usize,
}

/// A data set that is being made.
#[derive(Debug)]
pub struct Assembly<'a> {
    output: &'a Path,
    worker_rank: &'a WorkerRank,
    patience: Patience,
    /// Where shards lie until all of them are finished.
    pub staging: Staging,
    /// The data set that this one replaces.
    earlier: Option<Manifest>,
    /// The shards that an earlier run left.
    before: BTreeSet<String>,
    /// The first process holds it for all of them: two runs at once would remove each other's shards.
    _lock: Option<FolderLock>,
}

impl<'a> Assembly<'a> {
    /// Begins a data set in `output`, or continues one.
    pub fn begin(output: &'a Path, worker_rank: &'a WorkerRank, patience: Patience) -> Result<Self> {
        let lock = worker_rank.is_first().then(|| FolderLock::take(output, "dataloader")).transpose()?;
        if worker_rank.is_first() {
            recover(output)?;
        } else {
            wait_for(output, patience, || is_cut_off(output).then(|| "rank 0 to recover".into()))?;
        }
        let staging = Staging::open(output)?;
        let before = staging.left();
        Ok(Self { output, worker_rank, patience, staging, earlier: in_place(output), before, _lock: lock })
    }

    /// Makes this process's part of `shards`; `make` makes the missing ones, and `what` names the work. For the first
    /// process: returns all of them, after waiting for the others.
    pub fn make(
        &self, what: &'static str, shards: &[Wanted], make: impl FnMut(usize, &Progress) -> Result<Receipt>,
    ) -> Result<Option<Made>> {
        let receipts = self.make_mine(what, shards, make);
        if !self.worker_rank.is_first() {
            let signed = receipts.and_then(|_| self.staging.sign(FINISHED, self.worker_rank, &key_of_all(shards)));
            // This process may be late: the first process may have completed the data set with our shards of an
            // earlier run.
            return signed.map(|()| None).or_else(|error| self.is_in_place(shards).then_some(None).ok_or(error));
        }
        let (receipts, anew) = receipts?;
        let receipts = self.collect(shards, receipts)?;
        let made_now = |r: &&Receipt| anew.contains(&r.shard.file) || !self.before.contains(&r.shard.file);
        let encoded = receipts.iter().filter(made_now).map(|r| r.encoded).sum();
        let reused = receipts.iter().map(|r| r.encoded + r.reused).sum::<usize>() - encoded;
        Ok(Some(Made { receipts, encoded, reused }))
    }

    /// The receipts of this process's shards, and which of them it made.
    fn make_mine(
        &self, what: &'static str, shards: &[Wanted], mut make: impl FnMut(usize, &Progress) -> Result<Receipt>,
    ) -> Result<(BTreeMap<String, Receipt>, BTreeSet<String>)> {
        let (mut receipts, mut mine) = (BTreeMap::new(), Vec::new());
        for (k, wanted) in shards.iter().enumerate().filter(|(k, _)| self.worker_rank.owns(*k)) {
            let finished = match self.kept(wanted) {
                Some(receipt) => Some(receipt),
                None => self.staging.receipt(&wanted.file, &wanted.key)?,
            };
            match finished {
                Some(receipt) => drop(receipts.insert(wanted.file.clone(), receipt)),
                None => mine.push(k),
            }
        }
        let images = mine.iter().map(|&k| shards[k].paths.len() as u64).sum();
        let progress = Progress::new(what, "images", images, self.worker_rank.is_first());
        for &k in &mine {
            let receipt = make(k, &progress)?;
            self.staging.leave(&receipt)?;
            let (file, rows) = (&receipt.shard.file, receipt.shard.rows);
            let (left, per_s) = (progress.left(), format!("{:.1}", progress.per_second()));
            tracing::info!(%file, rows, left, per_s, "shard written");
            receipts.insert(file.clone(), receipt);
        }
        Ok((receipts, mine.into_iter().map(|k| shards[k].file.clone()).collect()))
    }

    /// The shard of the existing data set, if it was made from the same inputs.
    fn kept(&self, wanted: &Wanted) -> Option<Receipt> {
        let manifest = self.earlier.as_ref()?;
        let shard = manifest.shards.iter().find(|s| s.file == wanted.file && s.key == wanted.key)?;
        let path = self.output.join(&shard.file);
        let (bytes, blake3) = measure(&path).ok()?;
        if (bytes, &blake3) != (shard.bytes, &shard.blake3) {
            tracing::warn!("{}: damaged, made again", path.display());
            return None;
        }
        let paths: BTreeSet<&String> = wanted.paths.iter().collect();
        let quarantined: Vec<Quarantined> =
            manifest.quarantined.iter().filter(|q| paths.contains(&q.path)).cloned().collect();
        let reused = wanted.paths.len() - quarantined.len();
        Some(Receipt { shard: shard.clone(), quarantined, encoded: 0, reused })
    }

    /// Whether the existing data set has all of this process's shards; waits while it is being put in place.
    fn is_in_place(&self, shards: &[Wanted]) -> bool {
        let moving = || is_cut_off(self.output).then(|| "rank 0 to put the data set in its place".to_string());
        if wait_for(self.output, self.patience, moving).is_err() {
            return false;
        }
        let listed: BTreeSet<String> =
            in_place(self.output).iter().flat_map(|m| &m.shards).map(|s| s.key.clone()).collect();
        shards
            .iter()
            .enumerate()
            .filter(|(k, _)| self.worker_rank.owns(*k))
            .all(|(_, wanted)| listed.contains(&wanted.key))
    }

    /// The receipts of all shards; waits for those of the other processes.
    fn collect(&self, shards: &[Wanted], mut receipts: BTreeMap<String, Receipt>) -> Result<Vec<Receipt>> {
        for wanted in shards {
            if !receipts.contains_key(&wanted.file) {
                receipts.extend(self.kept(wanted).map(|receipt| (wanted.file.clone(), receipt)));
            }
        }
        let waited_for: Vec<usize> = (0..shards.len()).filter(|&k| !receipts.contains_key(&shards[k].file)).collect();
        wait_for(&self.staging.path(), self.patience, || {
            let k = *waited_for.iter().find(|&&k| !self.staging.is_left(&shards[k].file, &shards[k].key))?;
            Some(format!("rank {} to write {}", k % self.worker_rank.size, shards[k].file))
        })?;
        // No process may still be reading when the data set moves to its place.
        let key = key_of_all(shards);
        let others = || self.staging.unsigned(FINISHED, self.worker_rank, &key).into_iter().filter(|&rank| rank > 0);
        wait_for(&self.staging.path(), self.patience, || others().next().map(|rank| format!("rank {rank} to end")))?;
        for k in waited_for {
            let Wanted { file, key, .. } = &shards[k];
            let damaged = || Error::shard(self.staging.path().join(file).display().to_string(), "not what was written");
            receipts.insert(file.clone(), self.staging.receipt(file, key)?.ok_or_else(damaged)?);
        }
        Ok(shards.iter().filter_map(|wanted| receipts.remove(&wanted.file)).collect())
    }

    /// Puts the data set in its place; `manifest` lacks its shards and their counts.
    pub fn commit(self, receipts: Vec<Receipt>, manifest: Manifest) -> Result<Manifest> {
        let shards: Vec<Shard> = receipts.into_iter().map(|r| r.shard).filter(|s| s.rows > 0).collect();
        self.staging.commit(shards, manifest)
    }
}

/// A hash over all shards of a data set.
fn key_of_all(shards: &[Wanted]) -> String {
    let keys: String = shards.iter().map(|wanted| wanted.key.as_str()).collect();
    blake3::hash(keys.as_bytes()).to_hex()[..16].to_string()
}
