//! Whether the output folder has permission and room for what a run writes.

use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::checkpoint::disk::{Disk, RealDisk};
use crate::config::resolved::Resolved;
use crate::estimate::cost::Cost;
use crate::failure::refuse;

/// Numbers that a checkpoint holds for each learned number: its value, two moments, and an average if one is kept.
const NUMBERS: u64 = 3;
/// Bytes of one number.
const SIZE: u64 = 4;

/// Fails if the run's folder cannot be written, or if its disk has no room for the checkpoints that are kept and the
/// one that is being written.
pub fn check(recipe: &Resolved, cost: &Cost) -> anyhow::Result<()> {
    let output_dir = &recipe.config.output_dir;
    let existing = existing(output_dir);
    let refused = |reason: String| refuse(format!("output_dir: {}: {reason}", output_dir.display()));
    if !existing.is_dir() {
        return Err(refused(format!("{} is not a folder; name another", existing.display())));
    }
    // The only sure test of whether a file can be made is to make one.
    tempfile::Builder::new().prefix(".writable-").tempfile_in(&existing).map_err(|e| {
        refused(format!("{} cannot be written ({e}); name another, or change its owner", existing.display()))
    })?;
    let checkpoint = &recipe.config.checkpoint;
    let numbers = NUMBERS + u64::from(recipe.config.train.ema_decay.is_some());
    let to_come = checkpoints_to_come(recipe)?;
    let size = (numbers * SIZE).saturating_mul(cost.trained);
    let needed = to_come.saturating_mul(size).saturating_add(checkpoint.min_free_mb.saturating_mul(1_000_000));
    let free = RealDisk.free_bytes(&existing)?;
    if free < needed {
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        return Err(refused(format!(
            "{} MB are free, and {to_come} more checkpoints with checkpoint.min_free_mb take {} MB; delete something, lower \
             checkpoint.checkpoints_total_limit, or name another disk",
            mb(free),
            mb(needed)
        )));
    }
    Ok(())
}

/// How many checkpoints lie on the disk at once, with the one that is being written, beyond those already there.
fn checkpoints_to_come(recipe: &Resolved) -> anyhow::Result<u64> {
    let (checkpoint, steps) = (&recipe.config.checkpoint, recipe.config.train.max_train_steps);
    let saves = match checkpoint.checkpointing_steps {
        0 => 1, // the last one only
        every => steps.div_ceil(every),
    };
    let limit = checkpoint.checkpoints_total_limit as u64 + u64::from(checkpoint.keep_best.is_some());
    let output_dir = &recipe.config.output_dir;
    let there = if output_dir.is_dir() { checkpoint::all(&RealDisk, output_dir)?.len() as u64 } else { 0 };
    let kept = limit.min(saves);
    Ok(kept + 1 - there.min(kept))
}

/// `folder`, or its nearest parent that exists.
fn existing(folder: &Path) -> PathBuf {
    let above = folder.ancestors().find(|path| path.exists());
    let above = above.filter(|path| !path.as_os_str().is_empty());
    above.map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
