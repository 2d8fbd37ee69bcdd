//! Filling the cache of references before the first step, shared among the processes of each machine.
//!
//! Shapes: b batch, p CLIP's projection, (c, h, w) a latent.

use diffusion::process::ddim::{alpha_bars, predicted_clean, Ladder};
use tch::{Device, Tensor};

use crate::ground::Ground;
use crate::models::Models;
use crate::progress::Progress;
use crate::references::{Place, References};

/// Makes what is missing of `places` and remakes what is damaged; the processes of each machine share the work.
pub fn fill(ground: &Ground<'_>, references: &References, places: &[Place<'_>]) -> anyhow::Result<()> {
    let world = ground.world;
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let missing: Vec<Place<'_>> = places.into_iter().filter(|place| !references.has(*place)).collect();
    // What is missing must be the same to all before anyone begins to fill it.
    world.barrier()?;
    let blocks: Vec<_> = missing.chunks(references.block()).collect();
    let rounds = world.max(blocks.len().div_ceil(world.local_size) as u64)? as usize;
    let visible = world.is_first() && !missing.is_empty();
    let mut progress = Progress::new("embedding sources", "images", 0, missing.len() as u64, visible);
    for round in 0..rounds {
        ground.stop.check()?;
        if let Some(block) = blocks.get(round * world.local_size + world.local_rank) {
            make(ground, references, block)?;
        }
        world.barrier()?;
        progress.set(((round + 1) * world.local_size * references.block()).min(missing.len()) as u64, "");
    }
    Ok(())
}

fn make(ground: &Ground<'_>, references: &References, block: &[Place<'_>]) -> anyhow::Result<()> {
    let _no_grad = tch::no_grad_guard();
    let Ground { models, ladder, trajectories, .. } = *ground;
    // A block that is not full is filled up with its first place.
    let full = (0..references.block()).map(|k| block.get(k).unwrap_or(&block[0]));
    let (ids, rungs): (Vec<&str>, Vec<usize>) = full.copied().unzip();
    let [latent, _, noise] = trajectories.rungs(&ids, &rungs)?.map(|t| t.to_device(models.device));
    let embed = || embeddings(models, ladder, &rungs, &latent, &noise);
    let made = collective::autocast(models.device, models.kind, embed).to_device(Device::Cpu);
    block.iter().enumerate().try_for_each(|(k, &place)| references.keep(place, &made.get(k as i64)))
}

/// P_t of the inversion's own ε, decoded and embedded before normalisation, (b, p).
fn embeddings(models: &Models, ladder: &Ladder, rungs: &[usize], latent: &Tensor, noise: &Tensor) -> Tensor {
    let timesteps: Vec<i64> = rungs.iter().map(|&k| ladder.timesteps()[k]).collect();
    let here = alpha_bars(&models.pipeline.schedule, &timesteps, models.device);
    models.embed_preview(&predicted_clean(latent, noise, &here))
}
