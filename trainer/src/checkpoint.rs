//! `checkpoint-<step>`/: written aside, hashed, fsynced, renamed; read back before anything older is deleted.
//!
//! A folder without a manifest, or with one file that is not what the manifest says, is not a checkpoint.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::tensor_file;

const MANIFEST: &str = "manifest.json";
const STATE: &str = "state.json";
const PREFIX: &str = "checkpoint-";

/// When checkpoints are written, how many are kept, and where a run begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSection {
    /// Every so many steps, and at the end; 0 for the end only.
    pub checkpointing_steps: u64,
    /// How many are kept.
    pub checkpoints_total_limit: usize,
    /// `latest`, a checkpoint's folder, or `none`.
    pub resume_from_checkpoint: String,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self { checkpointing_steps: 200, checkpoints_total_limit: 3, resume_from_checkpoint: "latest".into() }
    }
}

/// Named tensors, by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Snapshot {
    /// Tensors by file: tokens, delta, optimizer, trajectory.
    pub files: BTreeMap<String, Tensors>,
    /// Counters, thresholds and the configuration of the run.
    pub state: serde_json::Value,
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

/// Writes a checkpoint and, once it reads back, deletes all but the newest `limit`.
pub fn save(output_dir: &Path, step: u64, snapshot: &Snapshot, limit: usize) -> anyhow::Result<PathBuf> {
    let target = folder(output_dir, step);
    let aside = output_dir.join(format!(".{PREFIX}{step}.writing"));
    let written = write_aside(&aside, step, snapshot).and_then(|()| move_into_place(&aside, &target));
    if let Err(error) = written {
        // What was there before is untouched; only the half-written folder goes.
        let _ = std::fs::remove_dir_all(&aside);
        return Err(error.context(format!("cannot write {}; earlier checkpoints are untouched", target.display())));
    }
    verify(&target).with_context(|| format!("{} does not read back as written", target.display()))?;
    prune(output_dir, limit)?;
    Ok(target)
}

fn write_aside(aside: &Path, step: u64, snapshot: &Snapshot) -> anyhow::Result<()> {
    if aside.exists() {
        std::fs::remove_dir_all(aside).with_context(|| aside.display().to_string())?;
    }
    std::fs::create_dir_all(aside).with_context(|| aside.display().to_string())?;
    let mut contents: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (name, tensors) in &snapshot.files {
        contents.insert(format!("{name}.safetensors"), tensor_file::to_bytes(tensors)?);
    }
    contents.insert(STATE.into(), pretty(&snapshot.state)?);
    let entry = |bytes: &Vec<u8>| Entry { bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() };
    let files = contents.iter().map(|(name, bytes)| (name.clone(), entry(bytes))).collect();
    for (name, bytes) in &contents {
        write_synced(&aside.join(name), bytes)?;
    }
    write_synced(&aside.join(MANIFEST), &pretty(&Manifest { format_version: 1, step, files })?)?;
    sync_folder(aside)
}

fn move_into_place(aside: &Path, target: &Path) -> anyhow::Result<()> {
    let parent = target.parent().expect("a checkpoint lies in the output folder");
    if target.exists() {
        set_aside(target, "superseded")?;
    }
    std::fs::rename(aside, target).with_context(|| target.display().to_string())?;
    sync_folder(parent)
}

fn pretty<T: Serialize>(value: &T) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    Ok(text.into_bytes())
}

fn write_synced(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

fn sync_folder(path: &Path) -> anyhow::Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).with_context(|| path.display().to_string())
}

fn prune(output_dir: &Path, limit: usize) -> anyhow::Result<()> {
    for (_, old) in all(output_dir).into_iter().skip(limit.max(1)) {
        std::fs::remove_dir_all(&old).with_context(|| format!("cannot delete old checkpoint {}", old.display()))?;
    }
    Ok(())
}

/// Every checkpoint folder, newest first.
pub fn all(output_dir: &Path) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(output_dir).into_iter().flatten().flatten();
    let step = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
    found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
    found
}

/// Removes what a killed process left half-written.
pub fn sweep(output_dir: &Path) {
    for entry in std::fs::read_dir(output_dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!(".{PREFIX}")) && name.ends_with(".writing") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Renames a checkpoint that this run will not go on from, so that it is neither chosen nor counted again.
pub fn set_aside(folder: &Path, why: &str) -> anyhow::Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let aside = folder.with_file_name(format!("{why}-{name}"));
    if aside.exists() {
        std::fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())?;
    }
    std::fs::rename(folder, &aside).with_context(|| folder.display().to_string())
}

/// Checks every file against the manifest and returns the step; the error names the file at fault.
pub fn verify(folder: &Path) -> anyhow::Result<u64> {
    let manifest = read_manifest(folder)?;
    for (name, entry) in &manifest.files {
        read_checked(&folder.join(name), entry)?;
    }
    Ok(manifest.step)
}

/// Reads and verifies a checkpoint; the error names the file at fault.
pub fn load(folder: &Path) -> anyhow::Result<Snapshot> {
    let manifest = read_manifest(folder)?;
    let mut snapshot = Snapshot { files: BTreeMap::new(), state: serde_json::Value::Null };
    for (name, entry) in &manifest.files {
        let path = folder.join(name);
        let bytes = read_checked(&path, entry)?;
        if let Some(stem) = name.strip_suffix(".safetensors") {
            snapshot.files.insert(stem.into(), tensor_file::from_bytes(&path, &bytes)?);
        } else if name == STATE {
            snapshot.state = serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
        }
    }
    if snapshot.state.get("step").and_then(serde_json::Value::as_u64) != Some(manifest.step) {
        anyhow::bail!("{}: damaged: step {} is not that of {STATE}", folder.join(MANIFEST).display(), manifest.step);
    }
    Ok(snapshot)
}

fn read_manifest(folder: &Path) -> anyhow::Result<Manifest> {
    let path = folder.join(MANIFEST);
    let bytes = std::fs::read(&path).with_context(|| format!("{}: not a checkpoint", path.display()))?;
    let manifest: Manifest = serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged", path.display()))?;
    if manifest.format_version != 1 {
        anyhow::bail!("{}: format version {}, this program reads 1", path.display(), manifest.format_version);
    }
    if let Some(name) = manifest.files.keys().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        anyhow::bail!("{}: file name {name:?} leads outside the folder", path.display());
    }
    Ok(manifest)
}

fn read_checked(path: &Path, entry: &Entry) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path).with_context(|| format!("{}: damaged checkpoint", path.display()))?;
    if bytes.len() as u64 != entry.bytes {
        let (found, stated) = (bytes.len(), entry.bytes);
        anyhow::bail!("{}: damaged checkpoint: {found} bytes where the manifest says {stated}", path.display());
    }
    if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
        anyhow::bail!("{}: damaged checkpoint: its bytes do not have the manifest's hash", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(step: u64) -> Snapshot {
        let tensors = Tensors::from([("tokens".to_string(), Tensor::from_slice(&[step as f32, 2.0]))]);
        Snapshot { files: BTreeMap::from([("tokens".into(), tensors)]), state: serde_json::json!({"step": step}) }
    }

    #[test]
    fn what_was_saved_is_loaded_and_only_the_newest_are_kept() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        for step in [1, 2, 10] {
            save(dir.path(), step, &snapshot(step), 2)?;
        }
        let steps: Vec<u64> = all(dir.path()).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [10, 2]);
        let read = load(&folder(dir.path(), 10))?;
        assert_eq!(read.files["tokens"]["tokens"], Tensor::from_slice(&[10.0f32, 2.0]));
        assert_eq!(read.state["step"], 10);
        Ok(())
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_noticed() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let folder = save(dir.path(), 3, &snapshot(3), 1)?;
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let path = entry.path();
            let good = std::fs::read(&path)?;
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x01;
                std::fs::write(&path, &bad)?;
                assert!(load(&folder).is_err(), "{name}, byte {at}");
            }
            std::fs::write(&path, &good[..good.len() / 2])?;
            let error = format!("{:#}", load(&folder).expect_err("truncated"));
            assert!(error.contains(&name), "{error}");
            std::fs::write(&path, &good)?;
        }
        assert!(load(&folder).is_ok());
        Ok(())
    }

    #[test]
    fn half_written_folders_are_swept() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        std::fs::create_dir(dir.path().join(".checkpoint-5.writing"))?;
        sweep(dir.path());
        assert!(all(dir.path()).is_empty());
        assert!(!dir.path().join(".checkpoint-5.writing").exists());
        Ok(())
    }
}
