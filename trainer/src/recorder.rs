//! What each step leaves to be read: metrics.jsonl and TensorBoard, written by rank 0.

use std::collections::BTreeMap;
use std::time::Duration;

use image::RgbImage;
use tch::Device;

use crate::events::{self, Events};
use crate::metrics::Metrics;
use crate::resolved::Resolved;
use crate::world::World;

/// The numbers of one step, means over the global batch.
#[derive(Clone, Debug, Default)]
pub struct StepRecord {
    /// The weighted sum.
    pub total: f64,
    /// The terms that are trained, unweighted.
    pub terms: Vec<(&'static str, f64)>,
    /// Of each group.
    pub learning_rates: Vec<(&'static str, f64)>,
    /// Before clipping.
    pub gradient_norm: f64,
    /// Whether the step was left out because it was not finite.
    pub skipped: bool,
    /// Steps left out up to now.
    pub num_skipped: u64,
    /// What the loss was multiplied by; 1 where nothing is scaled.
    pub loss_scale: f64,
    /// Source images per second, over all ranks.
    pub images_per_s: f64,
    /// The share of the step spent waiting for data.
    pub data_wait_pct: f64,
}

impl StepRecord {
    /// Fills in the rates from what the step took.
    pub fn timings(&mut self, global_batch: usize, waited: Duration, whole: Duration) {
        let seconds = whole.as_secs_f64().max(1e-9);
        self.images_per_s = global_batch as f64 / seconds;
        self.data_wait_pct = 100.0 * waited.as_secs_f64() / seconds;
    }

    fn scalars(&self) -> Vec<(String, f64)> {
        let mut scalars = vec![("loss/total".to_string(), self.total)];
        scalars.extend(self.terms.iter().map(|(name, value)| (format!("loss/{name}"), *value)));
        scalars.extend(self.learning_rates.iter().map(|(name, value)| (format!("lr/{name}"), *value)));
        scalars.push(("norm/grad".into(), self.gradient_norm));
        scalars.push(("train/skipped_steps".into(), self.num_skipped as f64));
        if self.loss_scale > 1.0 {
            scalars.push(("train/loss_scale".into(), self.loss_scale));
        }
        scalars.push(("perf/images_per_s".into(), self.images_per_s));
        scalars.push(("perf/data_wait_pct".into(), self.data_wait_pct));
        scalars
    }
}

/// Rank 0's files; nothing on the others.
pub struct Recorder {
    files: Option<Files>,
}

struct Files {
    metrics: Metrics,
    validation: Metrics,
    events: Events,
}

impl Recorder {
    /// Opens the files of a run that has done `step` steps and writes the configuration into both.
    pub fn open(recipe: &Resolved, step: u64, world: &World) -> anyhow::Result<Self> {
        if !world.is_first() {
            return Ok(Self { files: None });
        }
        let folder = &recipe.config.output_dir;
        write_config(recipe)?;
        let mut events = Events::create(&folder.join("logs"), step + 1)?;
        events.text(step, "config", &events::table(&serde_json::to_value(&recipe.config)?));
        let open = |name| Metrics::open(folder, name, step);
        let (metrics, validation) = (open("metrics.jsonl")?, open("validation.jsonl")?);
        Ok(Self { files: Some(Files { metrics, validation, events }) })
    }

    /// Records step `step`, counted from 1.
    pub fn step(&mut self, step: u64, record: &StepRecord, world: &World) -> anyhow::Result<()> {
        let Some(Files { metrics, events, .. }) = &mut self.files else { return Ok(()) };
        let mut scalars = record.scalars();
        if let Device::Cuda(index) = world.device {
            let memory = collective::cuda::memory(index)?;
            scalars.push(("memory/allocated".into(), memory.allocated as f64));
            scalars.push(("memory/peak".into(), memory.peak_allocated as f64));
        }
        metrics.write(step, &scalars)?;
        events.scalars(step, &scalars);
        Ok(())
    }

    /// What validation found of `tag` up to now, by step; nothing where this rank records nothing.
    pub fn validated(&self, tag: &str) -> BTreeMap<u64, f64> {
        self.files.as_ref().map(|files| files.validation.series(tag)).unwrap_or_default()
    }

    /// Records what validation found.
    pub fn validation(
        &mut self, step: u64, scalars: &[(String, f64)], pictures: &[(String, RgbImage)],
    ) -> anyhow::Result<()> {
        let Some(Files { validation, events, .. }) = &mut self.files else { return Ok(()) };
        validation.write(step, scalars)?;
        events.scalars(step, scalars);
        pictures.iter().try_for_each(|(tag, picture)| events.picture(step, tag, picture))
    }
}

fn write_config(recipe: &Resolved) -> anyhow::Result<()> {
    let path = recipe.config.output_dir.join("config.resolved.yaml");
    std::fs::write(&path, dataloader::recipe::to_yaml(&recipe.config))
        .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}
