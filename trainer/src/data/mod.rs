//! The two image streams, and the batches that each step takes from them, fetched ahead of time.
//!
//! Every draw (which row, which timestep, which noise) is a function of (seed, stream, position). Positions are
//! counted over the global batch, so ranks and accumulation only divide the same sequence.
//!
//! Shapes: b batch, (c, h, w) a latent, p CLIP's projection.

mod class_means;
pub mod references;
pub mod step_schedule;
pub mod trajectories;

use std::collections::BTreeSet;
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::Arc;

use dataloader::{Dataset, Filter, RowRef, Sampler, Stream};
use diffusion::losses::directional::{normalise, Directional};
use diffusion::noise;
use emotions::Emotion;
use half::f16;
use tch::{Device, Kind, Tensor};

use crate::config::resolved::Resolved;
use crate::data::references::{Place, References};
use crate::data::step_schedule::{ScheduledStep, StepSchedule};
use crate::data::trajectories::Trajectories;
use crate::failure::{input, refuse};

/// Batches that are fetched ahead of the current step.
const AHEAD: usize = 2;

/// The rows of one emotion's sources, in a seeded order.
pub struct Sources {
    stream: Arc<Stream>,
    chosen: Vec<usize>,
    sampler: Sampler,
}

impl Sources {
    fn new(recipe: &Resolved, dataset: Arc<Dataset>, emotion: Emotion) -> anyhow::Result<Self> {
        let section = &recipe.config.data.sources;
        let mut filter = section.filter.clone();
        if !section.include_target_emotion {
            filter.without_emotion = Some(emotion);
        }
        let seed = stream_seed(recipe, "sources", emotion);
        let stream = Arc::new(input(Stream::new(dataset, &filter, seed))?);
        let count = stream.rows().len();
        let mut chosen: Vec<usize> = match section.limit {
            Some(limit) if limit < count => (0..limit as u64).map(|p| stream.sample(p)).collect(),
            _ => (0..count).collect(),
        };
        chosen.sort_unstable();
        let emotions: Vec<Option<Emotion>> = chosen.iter().map(|&k| stream.rows()[k].emotion).collect();
        let sampler = input(Sampler::new(seed, &emotions, &section.sampling))?;
        Ok(Self { stream, chosen, sampler })
    }

    /// Every row that takes part.
    pub fn rows(&self) -> Vec<(&Stream, &RowRef)> {
        self.chosen.iter().map(|&k| (self.stream.as_ref(), &self.stream.rows()[k])).collect()
    }

    /// The rows at the first `positions` positions, each listed once.
    pub fn visited(&self, positions: u64) -> Vec<(&Stream, &RowRef)> {
        let mut seen = BTreeSet::new();
        for position in 0..positions {
            seen.insert(self.sampler.sample(position));
            if seen.len() == self.chosen.len() {
                break;
            }
        }
        seen.into_iter().map(|k| (self.stream.as_ref(), &self.stream.rows()[self.chosen[k]])).collect()
    }

    fn at(&self, position: u64) -> &RowRef {
        &self.stream.rows()[self.chosen[self.sampler.sample(position)]]
    }
}

/// Both streams for each emotion.
pub struct Data {
    /// The sources' data set.
    pub source_set: Arc<Dataset>,
    /// What is edited, for each emotion.
    pub sources: Vec<Arc<Sources>>,
    /// The images of each emotion, where they are needed.
    pub images: Vec<Arc<Stream>>,
    image_set: Option<(Arc<Dataset>, Filter)>,
}

impl Data {
    /// Opens the data sets, checks that this VAE made them, and filters their rows.
    pub fn open(recipe: &Resolved, vae_hash: &str) -> anyhow::Result<Self> {
        let section = &recipe.config.data;
        let open = |shards: &str| -> anyhow::Result<Arc<Dataset>> {
            let dataset = input(Dataset::open_with(shards, &recipe.config.store))?;
            input(dataset.check_vae(vae_hash))?;
            Ok(Arc::new(dataset))
        };
        let source_set = open(&section.sources.shards)?;
        let emotions = &recipe.config.emotions;
        let sources = |e: &Emotion| Ok(Arc::new(Sources::new(recipe, source_set.clone(), *e)?));
        let sources = emotions.iter().map(sources).collect::<anyhow::Result<Vec<_>>>()?;
        let mut data = Self { source_set: source_set.clone(), sources, images: Vec::new(), image_set: None };
        if let Some(images) = section.emotion_images.as_ref().filter(|_| recipe.needs_emotion_images()) {
            let same = images.shards == section.sources.shards;
            let set = if same { source_set } else { open(&images.shards)? };
            for &emotion in emotions {
                let filter = Filter { emotions: vec![emotion], ..images.filter.clone() };
                let seed = stream_seed(recipe, "images", emotion);
                data.images.push(Arc::new(input(Stream::new(set.clone(), &filter, seed))?));
            }
            data.image_set = Some((set, images.filter.clone()));
        }
        Ok(data)
    }

    /// Side of the sources in pixels.
    pub fn resolution(&self) -> u32 {
        self.source_set.manifest().transform.resolution
    }

    /// Sources that training never sees: validation edits them towards emotion number `k`.
    pub fn held_out(&self, recipe: &Resolved, k: usize) -> dataloader::Result<Stream> {
        let section = &recipe.config.data.sources;
        let mut filter = Filter { split: Some(recipe.config.validation.split.clone()), ..section.filter.clone() };
        if !section.include_target_emotion {
            filter.without_emotion = Some(recipe.config.emotions[k]);
        }
        Stream::new(self.source_set.clone(), &filter, stream_seed(recipe, "held out", recipe.config.emotions[k]))
    }

    /// Refuses data sets whose image embeddings were made by a CLIP with another hash.
    pub fn check_clip(&self, clip_hash: &str) -> anyhow::Result<()> {
        let sets = [Some(&self.source_set), self.image_set.as_ref().map(|(set, _)| set)];
        for set in sets.into_iter().flatten() {
            match &set.manifest().clip {
                Some(clip) if clip.hash == clip_hash => {}
                found => {
                    let holds = found.as_ref().map_or("none".to_string(), |c| format!("those of {}", c.name));
                    return Err(refuse(format!(
                        "{}: needs the image embeddings of model.clip, and holds {holds}; re-run `dataloader shard` \
                         with this CLIP",
                        set.url()
                    )));
                }
            }
        }
        Ok(())
    }
}

fn stream_seed(recipe: &Resolved, stream: &str, emotion: Emotion) -> u64 {
    noise::below(recipe.config.train.seed, &format!("order/{stream}/{emotion}"), 0, u64::MAX)
}

/// A row's stored CLIP embedding, normalised, (p).
fn photo_embedding(stream: &Stream, row: &RowRef) -> anyhow::Result<Tensor> {
    let Some(embedding) = stream.clip_embedding(row)? else {
        return Err(refuse(format!("{}: no CLIP embedding is stored with it", row.path)));
    };
    Ok(normalise(&Tensor::from_slice(&embedding)))
}

/// Sources of one micro-batch.
pub struct SourceBatch {
    /// Each sample's timestep index.
    pub timestep_indices: Vec<usize>,
    /// The recorded z there, (b, c, h, w).
    pub latent: Tensor,
    /// The recorded z one timestep below.
    pub below: Tensor,
    /// The UNet's recorded output at z.
    pub output: Tensor,
    /// What CLIP sees of the sources (b, p), if it is known beforehand: the photos, or for the target form the
    /// decoded P_t of the inversion's own ε.
    pub seen: Option<Tensor>,
}

/// Emotion images of one micro-batch.
pub struct ImageBatch {
    /// Scaled latents, sampled from the posterior, flipped or not, (b, c, h, w).
    pub latent: Tensor,
    /// The noise that the network has to predict.
    pub noise: Tensor,
    /// Each sample's timestep.
    pub timesteps: Vec<i64>,
    /// Each sample's prompt, an index into the denoising prompts.
    pub prompts: Vec<usize>,
}

/// What one rank sees in one micro-batch.
pub struct MicroBatch {
    /// For the edit.
    pub sources: Option<SourceBatch>,
    /// For the tokens.
    pub images: Option<ImageBatch>,
}

/// What one rank sees in one optimiser step.
pub struct StepBatch {
    /// Index of the emotion.
    pub emotion: usize,
    /// Whether the sources come fresh from their inversion.
    pub fresh: bool,
    /// In order.
    pub micro: Vec<MicroBatch>,
}

impl StepBatch {
    fn tensors(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.micro.iter_mut().flat_map(|micro| {
            let sources = micro.sources.iter_mut().flat_map(|SourceBatch { latent, below, output, seen, .. }| {
                [latent, below, output].into_iter().chain(seen)
            });
            let images = micro.images.iter_mut().flat_map(|ImageBatch { latent, noise, .. }| [latent, noise]);
            sources.chain(images)
        })
    }
}

/// Makes any step's batches; everything in it is shared with the thread that fetches ahead.
#[derive(Clone)]
pub struct Loader {
    /// The plan of all steps.
    pub step_schedule: StepSchedule,
    /// The recipe.
    pub recipe: Arc<Resolved>,
    /// The streams.
    pub data: Arc<Data>,
    /// The inversions.
    pub trajectories: Trajectories,
    /// What CLIP sees of them, where no step changes it.
    pub references: Option<References>,
    /// Factor from VAE latents to the UNet's.
    pub scaling_factor: f64,
    /// T of the schedule.
    pub num_train_timesteps: i64,
    /// This rank and the number of ranks.
    pub rank: (usize, usize),
}

impl Loader {
    /// Steps `first..last` in order, fetched on another thread. The channel closes at the end or after an error. If
    /// `device` is a GPU, the batches lie in pinned memory, so that they are copied while it computes.
    pub fn prefetch(self, first: u64, last: u64, device: Device) -> Receiver<anyhow::Result<StepBatch>> {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            for step in first..last {
                let mut batch = self.step(step);
                if let (Ok(batch), true) = (&mut batch, device.is_cuda()) {
                    batch.tensors().for_each(|tensor| *tensor = tensor.pin_memory(device));
                }
                let failed = batch.is_err();
                // The receiver is gone once the run has ended.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }

    fn step(&self, step: u64) -> anyhow::Result<StepBatch> {
        let scheduled = self.step_schedule.of(step);
        let (size, pieces) = (self.recipe.micro_batch_size() as u64, self.recipe.micro_batches() as u64);
        let (rank, world_size) = (self.rank.0 as u64, self.rank.1 as u64);
        let global = size * pieces * world_size;
        let micro = |a: u64| {
            let offset = (rank * pieces + a) * size;
            let positions = |batch: u64| (batch * global + offset..batch * global + offset + size).collect::<Vec<_>>();
            let recipe = &self.recipe;
            let needs = (recipe.needs_sources(), recipe.needs_denoising() || recipe.needs_delta_denoising());
            Ok(MicroBatch {
                sources: needs.0.then(|| self.sources(&scheduled, &positions(scheduled.source_batch))).transpose()?,
                images: needs.1.then(|| self.images(&scheduled, &positions(scheduled.image_batch))).transpose()?,
            })
        };
        let micro = (0..pieces).map(micro).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(StepBatch { emotion: scheduled.emotion, fresh: scheduled.fresh, micro })
    }

    fn sources(&self, scheduled: &ScheduledStep, positions: &[u64]) -> anyhow::Result<SourceBatch> {
        let stream = &self.data.sources[scheduled.emotion].stream;
        let (rows, timestep_indices): (Vec<&RowRef>, Vec<usize>) =
            positions.iter().map(|&p| self.place(scheduled, p)).unzip();
        let ids: Vec<&str> = rows.iter().map(|row| row.image_id.as_str()).collect();
        let [latent, below, output] = self.trajectories.at_timesteps(&ids, &timestep_indices)?;
        let loss = &self.recipe.config.loss;
        let seen = match &self.references {
            Some(references) => {
                Some(references.rows(&ids.into_iter().zip(timestep_indices.iter().copied()).collect::<Vec<_>>())?)
            }
            None if self.recipe.needs_directions() && loss.directional != Directional::Target => {
                let photos = rows.iter().map(|row| photo_embedding(stream, row));
                Some(Tensor::stack(&photos.collect::<anyhow::Result<Vec<_>>>()?, 0))
            }
            None => None,
        };
        Ok(SourceBatch { timestep_indices, latent, below, output, seen })
    }

    /// The source at a position, and its timestep index.
    fn place(&self, scheduled: &ScheduledStep, position: u64) -> (&RowRef, usize) {
        let (seed, emotion) = (self.recipe.config.train.seed, &self.recipe.names[scheduled.emotion]);
        let drawn = || {
            let choices = &self.step_schedule.timestep_indices;
            choices[noise::below(seed, &format!("rung/{emotion}"), position, choices.len() as u64) as usize]
        };
        (self.data.sources[scheduled.emotion].at(position), scheduled.timestep_index.unwrap_or_else(drawn))
    }

    /// Every pair of source and timestep that the steps `first..last` see, on any rank.
    pub fn places(&self, first: u64, last: u64) -> Vec<Place<'_>> {
        let global = self.recipe.global_batch(self.rank.1) as u64;
        let of_step = |step: u64| {
            let scheduled = self.step_schedule.of(step);
            let positions = scheduled.source_batch * global..(scheduled.source_batch + 1) * global;
            positions
                .map(move |p| self.place(&scheduled, p))
                .map(|(row, timestep_index)| (row.image_id.as_str(), timestep_index))
        };
        (first..last).flat_map(of_step).collect()
    }

    fn images(&self, scheduled: &ScheduledStep, positions: &[u64]) -> anyhow::Result<ImageBatch> {
        let (seed, emotion) = (self.recipe.config.train.seed, &self.recipe.names[scheduled.emotion]);
        let shape = self.latent_shape();
        // Without tokens there are no prompts to draw from.
        let prompts = (self.recipe.prompts[scheduled.emotion].len() as u64).saturating_sub(1).max(1);
        let draw = |stream: &str, p: u64, bound: u64| noise::below(seed, &format!("{stream}/{emotion}"), p, bound);
        let normal = |stream: &str, p: u64| noise::normal(seed, &format!("{stream}/{emotion}"), p, &shape);
        let normals =
            |stream: &str| Tensor::stack(&positions.iter().map(|&p| normal(stream, p)).collect::<Vec<_>>(), 0);
        let mirrored: Vec<bool> = positions.iter().map(|&p| draw("flip", p, 2) == 1).collect();
        let mirrored = Tensor::from_slice(&mirrored).view([-1, 1, 1, 1]);
        let encodings = self.data.images[scheduled.emotion].encodings(positions)?;
        let column = |values: &[f16]| {
            Tensor::from_slice(values).to_kind(Kind::Float).view([[-1].as_slice(), &shape].concat().as_slice())
        };
        let either = |plain: &[f16], flip: &[f16]| column(flip).where_self(&mirrored, &column(plain));
        let mean = either(&encodings.latent_mean, &encodings.flip_mean);
        let std = either(&encodings.latent_std, &encodings.flip_std);
        Ok(ImageBatch {
            latent: (mean + std * normals("posterior")) * self.scaling_factor,
            noise: normals("noise"),
            timesteps: positions.iter().map(|&p| draw("timestep", p, self.num_train_timesteps as u64) as i64).collect(),
            prompts: positions.iter().map(|&p| draw("prompt", p, prompts) as usize).collect(),
        })
    }

    fn latent_shape(&self) -> [i64; 3] {
        let latent = &self.data.source_set.manifest().latent;
        [latent.channels.into(), latent.height.into(), latent.width.into()]
    }
}
