//! The sources' inversions: a local cache shared by every run on the same weights, filled by all processes of a
//! machine.
//!
//! Shapes: n rungs, b batch, (c, h, w) a latent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use dataloader::{Dataset, Row, RowRef, Stream};
use diffusion::process::ddim::{invert, Ladder, Trajectory};
use diffusion::tokens::Prompt;
use tch::{Device, Kind, Tensor};

use crate::ground::Ground;
use crate::models::Models;
use crate::progress::Progress;
use crate::resolved::Resolved;
use crate::trajectory_file as file;
use crate::world::World;

/// Files checked between two meetings of the ranks, so that none waits long for another.
const CHECKED_AT_ONCE: usize = 64;

/// The inversions of one data set under one set of weights.
#[derive(Clone, Debug)]
pub struct Trajectories {
    folder: PathBuf,
    shape: Vec<i64>, // (n, c, h, w)
}

impl Trajectories {
    /// The cache's part for these weights, prompt, ladder and images.
    pub fn new(recipe: &Resolved, models: &Models, ladder: &Ladder, sources: &Dataset) -> Self {
        let manifest = sources.manifest();
        let latent = &manifest.latent;
        let timesteps = ladder.timesteps();
        let alpha_bars: Vec<f64> = timesteps.iter().map(|&t| models.pipeline.schedule.alpha_bar(t)).collect();
        let key = serde_json::json!({
            "hashes": models.pipeline.hashes, "prompt": recipe.config.prompts.source, "timesteps": timesteps,
            "alpha_bars": alpha_bars, "prediction": format!("{:?}", models.pipeline.schedule.prediction()),
            "kind": format!("{:?}", models.kind), "transform": manifest.transform, "vae": manifest.vae.hash,
            "scale": models.pipeline.vae.scaling_factor(),
        });
        let hash = blake3::hash(key.to_string().as_bytes()).to_hex();
        let shape = [timesteps.len() as i64, latent.channels.into(), latent.height.into(), latent.width.into()];
        Self { folder: recipe.config.data.sources.trajectories.join(&hash[..16]), shape: shape.to_vec() }
    }

    /// Rung `rungs[i]` of source `ids[i]`: z there, z one rung below, ε there; (b, c, h, w) each.
    pub fn rungs(&self, ids: &[&str], rungs: &[usize]) -> anyhow::Result<[Tensor; 3]> {
        let (mut here, mut below, mut noise) = (Vec::new(), Vec::new(), Vec::new());
        for (id, &k) in ids.iter().zip(rungs) {
            let (z, e) = file::read_rung(&self.path(id), &self.shape, k)?;
            here.push(z);
            noise.push(e);
            below.push(file::read_rung(&self.path(id), &self.shape, k - 1)?.0);
        }
        Ok([Tensor::stack(&here, 0), Tensor::stack(&below, 0), Tensor::stack(&noise, 0)])
    }

    /// The whole inversions of `ids`, on `device`.
    pub fn whole(&self, ids: &[&str], device: Device) -> anyhow::Result<Trajectory> {
        let read = |id: &&str| file::read_all(&self.path(id));
        let (latents, noises): (Vec<_>, Vec<_>) =
            ids.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
        Ok(Trajectory {
            latents: Tensor::stack(&latents, 1).to_device(device),
            noises: Tensor::stack(&noises, 1).to_device(device),
        })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}.safetensors"))
    }

    /// Makes what is missing of `sources` and remakes what is damaged, shared among the processes of each machine.
    pub fn fill(&self, ground: &Ground<'_>, sources: &[(&Stream, &RowRef)]) -> anyhow::Result<()> {
        let world = ground.world;
        std::fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let unique: BTreeMap<&str, &(&Stream, &RowRef)> = sources.iter().map(|s| (s.1.image_id.as_str(), s)).collect();
        self.drop_damaged(&unique.keys().copied().collect::<Vec<_>>(), world)?;
        let is_missing = |id: &&str| !self.path(id).is_file();
        let missing: Vec<_> = unique.iter().filter(|(id, _)| is_missing(id)).map(|(_, &source)| source).collect();
        world.barrier()?;
        let block = ground.recipe.config.data.sources.inversion_batch_size;
        let blocks: Vec<_> = missing.chunks(block).collect();
        let rounds = world.max(blocks.len().div_ceil(world.local_size) as u64)? as usize;
        let visible = world.is_first() && !missing.is_empty();
        let mut progress = Progress::new("inverting", "images", 0, missing.len() as u64, visible);
        for round in 0..rounds {
            ground.stop.check()?;
            if let Some(sources) = blocks.get(round * world.local_size + world.local_rank) {
                self.invert_block(ground, sources, block)?;
            }
            world.barrier()?;
            progress.set(((round + 1) * world.local_size * block).min(missing.len()) as u64, "");
        }
        Ok(())
    }

    fn drop_damaged(&self, ids: &[&str], world: &World) -> anyhow::Result<()> {
        let mine: Vec<&&str> = ids.iter().skip(world.local_rank).step_by(world.local_size).collect();
        let rounds = world.max(mine.len().div_ceil(CHECKED_AT_ONCE) as u64)? as usize;
        for round in 0..rounds {
            for id in mine.iter().skip(round * CHECKED_AT_ONCE).take(CHECKED_AT_ONCE) {
                let path = self.path(id);
                if path.is_file() && !file::is_good(&path, &self.shape) {
                    tracing::warn!("{}: damaged inversion, made again", path.display());
                    std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
                }
            }
            world.barrier()?;
        }
        Ok(())
    }

    /// A block is always `size` images, the last one repeated, so that a source's bits do not depend on its company.
    fn invert_block(&self, ground: &Ground<'_>, sources: &[&(&Stream, &RowRef)], size: usize) -> anyhow::Result<()> {
        let _no_grad = tch::no_grad_guard();
        let (models, pipeline) = (ground.models, &ground.models.pipeline);
        let rows = sources.iter().map(|(stream, row)| stream.read(row)).collect::<dataloader::Result<Vec<_>>>()?;
        let latent = |k: usize| latent_tensor(&rows[k.min(rows.len() - 1)], &self.shape[1..]);
        let latents = Tensor::stack(&(0..size).map(latent).collect::<Vec<_>>(), 0).to_device(models.device);
        let scaled = latents * pipeline.vae.scaling_factor();
        let source = Prompt::plain(&pipeline.tokenizer, &ground.recipe.config.prompts.source);
        let context = pipeline.context(&source, None);
        let work = || invert(&pipeline.unet, &pipeline.schedule, ground.ladder, &scaled, &context);
        let trajectory = collective::autocast(models.device, models.kind, work);
        for (k, (_, row)) in sources.iter().enumerate() {
            let of = |tensor: &Tensor| tensor.select(1, k as i64).to_device(Device::Cpu);
            file::write(&self.path(&row.image_id), &of(&trajectory.latents), &of(&trajectory.noises))?;
        }
        Ok(())
    }
}

/// A row's posterior mean, unscaled, (c, h, w).
fn latent_tensor(row: &Row, shape: &[i64]) -> Tensor {
    Tensor::from_slice(&row.encoding.latent_mean).to_kind(Kind::Float).view(shape)
}
