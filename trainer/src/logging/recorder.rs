//! Records each step in metrics.jsonl and TensorBoard, on rank 0.

use std::collections::BTreeMap;
use std::time::Duration;

use image::RgbImage;
use tch::{Device, Tensor};

use crate::config::resolved::Resolved;
use crate::logging::events::{self, Events};
use crate::logging::metrics::Metrics;
use crate::logging::prometheus::Prometheus;
use crate::run::world::World;

/// The numbers of one step, means over the global batch.
#[derive(Clone, Debug, Default)]
pub struct StepRecord {
    /// The weighted sum.
    pub total: f64,
    /// The terms that are trained, unweighted.
    pub terms: Vec<(&'static str, f64)>,
    /// Of each parameter group.
    pub learning_rates: Vec<(&'static str, f64)>,
    /// The gradient's norm before clipping.
    pub gradient_norm: f64,
    /// How many steps have been skipped.
    pub num_skipped: u64,
    /// The loss scale; 1 if nothing is scaled.
    pub loss_scale: f64,
    /// Source images per second, over all ranks.
    pub images_per_s: f64,
    /// The share of the step spent waiting for data.
    pub data_wait_pct: f64,
    /// What one process computed, in TFLOP a second.
    pub tflops: f64,
    /// Wall time of the step.
    pub step_seconds: f64,
}

impl StepRecord {
    /// Computes the rates from the step's time.
    ///
    /// `flop` is one process's work.
    pub fn timings(&mut self, global_batch: usize, flop: f64, waited: Duration, whole: Duration) {
        let seconds = whole.as_secs_f64().max(1e-9);
        self.step_seconds = whole.as_secs_f64();
        self.tflops = flop / seconds / 1e12;
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
        scalars.push(("perf/tflops".into(), self.tflops));
        scalars.push(("perf/step_seconds".into(), self.step_seconds));
        scalars
    }
}

/// Rank 0's files; none on the other ranks.
pub struct Recorder {
    files: Option<Files>,
}

struct Files {
    metrics: Metrics,
    validation: Metrics,
    events: Events,
    prometheus: Option<Prometheus>,
    peak_tflops: Option<f64>,
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
        let config = recipe::to_json(&recipe.config);
        events.text(step, "config", &events::table(&config));
        events.hparams(step, folder, &events::flat(&config))?;
        let open = |name| Metrics::open(folder, name, step);
        let (metrics, validation) = (open("metrics.jsonl")?, open("validation.jsonl")?);
        let watch = &recipe.config.watch;
        let prometheus = watch.prometheus.map(Prometheus::serve).transpose()?;
        let peak_tflops = watch.peak_tflops;
        Ok(Self { files: Some(Files { metrics, validation, events, prometheus, peak_tflops }) })
    }

    /// Records step `step`, counted from 1.
    pub fn step(&mut self, step: u64, record: &StepRecord, world: &World) -> anyhow::Result<()> {
        let Some(Files { metrics, events, prometheus, peak_tflops, .. }) = &mut self.files else { return Ok(()) };
        let mut scalars = record.scalars();
        scalars.extend(peak_tflops.map(|peak| ("perf/mfu_pct".to_string(), 100.0 * record.tflops / peak)));
        if let Some([now, peak]) = memory(world.device)? {
            scalars.push(("memory/allocated".into(), now as f64));
            scalars.push(("memory/peak".into(), peak as f64));
        }
        metrics.write(step, &scalars)?;
        if let Some(prometheus) = prometheus {
            prometheus.publish(step, &scalars);
        }
        events.scalars(step, &scalars);
        Ok(())
    }

    /// The validated values of `tag` so far, by step; empty on ranks that record nothing.
    pub fn validated(&self, tag: &str) -> BTreeMap<u64, f64> {
        self.files.as_ref().map(|files| files.validation.series(tag)).unwrap_or_default()
    }

    /// Records the distribution of each of `tensors`.
    pub fn histograms(&mut self, step: u64, tensors: &[(String, Tensor)]) {
        if let Some(Files { events, .. }) = &mut self.files {
            events.histograms(step, tensors);
        }
    }

    /// Records what validation measured.
    pub fn validation(
        &mut self, step: u64, scalars: &[(String, f64)], pictures: &[(String, RgbImage)],
    ) -> anyhow::Result<()> {
        let Some(Files { validation, events, .. }) = &mut self.files else { return Ok(()) };
        validation.write(step, scalars)?;
        events.scalars(step, scalars);
        pictures.iter().try_for_each(|(tag, picture)| events.picture(step, tag, picture))
    }
}

/// Bytes that this process holds now and at most: of the GPU, or of main memory on Linux.
fn memory(device: Device) -> anyhow::Result<Option<[u64; 2]>> {
    if let Device::Cuda(index) = device {
        let memory = collective::cuda::memory(index)?;
        return Ok(Some([memory.allocated, memory.peak_allocated]));
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |key: &str| -> Option<u64> {
        status.lines().find_map(|line| line.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
    };
    Ok(kilobytes("VmRSS:").zip(kilobytes("VmHWM:")).map(|(now, peak)| [now * 1024, peak * 1024]))
}

fn write_config(recipe: &Resolved) -> anyhow::Result<()> {
    let path = recipe.config.output_dir.join("config.resolved.yaml");
    let text = recipe::to_yaml(&recipe.config);
    durable::write(&path, text.as_bytes()).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}
