//! `checkpoint-<step>/`: written to a temporary folder, hashed, fsynced, renamed; read back before anything older is
//! deleted.
//!
//! A folder without a manifest, or with one file that does not match the manifest, is not a checkpoint.

pub mod disk;
mod former;
pub mod reading;
pub mod resume;
pub mod retention;
pub mod tensor_file;
pub mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use self::disk::Disk;
pub use self::reading::{load, verify};
use self::retention::{KeepBest, Retention};

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
/// The file of the edited latents that the next step goes on from.
pub const TRAJECTORY: &str = "trajectory";
const PREFIX: &str = "checkpoint-";
/// The format version that is written. Version 1 had the tokens of all emotions in one tensor, by position, and one
/// count of updates for all.
const FORMAT_VERSION: u32 = 2;

/// When checkpoints are written, which are kept, and where a run starts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSection {
    /// Steps between two checkpoints; there is always one at the end, and 0 means only that one.
    pub checkpointing_steps: u64,
    /// How many of the newest are kept.
    pub checkpoints_total_limit: usize,
    /// Keep the best by a validation metric beside the newest.
    pub keep_best: Option<KeepBest>,
    /// Space in MB that stays free on the output's disk: a checkpoint that would use it is not written, with a
    /// warning.
    pub min_free_mb: u64,
    /// Write while the training goes on; otherwise each step waits for its checkpoint.
    pub asynchronous: bool,
    /// `latest`, a checkpoint's folder, or `none`.
    pub resume_from_checkpoint: String,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self {
            checkpointing_steps: 200,
            checkpoints_total_limit: 3,
            keep_best: None,
            min_free_mb: 100,
            asynchronous: true,
            resume_from_checkpoint: "latest".into(),
        }
    }
}

/// Named tensors, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Snapshot {
    /// Tensors by file: tokens, delta, optimizer, and ema and trajectory if the run has them.
    pub files: BTreeMap<String, Tensors>,
    /// Counters, thresholds and the configuration of the run.
    pub state: serde_json::Value,
}

impl Snapshot {
    /// A copy of the values on the CPU, which later steps do not change.
    pub fn detached(&self) -> Snapshot {
        let copy = |tensor: &Tensor| tensor.detach().to_device(Device::Cpu).copy();
        let copies = |tensors: &Tensors| tensors.iter().map(|(name, t)| (name.clone(), copy(t))).collect();
        let files = self.files.iter().map(|(file, tensors)| (file.clone(), copies(tensors))).collect();
        Snapshot { files, state: self.state.clone() }
    }
}

/// The manifest: name, size and hash of every other file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format_version: u32,
    step: u64,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    bytes: u64,
    blake3: String,
}

/// The folder of the checkpoint after `step` optimiser steps.
pub fn folder(output_dir: &Path, step: u64) -> PathBuf {
    output_dir.join(format!("{PREFIX}{step}"))
}

/// Writes a checkpoint and, once it has been read back, deletes those that `retention` does not keep.
pub fn save(
    disk: &dyn Disk, output_dir: &Path, step: u64, snapshot: &Snapshot, retention: &Retention,
) -> anyhow::Result<PathBuf> {
    let target = folder(output_dir, step);
    let aside = output_dir.join(format!(".{PREFIX}{step}.writing"));
    let written = contents(step, snapshot)
        .and_then(|files| check_space(disk, output_dir, &files, retention.min_free_bytes).map(|()| files))
        .and_then(|files| write_aside(disk, &aside, &files))
        .and_then(|()| move_into_place(disk, &aside, &target));
    if let Err(error) = written {
        // Earlier checkpoints are untouched; only the half-written folder is removed.
        let _ = disk.remove_folder(&aside);
        return Err(error.context(format!("cannot write {}; earlier checkpoints are untouched", target.display())));
    }
    verify(disk, &target).with_context(|| format!("{} does not read back as written", target.display()))?;
    prune(disk, output_dir, retention)?;
    Ok(target)
}

/// A checkpoint's files by name, in the order in which they are written: the manifest last.
fn contents(step: u64, snapshot: &Snapshot) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, tensors) in &snapshot.files {
        contents.insert(format!("{name}.safetensors"), tensor_file::to_bytes(tensors)?);
    }
    contents.insert(STATE.into(), pretty(&snapshot.state)?);
    let entry = |bytes: &Vec<u8>| Entry { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
    let files = contents.iter().map(|(name, bytes)| (name.clone(), entry(bytes))).collect();
    let manifest = pretty(&Manifest { format_version: FORMAT_VERSION, step, files })?;
    Ok(contents.into_iter().chain([(MANIFEST.to_string(), manifest)]).collect())
}

fn check_space(disk: &dyn Disk, folder: &Path, files: &[(String, Vec<u8>)], spare: u64) -> anyhow::Result<()> {
    let needed = files.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() + spare;
    let free = disk.free_bytes(folder).with_context(|| folder.display().to_string())?;
    if free < needed {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        anyhow::bail!(
            "{} MB are free and {} MB would have to be (checkpoint.min_free_mb counted); delete something, or lower \
             checkpoint.checkpoints_total_limit",
            mb(free),
            mb(needed)
        );
    }
    Ok(())
}

fn write_aside(disk: &dyn Disk, aside: &Path, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
    let at = |path: &Path| path.display().to_string();
    disk.remove_folder(aside).with_context(|| at(aside))?;
    disk.create_folder(aside).with_context(|| at(aside))?;
    for (name, bytes) in files {
        let path = aside.join(name);
        disk.write(&path, bytes).and_then(|()| disk.sync(&path)).with_context(|| at(&path))?;
    }
    disk.sync(aside).with_context(|| at(aside))
}

fn move_into_place(disk: &dyn Disk, aside: &Path, target: &Path) -> anyhow::Result<()> {
    let parent = target.parent().expect("a checkpoint lies in the output folder");
    if target.exists() {
        move_aside(disk, target, "superseded")?;
    }
    disk.rename(aside, target).with_context(|| target.display().to_string())?;
    disk.sync(parent).with_context(|| parent.display().to_string())
}

fn pretty<T: Serialize>(value: &T) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text.into_bytes())
}

fn prune(disk: &dyn Disk, output_dir: &Path, retention: &Retention) -> anyhow::Result<()> {
    let found = all(disk, output_dir).with_context(|| output_dir.display().to_string())?;
    let kept = retention.kept(&found.iter().map(|(step, _)| *step).collect::<Vec<_>>());
    for (_, old) in found.into_iter().filter(|(step, _)| !kept.contains(step)) {
        disk.remove_folder(&old).with_context(|| format!("cannot delete old checkpoint {}", old.display()))?;
    }
    Ok(())
}

/// Every checkpoint folder, newest first; none if there is no output folder.
pub fn all(disk: &dyn Disk, output_dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match disk.entries(output_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries?,
    };
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = entries.into_iter().filter_map(|path| Some((step(&path)?, path))).collect();
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    Ok(found)
}

/// Removes half-written folders of a killed process.
pub fn sweep(output_dir: &Path) {
    for entry in std::fs::read_dir(output_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!(".{PREFIX}")) && name.ends_with(".writing") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Renames a checkpoint that this run does not resume from, so that it is not chosen or counted again.
pub fn set_aside(folder: &Path, why: &str) -> anyhow::Result<()> {
    move_aside(&disk::RealDisk, folder, why)
}

fn move_aside(disk: &dyn Disk, folder: &Path, why: &str) -> anyhow::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = folder.with_file_name(format!("{why}-{name}"));
    disk.remove_folder(&aside).with_context(|| aside.display().to_string())?;
    disk.rename(folder, &aside).with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests;
