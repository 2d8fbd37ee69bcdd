//! `dataloader invert`: the inversion of every source, by one process or many.
//!
//! Shapes: n timesteps, b batch, (c, h, w) a latent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collective::{autocast, MixedPrecision};
use diffusion::pipeline::{Hashes, Pipeline};
use diffusion::process::ddim::{all_step_factors, invert_recorded, InversionSchedule};
use diffusion::process::schedule::{Prediction, Schedule};
use diffusion::tokens::Prompt;
use half::f16;
use hub::Hub;
use program::Progress;
use tch::{Device, Kind, Tensor};

use super::columns::{inversions_batch, inversions_schema, Inverted};
use super::config::InvertConfig;
use crate::error::{Error, Result};
use crate::format::account::Account;
use crate::format::manifest::{Inversion, Latent, Manifest, OF_INVERSIONS};
use crate::format::row::RowRef;
use crate::making::assembly::{Assembly, Made, Wanted};
use crate::making::staging::{Receipt, Staging};
use crate::making::waiting::Patience;
use crate::making::worker_rank::WorkerRank;
use crate::making::writer::LAYOUT;
use crate::reading::dataset::Dataset;

impl Inversion {
    /// What inversions depend on, for these weights, schedule, timesteps and prompt.
    pub fn new(
        hashes: &Hashes, schedule: &Schedule, inversion_schedule: &InversionSchedule, prompt: &str,
        precision: MixedPrecision,
    ) -> Self {
        let mut alpha_bars = blake3::Hasher::new();
        for &timestep in inversion_schedule.timesteps() {
            alpha_bars.update(&schedule.alpha_bar(timestep).to_le_bytes());
        }
        Self {
            unet: hashes.unet.clone(),
            text_encoder: hashes.text_encoder.clone(),
            prompt: prompt.into(),
            timesteps: inversion_schedule.timesteps().to_vec(),
            alpha_bars: alpha_bars.finalize().to_hex().to_string(),
            prediction: recorded(schedule.prediction()).into(),
            precision: precision.name().into(),
            steps: all_step_factors(schedule, inversion_schedule),
        }
    }
}

/// What an inversion records at each timestep: the UNet's own output.
fn recorded(prediction: Prediction) -> &'static str {
    match prediction {
        Prediction::Epsilon => "epsilon",
        // Not the names under which earlier versions recorded the ε that follows from these.
        Prediction::VPrediction => "v_prediction",
        Prediction::Sample => "predicted_sample",
    }
}

/// What is needed to compute inversions.
#[derive(Clone, Copy, Debug)]
pub struct Inverter<'a> {
    /// The networks.
    pub pipeline: &'a Pipeline,
    /// The timesteps.
    pub inversion_schedule: &'a InversionSchedule,
    /// The source prompt.
    pub prompt: &'a str,
    /// The networks' element type.
    pub precision: MixedPrecision,
    /// Images computed at once.
    pub batch_size: usize,
    /// The networks' device.
    pub device: Device,
}

impl Inverter<'_> {
    /// The inversions of at most `batch_size` images, given by id, split and unscaled latents of the shape `latent`.
    ///
    /// The batch is always `batch_size` images, with the last one repeated, so that an image's bits do not depend on
    /// the others in its batch.
    pub fn invert(&self, images: Vec<(String, String, Vec<f16>)>, latent: &Latent) -> Vec<Inverted> {
        let _no_grad = tch::no_grad_guard();
        let Self { pipeline, inversion_schedule, .. } = *self;
        let shape: [i64; 3] = [latent.channels.into(), latent.height.into(), latent.width.into()];
        let image = |k: usize| {
            let numbers = &images[k.min(images.len() - 1)].2;
            Tensor::from_slice(numbers).to_kind(Kind::Float).view(shape)
        };
        let batch = Tensor::stack(&(0..self.batch_size).map(image).collect::<Vec<_>>(), 0).to_device(self.device);
        let scaled = batch * latent.scaling_factor;
        let context = pipeline.context(&Prompt::plain(&pipeline.tokenizer, self.prompt), None);
        let work = || invert_recorded(&pipeline.unet, &pipeline.schedule, inversion_schedule, &scaled, &context);
        let outputs = autocast(self.device, self.precision.kind(), work).to_device(Device::Cpu); // (n, b, c, h, w)
        let inverted = |(k, (image_id, split, latent)): (usize, (String, String, Vec<f16>))| Inverted {
            image_id,
            split,
            latent,
            outputs: numbers(&outputs.select(1, k as i64)),
        };
        images.into_iter().enumerate().map(inverted).collect()
    }
}

/// A summary of a run of `invert`, on one line.
#[derive(Clone, Debug)]
pub struct Summary(pub String);

/// Makes this process's share of a recipe's inversions; the first process completes the data set and returns a
/// summary.
pub fn run(config: &InvertConfig, hub: &Hub, worker_rank: &WorkerRank) -> Result<Option<Summary>> {
    config.check()?;
    let started = Instant::now();
    let device = worker_rank.device(config.device)?;
    let reading = Progress::unbounded("reading the models", worker_rank.is_first());
    let pipeline = Pipeline::load(&hub.model(&config.base)?, device, config.mixed_precision.kind())?;
    drop(reading);
    let sources = Dataset::open_with(&config.sources.shards, &config.store)?;
    sources.check_vae(&pipeline.hashes.vae)?;
    let images = images(config, &sources)?;
    let inversion_schedule = &InversionSchedule::new(&pipeline.schedule, config.num_inversion_steps);
    let inverter = Inverter {
        pipeline: &pipeline,
        inversion_schedule,
        prompt: &config.prompt,
        precision: config.mixed_precision,
        batch_size: config.inversion_batch_size,
        device,
    };
    let inversion = Inversion::new(
        &pipeline.hashes,
        &pipeline.schedule,
        inversion_schedule,
        &config.prompt,
        config.mixed_precision,
    );
    let run = Run { inverter, sources: &sources, inversion };
    let assembly = Assembly::begin(&config.output, worker_rank, Patience(Duration::from_secs(config.rank_timeout_s)))?;
    let planned = planned(&images, config.images_per_shard);
    let wanted: Vec<Wanted> = planned.iter().map(|shard| run.wanted(shard)).collect();
    let make = |k: usize, progress: &Progress| {
        run.invert_shard(&assembly.staging, &planned[k], &wanted[k].key, |count| progress.inc(count))
    };
    let Some(Made { receipts, encoded, reused }) = assembly.make("inverting", &wanted, make)? else { return Ok(None) };
    let manifest = assembly.commit(receipts, run.manifest())?;
    Ok(Some(Summary(format!(
        "{}: {} timesteps of {} images in {} shards; {encoded} inverted, {reused} kept; {:.1} s",
        config.output.display(),
        run.inversion.timesteps.len(),
        images.len(),
        manifest.shards.len(),
        started.elapsed().as_secs_f64(),
    ))))
}

/// The images to invert, each once, by split and path.
fn images(config: &InvertConfig, sources: &Dataset) -> Result<Vec<RowRef>> {
    let mut once = BTreeMap::new();
    for row in sources.rows(&config.sources.filter)? {
        once.entry(row.image_id.clone()).or_insert(row);
    }
    let mut images: Vec<RowRef> = once.into_values().collect();
    images.sort_by(|a, b| (&a.split, &a.path).cmp(&(&b.split, &b.path)));
    match images.is_empty() {
        true => Err(Error::Empty { url: sources.url().into(), filter: config.sources.filter.describe() }),
        false => Ok(images),
    }
}

/// A shard that is to be made.
struct Planned<'a> {
    file: String,
    split: &'a str,
    images: &'a [RowRef],
}

fn planned(images: &[RowRef], images_per_shard: usize) -> Vec<Planned<'_>> {
    let mut shards = Vec::new();
    for of_split in images.chunk_by(|a, b| a.split == b.split) {
        let split = of_split[0].split.as_str();
        let chunks = of_split.chunks(images_per_shard);
        let count = chunks.len();
        shards.extend(chunks.enumerate().map(|(n, images)| Planned {
            file: format!("{split}-{n:05}-of-{count:05}.parquet"),
            split,
            images,
        }));
    }
    shards
}

/// A run of `invert`.
struct Run<'a> {
    inverter: Inverter<'a>,
    sources: &'a Dataset,
    inversion: Inversion,
}

impl Run<'_> {
    fn wanted(&self, shard: &Planned<'_>) -> Wanted {
        let ids: Vec<&str> = shard.images.iter().map(|row| row.image_id.as_str()).collect();
        let manifest = self.sources.manifest();
        let size = self.inverter.batch_size;
        let made_of = serde_json::json!([
            LAYOUT,
            OF_INVERSIONS,
            self.inversion,
            manifest.transform,
            manifest.vae.hash,
            size,
            ids
        ]);
        let paths = shard.images.iter().map(|row| row.path.clone()).collect();
        let key = blake3::hash(made_of.to_string().as_bytes()).to_hex().to_string();
        Wanted { file: shard.file.clone(), key, paths }
    }

    fn invert_shard(&self, staging: &Staging, shard: &Planned<'_>, key: &str, done: impl Fn(u64)) -> Result<Receipt> {
        let latent = &self.sources.manifest().latent;
        let schema = Arc::new(inversions_schema(latent, self.inversion.timesteps.len()));
        let mut writer = staging.start(&shard.file, shard.split, key, &schema)?;
        for rows in shard.images.chunks(self.inverter.batch_size) {
            let image = |row: &RowRef| {
                Ok((row.image_id.clone(), shard.split.to_string(), self.sources.encoding(row)?.latent_mean))
            };
            let images = rows.iter().map(image).collect::<Result<_>>()?;
            writer.write_group(&inversions_batch(&schema, &self.inverter.invert(images, latent))?)?;
            writer.shard.image_ids.extend(rows.iter().map(|row| row.image_id.clone()));
            done(rows.len() as u64);
        }
        Ok(Receipt { shard: writer.finish()?, quarantined: vec![], encoded: shard.images.len(), reused: 0 })
    }

    /// The inversions' manifest, without the list of shards.
    fn manifest(&self) -> Manifest {
        let sources = self.sources.manifest();
        Manifest {
            shards: vec![],
            splits: BTreeMap::new(),
            clip: None,
            quarantined: vec![],
            missing: 0,
            account: Account::default(),
            inversion: Some(self.inversion.clone()),
            checksum: String::new(),
            ..sources.clone()
        }
    }
}

fn numbers(tensor: &Tensor) -> Vec<f16> {
    let flat = tensor.contiguous();
    let mut values = vec![f16::ZERO; flat.numel()];
    flat.copy_data(&mut values, flat.numel());
    values
}
