//! Held-out sources, edited with the run's current state: samples/step-N/ and TensorBoard, in columns source, round
//! trip, edit.
//!
//! Every rank edits its share of the same few images; for each emotion, these are images that do not show it. Their
//! inversions come from the cache.
//!
//! Shapes: b images, (h, w) pixels.

use std::collections::BTreeMap;

use anyhow::Context;
use dataloader::{RowRef, Stream};
use diffusion::edit::EditProcess;
use diffusion::images;
use diffusion::process::ddim::Trajectory;
use image::RgbImage;
use program::Progress;
use tch::{Device, Tensor};

use crate::config::resolved::Resolved;
use crate::failure::{input, refuse};
use crate::logging::recorder::Recorder;
use crate::objective::Objective;
use crate::run::context::RunContext;
use crate::run::export::run_config;
use crate::run::models::Folders;
use crate::run::world::World;
use crate::step::state::State;
use crate::validation::metrics::{Pairs, ValidationMetrics};

/// Runs are shown as they are trained.
const STRENGTH: f64 = 1.0;

/// What validation edits and measures.
pub struct Samples {
    shown: Vec<Shown>,
    resolution: u32,
    metrics: ValidationMetrics,
}

/// The images that are edited towards one emotion; none of them shows it already. This rank's share is loaded.
struct Shown {
    /// Index of the emotion.
    emotion: usize,
    stream: Stream,
    /// Positions in the stream's order: the same images for any number of ranks.
    count: usize,
    mine: Vec<u64>,
    loaded: Option<Loaded>,
}

/// On the CPU until they are edited: the networks' device holds only one emotion's at a time.
struct Loaded {
    sources: Tensor,    // (b, 3, h, w)
    round_trip: Tensor, // (b, 3, h, w)
    trajectory: Trajectory,
}

impl Samples {
    /// Chooses the images, the same for any seed; none if validation is off.
    pub fn choose(run: &RunContext<'_>, folders: &Folders) -> anyhow::Result<Option<Self>> {
        let RunContext { recipe, models, data, world, .. } = *run;
        if recipe.config.validation.validation_steps == 0 {
            return Ok(None);
        }
        let shown: Vec<Shown> =
            (0..recipe.names.len()).filter_map(|k| Shown::choose(run, k).transpose()).collect::<anyhow::Result<_>>()?;
        for (k, name) in recipe.names.iter().enumerate() {
            if world.is_first() && shown.iter().all(|shown| shown.emotion != k) {
                let split = &recipe.config.validation.split;
                tracing::warn!(
                    "{name}: every source of the held-out \"{split}\" shows it already; none is edited towards it"
                );
            }
        }
        if shown.is_empty() {
            return Err(refuse("validation.split: no source in it is without every emotion of the run; name another"));
        }
        let metrics = ValidationMetrics::load(&recipe.config, folders, models)?;
        Ok(Some(Self { shown, resolution: data.resolution(), metrics }))
    }

    /// The rows whose inversions are needed, on every rank.
    pub fn rows(&self) -> Vec<(&Stream, &RowRef)> {
        self.shown.iter().flat_map(Shown::rows).collect()
    }

    /// Loads this rank's images and their inversions.
    pub fn with_inversions(mut self, run: &RunContext<'_>) -> anyhow::Result<Self> {
        for shown in &mut self.shown {
            shown.loaded = Some(shown.load(run)?);
        }
        Ok(self)
    }

    /// Edits towards every emotion of the run; rank 0 writes the pictures and the means that it returns.
    pub fn show(
        &self, run: &RunContext<'_>, objective: &Objective<'_>, state: &State, recorder: &mut Recorder,
    ) -> anyhow::Result<Vec<(String, f64)>> {
        let RunContext { recipe, models, inversion_schedule, world, .. } = *run;
        let _no_grad = tch::no_grad_guard();
        let progress = Progress::new("validating", "emotions", recipe.names.len() as u64, world.is_first());
        let config = &run_config(recipe, models, state, self.resolution);
        let (pipeline, learned) = (&models.pipeline, &state.learned);
        let process = EditProcess { pipeline, config, learned, inversion_schedule };
        let mut pictures = Vec::new();
        let mut measured: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for shown in &self.shown {
            let (k, name) = (shown.emotion, &recipe.names[shown.emotion]);
            let loaded = shown.loaded.as_ref().context("validation images are loaded before the first step")?;
            let loaded = &loaded.on(models.device);
            let latents = || anyhow::Ok(process.latents(&loaded.trajectory, &process.towards(name)?, STRENGTH));
            let latents = collective::autocast(models.device, models.kind, latents)?;
            // Outside of autocast: a VAE may overflow in f16.
            let edited = process.finished(&loaded.sources, &loaded.round_trip, &latents);
            let columns = [&loaded.sources, &loaded.round_trip, &edited].map(|t| shown.gathered(t, world));
            let [sources, round_trip, edited] = columns;
            let (sources, edited) = (sources?, edited?);
            let direction = objective.direction(k, state.learned.tokens.as_ref())?;
            let (emotion, direction) = (recipe.config.emotions[k], direction.as_ref());
            let pairs = Pairs { sources: &sources, edited: &edited, emotion, direction };
            for (tag, value) in self.metrics.of(models, &pairs)? {
                measured.entry(tag).or_default().push(value);
            }
            progress.inc(1);
            pictures.push((format!("samples/{name}"), grid(&[sources, round_trip?, edited])?));
        }
        if !world.is_first() {
            return Ok(Vec::new());
        }
        let step = state.counters.step;
        write(recipe, step, &pictures)?;
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let scalars: Vec<(String, f64)> = measured.into_iter().map(|(tag, v)| (tag.to_string(), mean(v))).collect();
        recorder.validation(step, &scalars, &pictures)?;
        Ok(scalars)
    }
}

impl Shown {
    /// The images for emotion number `k`; none if every held-out image shows it already.
    fn choose(run: &RunContext<'_>, k: usize) -> anyhow::Result<Option<Self>> {
        let RunContext { recipe, data, world, .. } = *run;
        let stream = match data.held_out(recipe, k) {
            Err(dataloader::Error::Empty { .. }) if recipe.names.len() > 1 => return Ok(None),
            stream => input(stream)?,
        };
        let count = recipe.config.validation.num_validation_images.min(stream.rows().len());
        let each = count.div_ceil(world.size);
        // A rank without an image of its own edits one of another rank's; the copy is dropped afterwards.
        let mine = (0..each).map(|i| ((i * world.size + world.rank) % count) as u64).collect();
        Ok(Some(Self { emotion: k, stream, count, mine, loaded: None }))
    }

    fn rows(&self) -> Vec<(&Stream, &RowRef)> {
        (0..self.count as u64).map(|p| (&self.stream, self.stream.at(p))).collect()
    }

    fn load(&self, run: &RunContext<'_>) -> anyhow::Result<Loaded> {
        let RunContext { trajectories, models, .. } = *run;
        let _no_grad = tch::no_grad_guard();
        let row = |&position: &u64| self.stream.read(self.stream.at(position));
        let rows = self.mine.iter().map(row).collect::<dataloader::Result<Vec<_>>>()?;
        let pictures =
            rows.iter().map(|row| Ok(images::to_tensor(&row.image()?))).collect::<anyhow::Result<Vec<_>>>()?;
        let ids: Vec<&str> = rows.iter().map(|row| row.image_id.as_str()).collect();
        let trajectory = trajectories.whole(&ids, Device::Cpu)?;
        let round_trip = models.pipeline.images_from_latents(&trajectory.latent(0).to_device(models.device));
        Ok(Loaded { sources: Tensor::cat(&pictures, 0), round_trip: round_trip.to_device(Device::Cpu), trajectory })
    }

    /// Every rank's images in the order of their positions.
    fn gathered(&self, mine: &Tensor, world: &World) -> anyhow::Result<Tensor> {
        let all = world.gather_rows(mine)?;
        let each = self.mine.len();
        let order: Vec<i64> = (0..self.count).map(|p| (p % world.size * each + p / world.size) as i64).collect();
        Ok(all.index_select(0, &Tensor::from_slice(&order).to_device(all.device())))
    }
}

impl Loaded {
    /// The same on the networks' device.
    fn on(&self, device: Device) -> Self {
        let trajectory = Trajectory {
            latents: self.trajectory.latents.to_device(device),
            outputs: self.trajectory.outputs.to_device(device),
        };
        let [sources, round_trip] = [&self.sources, &self.round_trip].map(|images| images.to_device(device));
        Self { sources, round_trip, trajectory }
    }
}

/// One row for each image, one column for each stage.
fn grid(columns: &[Tensor]) -> anyhow::Result<RgbImage> {
    let column = |c: &Tensor| Tensor::cat(&c.unbind(0), 1); // (3, b·h, w)
    let columns: Vec<Tensor> = columns.iter().map(column).collect();
    Ok(images::from_tensor(&Tensor::cat(&columns, 2).to_device(Device::Cpu))?)
}

fn write(recipe: &Resolved, step: u64, pictures: &[(String, RgbImage)]) -> anyhow::Result<()> {
    for (tag, picture) in pictures {
        let (folder, name) = tag.split_once('/').ok_or_else(|| refuse(format!("tag {tag}")))?;
        let folder = recipe.config.output_dir.join(folder).join(format!("step-{step}"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        images::write(&folder.join(format!("{name}.png")), picture)?;
    }
    Ok(())
}
