//! The sources' inversions: what `dataloader invert` made, and a pool to which every run on the same weights adds.
//!
//! Shapes: n timesteps, b batch, (c, h, w) a latent.

use std::path::Path;
use std::sync::Arc;

use dataloader::format::manifest::Inversion;
use dataloader::inversions::columns::{inversions_batch, Inverted};
use dataloader::inversions::pool::{Key, Layout, Pool};
use dataloader::inversions::recording::{Recorded, Recording};
use dataloader::{Inversions, Manifest};
use diffusion::pipeline::Hashes;
use diffusion::process::ddim::{InversionSchedule, Trajectory};
use diffusion::process::schedule::Schedule;
use tch::{Device, Tensor};

use crate::config::resolved::Resolved;
use crate::failure::input;

/// A number of the pool's format: what lies in the folder of another is not read.
const FORMAT: u32 = 3;

/// The inversions of one data set under one set of weights: those of `dataloader invert`, and a pool of the rest.
#[derive(Clone, Debug)]
pub struct Trajectories {
    made: Option<Arc<Inversions>>,
    pool: Arc<Pool>,
    recording: Arc<Recording>,
}

impl Trajectories {
    /// Those for these weights, prompt, timesteps and images. Refuses a data set that was made with others.
    pub fn open(
        recipe: &Resolved, hashes: &Hashes, schedule: &Schedule, inversion_schedule: &InversionSchedule,
        sources: &Manifest,
    ) -> anyhow::Result<Self> {
        let config = &recipe.config;
        let inversion =
            Inversion::new(hashes, schedule, inversion_schedule, &config.prompts.source, config.train.mixed_precision);
        let made = match &config.data.sources.inversions {
            None => None,
            Some(url) => {
                let made = input(Inversions::open(url, &config.store))?;
                input(made.check(&inversion, sources))?;
                Some(Arc::new(made))
            }
        };
        let latent = &sources.latent;
        let key = serde_json::json!([FORMAT, inversion, sources.transform, sources.vae.hash, latent]);
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        let folder = config.data.sources.trajectories.join(&hash[..16]);
        let recording = Recording { latent: latent.clone(), steps: inversion.steps };
        let pool = Pool::open(&folder, Layout::inversions(latent, recording.num_timesteps()))?;
        Ok(Self { made, pool: Arc::new(pool), recording: Arc::new(recording) })
    }

    /// How many of `ids` the data set of `dataloader invert` has.
    pub fn count_made<'a>(&self, ids: impl Iterator<Item = &'a str>) -> usize {
        ids.filter(|id| self.made(id).is_some()).count()
    }

    fn made(&self, id: &str) -> Option<&Inversions> {
        self.made.as_deref().filter(|made| made.has(id))
    }

    /// For source `ids[i]` at timestep index `timestep_indices[i]`, which is above 0: z, z one timestep below, and the
    /// UNet's output; (b, c, h, w) each.
    pub fn at_timesteps(&self, ids: &[&str], timestep_indices: &[usize]) -> anyhow::Result<[Tensor; 3]> {
        let found = self.recording.at_timesteps(timestep_indices, |i, last| self.read(ids[i], last))?;
        let latent = &self.recording.latent;
        let shape = [ids.len() as i64, latent.channels.into(), latent.height.into(), latent.width.into()];
        Ok([found.latent, found.below, found.output].map(|numbers| Tensor::from_slice(&numbers).view(shape)))
    }

    /// The whole inversions of `ids`, on `device`.
    pub fn whole(&self, ids: &[&str], device: Device) -> anyhow::Result<Trajectory> {
        let (num, latent) = (self.recording.num_timesteps(), &self.recording.latent);
        let shape = [num as i64, latent.channels.into(), latent.height.into(), latent.width.into()];
        let (mut latents, mut outputs) = (Vec::new(), Vec::new());
        for id in ids {
            let whole = self.recording.whole(&self.read(id, num - 1)?);
            latents.push(Tensor::from_slice(&whole.latents).view(shape));
            outputs.push(Tensor::from_slice(&whole.outputs).view(shape));
        }
        let stack = |of: &[Tensor]| Tensor::stack(of, 1).to_device(device);
        Ok(Trajectory { latents: stack(&latents), outputs: stack(&outputs) })
    }

    /// A source's inversion up to timestep index `last`.
    fn read(&self, id: &str, last: usize) -> dataloader::Result<Recorded> {
        match self.made(id) {
            Some(made) => made.read(id, last),
            None => self.pool.read(&key(id), |file, row| self.recording.read(file, row, last)),
        }
    }

    /// Whether this source's inversion was there when this process last looked.
    pub fn has(&self, id: &str) -> bool {
        self.made(id).is_some() || self.pool.has(&key(id))
    }

    /// The pool for these weights, prompt, timesteps and images.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The pool's folder.
    pub fn folder(&self) -> &Path {
        self.pool.folder()
    }

    /// Bytes of one source's inversion.
    pub fn bytes_each(&self) -> u64 {
        ((self.recording.num_timesteps() + 1) * self.recording.latent.len() * 2) as u64
    }

    /// Adds inversions to the pool.
    pub fn keep(&self, rows: &[Inverted]) -> anyhow::Result<()> {
        Ok(self.pool.publish(&inversions_batch(self.pool.schema(), rows)?)?)
    }
}

fn key(id: &str) -> Key {
    Key { image_id: id.into(), timestep: None }
}
