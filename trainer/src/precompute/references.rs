//! Filling the cache of CLIP references before the first step; the processes of each machine share the work.
//!
//! Shapes: b batch, p CLIP's projection, (c, h, w) a latent.

use diffusion::process::ddim::Ladder;
use tch::{Device, Tensor};

use crate::data::references::{Place, References};
use crate::precompute::in_blocks;
use crate::run::context::Ground;
use crate::run::models::Models;

/// Makes the embeddings of `places` that are missing or damaged.
pub fn fill(ground: &Ground<'_>, references: &References, places: &[Place<'_>]) -> anyhow::Result<()> {
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let missing: Vec<Place<'_>> = places.into_iter().filter(|place| !references.has(*place)).collect();
    in_blocks(ground, "embedding sources", &missing, references.block(), |block| make(ground, references, block))
}

fn make(ground: &Ground<'_>, references: &References, block: &[Place<'_>]) -> anyhow::Result<()> {
    let _no_grad = tch::no_grad_guard();
    let Ground { models, ladder, trajectories, .. } = *ground;
    // A block that is not full is filled up with its first entry.
    let full = (0..references.block()).map(|k| block.get(k).unwrap_or(&block[0]));
    let (ids, rungs): (Vec<&str>, Vec<usize>) = full.copied().unzip();
    let [latent, _, output] = trajectories.rungs(&ids, &rungs)?.map(|t| t.to_device(models.device));
    let embed = || embeddings(models, ladder, &rungs, &latent, &output);
    let made = collective::autocast(models.device, models.kind, embed).to_device(Device::Cpu);
    block.iter().enumerate().try_for_each(|(k, &place)| references.keep(place, &made.get(k as i64)))
}

/// P_t of the inversion's own output, decoded and embedded, not normalised, (b, p).
fn embeddings(models: &Models, ladder: &Ladder, rungs: &[usize], latent: &Tensor, output: &Tensor) -> Tensor {
    let timesteps: Vec<i64> = rungs.iter().map(|&k| ladder.timesteps()[k]).collect();
    models.embed_preview(&models.pipeline.schedule.clean_from_output(output, latent, &timesteps))
}
