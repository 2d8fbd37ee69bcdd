//! `dataloader verify`: every shard hashed, every row decoded, and the counts compared with the manifest.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::manifest::{Manifest, Split};
use crate::format::row::Row;
use crate::inversions::Inversions;
use crate::reading::dataset::Dataset;
use crate::reading::shards::Shards;
use crate::store::Access;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Rows that were read.
    pub rows: u64,
    /// One line per fault.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// The result on one line.
    pub fn describe(&self) -> String {
        match self.faults.len() {
            0 => format!("sound: {} rows, all hashes, numbers and counts as the manifest states", self.rows),
            count => format!("damaged: {count} faults; do not use it before it is copied or made again"),
        }
    }
}

/// Receives the progress of the check.
pub trait Report {
    /// A line on a shard or a fault.
    fn line(&mut self, line: &str);
    /// `done` of `total` rows are checked.
    fn rows(&mut self, done: u64, total: u64);
}

impl<F: FnMut(&str)> Report for F {
    fn line(&mut self, line: &str) {
        self(line);
    }

    fn rows(&mut self, _: u64, _: u64) {}
}

/// Checks the data set at `url`, and continues after a damaged shard. `report` gets one line for each shard.
pub fn verify(url: &str, access: &Access, report: &mut impl Report) -> Result<Verdict> {
    let shards = Shards::open(url, access)?;
    if shards.manifest().inversion.is_some() {
        return verify_inversions(&Inversions::of(shards)?, report);
    }
    let dataset = Dataset::of(shards)?;
    let mut verdict = Verdict::default();
    let mut counts = BTreeMap::new();
    for (index, stated) in dataset.manifest().shards.iter().enumerate() {
        match shard_faults(&dataset, index, &mut counts, report) {
            Ok(faults) if faults.is_empty() => {
                report.line(&format!("ok      {}  {} rows, {} bytes", stated.file, stated.rows, stated.bytes));
            }
            Ok(faults) => {
                report.line(&format!("DAMAGED {}  {} bad rows, first: {}", stated.file, faults.len(), faults[0]));
                verdict.faults.extend(faults.into_iter().map(|f| format!("{}: {f}", stated.file)));
            }
            Err(error) => {
                report.line(&format!("DAMAGED {error}"));
                verdict.faults.push(error.to_string());
            }
        }
    }
    verdict.rows = counts.values().map(|c: &Split| c.rows).sum();
    if verdict.is_sound() {
        verdict.faults = count_faults(dataset.manifest(), &counts);
        verdict.faults.iter().for_each(|fault| report.line(&format!("DAMAGED {fault}")));
    }
    Ok(verdict)
}

fn verify_inversions(inversions: &Inversions, report: &mut impl Report) -> Result<Verdict> {
    match inversions.verify() {
        Ok(rows) => Ok(Verdict { rows, faults: vec![] }),
        Err(error) => {
            report.line(&format!("DAMAGED {error}"));
            Ok(Verdict { rows: 0, faults: vec![error.to_string()] })
        }
    }
}

fn shard_faults(
    dataset: &Dataset, index: usize, counts: &mut BTreeMap<String, Split>, report: &mut impl Report,
) -> Result<Vec<String>> {
    let (mut faults, shards) = (Vec::new(), &dataset.manifest().shards);
    let before: u64 = shards[..index].iter().map(|shard| shard.rows).sum();
    for (done, reference) in dataset.references(index)?.into_iter().enumerate() {
        report.rows(before + done as u64, dataset.manifest().rows());
        let row = dataset.read(&reference)?;
        counts.entry(row.split.clone()).or_default().count(&row);
        faults.extend(row_fault(dataset.manifest(), &row).map(|fault| format!("{}: {fault}", row.path)));
    }
    Ok(faults)
}

fn row_fault(manifest: &Manifest, row: &Row) -> Option<String> {
    let image = match row.image() {
        Ok(image) => image,
        Err(error) => return Some(error.to_string()),
    };
    let side = manifest.transform.resolution;
    if image.dimensions() != (side, side) {
        return Some(format!("image is {:?}, the manifest states {side} pixels", image.dimensions()));
    }
    (!row.encoding.is_finite()).then(|| "latents or embedding are not finite".into())
}

fn count_faults(manifest: &Manifest, counts: &BTreeMap<String, Split>) -> Vec<String> {
    let differs = |name: &&String| manifest.splits.get(*name) != counts.get(*name);
    let names: std::collections::BTreeSet<&String> = manifest.splits.keys().chain(counts.keys()).collect();
    let fault = |name: &String| format!("split {name}: rows or counts are not the manifest's");
    names.iter().filter(|name| differs(name)).map(|name| fault(name)).collect()
}
