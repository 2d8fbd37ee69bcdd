//! Checkpoints are written one at a time on a thread of their own: the step hands over a copy and goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::checkpoint::disk::RealDisk;
use crate::checkpoint::retention::Retention;
use crate::checkpoint::{save, CheckpointSection, Snapshot};

/// Rank 0's writer of checkpoints.
pub struct Writer {
    output_dir: PathBuf,
    section: CheckpointSection,
    scores: BTreeMap<u64, f64>,
    under_way: Option<JoinHandle<anyhow::Result<PathBuf>>>,
    failed_before: bool,
}

impl Writer {
    /// Writes below `output_dir`; `scores` has each earlier step's value of the metric of `section.keep_best`.
    pub fn new(output_dir: PathBuf, section: CheckpointSection, scores: BTreeMap<u64, f64>) -> Self {
        Self { output_dir, section, scores, under_way: None, failed_before: false }
    }

    /// Records what validation measured after `step`.
    pub fn validated(&mut self, step: u64, scalars: &[(String, f64)]) {
        let Some(rule) = &self.section.keep_best else { return };
        self.scores.extend(scalars.iter().filter(|(tag, _)| *tag == rule.metric).map(|(_, score)| (step, *score)));
    }

    /// Saves the state after `step`, once the previous save is on the disk. With `wait` it returns when this save is
    /// on the disk too.
    ///
    /// A failed save is reported and the run goes on, since the earlier checkpoint is whole. A second failure in a
    /// row, or one with `wait`, is an error.
    pub fn save(&mut self, step: u64, snapshot: &Snapshot, wait: bool) -> anyhow::Result<()> {
        self.settle(false)?;
        let (output_dir, retention, snapshot) = (self.output_dir.clone(), self.retention(), snapshot.detached());
        let work = move || save(&RealDisk, &output_dir, step, &snapshot, &retention);
        self.under_way = Some(std::thread::Builder::new().name("checkpoint".into()).spawn(work)?);
        if wait || !self.section.asynchronous {
            self.settle(wait)?;
        }
        Ok(())
    }

    /// Waits for the save in progress and returns its result.
    fn settle(&mut self, must_succeed: bool) -> anyhow::Result<()> {
        let Some(thread) = self.under_way.take() else { return Ok(()) };
        match thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the writer of checkpoints panicked"))) {
            Ok(folder) => {
                tracing::info!("saved {}", folder.display());
                self.failed_before = false;
            }
            Err(error) if must_succeed || self.failed_before => return Err(error),
            Err(error) => {
                tracing::error!("{error:#}; the run goes on and tries again at the next checkpoint");
                self.failed_before = true;
            }
        }
        Ok(())
    }

    fn retention(&self) -> Retention {
        Retention {
            limit: self.section.checkpoints_total_limit,
            best: self.section.keep_best.clone().map(|rule| (rule, self.scores.clone())),
            min_free_bytes: self.section.min_free_mb * 1_000_000,
        }
    }
}

/// The save in progress is finished, whatever else went wrong.
impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.settle(true) {
            tracing::error!("{error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Tensor;

    use super::*;
    use crate::checkpoint::{all, load, Tensors};

    fn snapshot(step: u64, tensor: &Tensor) -> Snapshot {
        let tensors = Tensors::from([("tokens".to_string(), tensor.shallow_clone())]);
        Snapshot { files: BTreeMap::from([("tokens".into(), tensors)]), state: serde_json::json!({"step": step}) }
    }

    #[test]
    fn later_steps_do_not_change_what_is_being_written() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut tensor = Tensor::zeros([1 << 20], (tch::Kind::Float, tch::Device::Cpu));
        let mut writer = Writer::new(dir.path().into(), CheckpointSection::default(), BTreeMap::new());
        writer.save(1, &snapshot(1, &tensor), false)?;
        let _ = tensor.fill_(7.0);
        drop(writer);
        let read = load(&RealDisk, &all(&RealDisk, dir.path())?[0].1)?;
        assert_eq!(read.files["tokens"]["tokens"].sum(tch::Kind::Float).double_value(&[]), 0.0);
        Ok(())
    }

    #[test]
    fn one_failure_is_borne_and_the_second_ends_the_run() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let full = CheckpointSection { min_free_mb: u64::MAX / 2_000_000, ..CheckpointSection::default() };
        let tensor = Tensor::from_slice(&[1.0f32]);
        let mut writer = Writer::new(dir.path().into(), full, BTreeMap::new());
        writer.save(1, &snapshot(1, &tensor), false)?;
        writer.save(2, &snapshot(2, &tensor), false)?;
        let error = writer.save(3, &snapshot(3, &tensor), false).expect_err("twice in a row");
        assert!(format!("{error:#}").contains("checkpoint-2"), "{error:#}");
        let mut waiting = Writer::new(dir.path().into(), writer.section.clone(), BTreeMap::new());
        assert!(waiting.save(4, &snapshot(4, &tensor), true).is_err(), "the last one must succeed");
        Ok(())
    }
}
