//! The sources' inversions: what `dataloader invert` made, and a local cache shared by every run on the same weights.
//!
//! Shapes: n timesteps, b batch, (c, h, w) a latent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use dataloader::format::manifest::Inversion;
use dataloader::{Inversions, Manifest};
use diffusion::pipeline::Hashes;
use diffusion::process::ddim::{InversionSchedule, Trajectory};
use diffusion::process::schedule::Schedule;
use tch::{Device, Tensor};

use crate::config::resolved::Resolved;
use crate::data::trajectory_file as file;
use crate::failure::input;

/// The inversions of one data set under one set of weights: those of `dataloader invert`, and a cache for the rest.
#[derive(Clone, Debug)]
pub struct Trajectories {
    shards: Option<Arc<Inversions>>,
    folder: PathBuf,
    shape: Vec<i64>, // (n, c, h, w)
}

impl Trajectories {
    /// Those for these weights, prompt, timesteps and images. Refuses shards that were made with others.
    pub fn open(
        recipe: &Resolved, hashes: &Hashes, schedule: &Schedule, inversion_schedule: &InversionSchedule,
        sources: &Manifest,
    ) -> anyhow::Result<Self> {
        let config = &recipe.config;
        let inversion =
            Inversion::new(hashes, schedule, inversion_schedule, &config.prompts.source, config.train.mixed_precision);
        let shards = match &config.data.sources.inversions {
            None => None,
            Some(url) => {
                let shards = input(Inversions::open(url, &config.store))?;
                input(shards.check(&inversion, sources))?;
                Some(Arc::new(shards))
            }
        };
        let latent = &sources.latent;
        let key = serde_json::json!([inversion, sources.transform, sources.vae.hash, latent.scaling_factor]);
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        let num_timesteps = inversion_schedule.timesteps().len() as i64;
        let shape = vec![num_timesteps, latent.channels.into(), latent.height.into(), latent.width.into()];
        Ok(Self { shards, folder: config.data.sources.trajectories.join(&hash[..16]), shape })
    }

    /// How many of `ids` the shards have.
    pub fn count_in_shards<'a>(&self, ids: impl Iterator<Item = &'a str>) -> usize {
        ids.filter(|id| self.in_shards(id).is_some()).count()
    }

    fn in_shards(&self, id: &str) -> Option<&Inversions> {
        self.shards.as_deref().filter(|shards| shards.has(id))
    }

    /// For source `ids[i]` at timestep index `timestep_indices[i]`: z, z one timestep below, and the UNet's output; (b, c, h, w)
    /// each.
    pub fn at_timesteps(&self, ids: &[&str], timestep_indices: &[usize]) -> anyhow::Result<[Tensor; 3]> {
        let (mut here, mut below, mut output) = (Vec::new(), Vec::new(), Vec::new());
        for (id, &k) in ids.iter().zip(timestep_indices) {
            let (z, o) = self.at_timestep(id, k)?;
            here.push(z);
            output.push(o);
            below.push(self.at_timestep(id, k - 1)?.0);
        }
        Ok([Tensor::stack(&here, 0), Tensor::stack(&below, 0), Tensor::stack(&output, 0)])
    }

    /// The whole inversions of `ids`, on `device`.
    pub fn whole(&self, ids: &[&str], device: Device) -> anyhow::Result<Trajectory> {
        let read = |id: &&str| -> anyhow::Result<(Tensor, Tensor)> {
            if self.in_shards(id).is_none() {
                return file::read_all(&self.path(id));
            }
            let steps = (0..self.shape[0] as usize).map(|k| self.at_timestep(id, k));
            let (latents, outputs): (Vec<_>, Vec<_>) = steps.collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
            Ok((Tensor::stack(&latents, 0), Tensor::stack(&outputs, 0)))
        };
        let (latents, outputs): (Vec<_>, Vec<_>) =
            ids.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Trajectory {
            latents: Tensor::stack(&latents, 1).to_device(device),
            outputs: Tensor::stack(&outputs, 1).to_device(device),
        })
    }

    /// z and the UNet's output of one source at timestep index `k`, (c, h, w) each.
    fn at_timestep(&self, id: &str, k: usize) -> anyhow::Result<(Tensor, Tensor)> {
        let Some(shards) = self.in_shards(id) else { return file::read_timestep(&self.path(id), &self.shape, k) };
        let (latent, output) = shards.at_timestep(id, k)?;
        Ok((Tensor::from_slice(&latent).view(&self.shape[1..]), Tensor::from_slice(&output).view(&self.shape[1..])))
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.safetensors"))
    }

    /// Whether the cache has a file for this source, damaged or not, or the shards have it.
    pub fn has(&self, id: &str) -> bool {
        self.in_shards(id).is_some() || self.path(id).is_file()
    }

    /// The cache's folder for these weights, prompt, timesteps and images.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the cache's folder.
    pub fn open_cache(&self) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())
    }

    /// Removes a source's inversion from the cache if it is damaged.
    pub fn drop_damaged(&self, id: &str) -> anyhow::Result<()> {
        let path = self.path(id);
        let at = || path.display().to_string();
        if self.in_shards(id).is_some() || !path.is_file() || file::is_good(&path, &self.shape).with_context(at)? {
            return Ok(());
        }
        tracing::warn!("{}: damaged inversion, made again", path.display());
        match std::fs::remove_file(&path) {
            // Another run may have removed it already.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.with_context(at),
        }
    }

    /// Stores the inversion of source number `k` of a batch in the cache.
    pub fn keep(&self, id: &str, batch: &Trajectory, k: usize) -> anyhow::Result<()> {
        let of = |tensor: &Tensor| tensor.select(1, k as i64).to_device(Device::Cpu);
        file::write(&self.path(id), &of(&batch.latents), &of(&batch.outputs))
    }
}
