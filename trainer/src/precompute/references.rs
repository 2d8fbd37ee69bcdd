//! Filling the cache of CLIP references before the first step; the processes of each machine share the work.
//!
//! Shapes: b batch, p CLIP's projection, (c, h, w) a latent.

use diffusion::process::ddim::InversionSchedule;
use tch::{Device, Tensor};

use crate::data::references::{Place, References};
use crate::precompute::in_blocks;
use crate::run::context::RunContext;
use crate::run::models::Models;

/// Makes the embeddings of `places` that are missing or damaged.
pub fn fill(run: &RunContext<'_>, references: &References, places: &[Place<'_>]) -> anyhow::Result<()> {
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let missing: Vec<Place<'_>> = places.into_iter().filter(|place| !references.has(*place)).collect();
    in_blocks(run, "embedding sources", &missing, references.block(), |block| make(run, references, block))
}

fn make(run: &RunContext<'_>, references: &References, block: &[Place<'_>]) -> anyhow::Result<()> {
    let _no_grad = tch::no_grad_guard();
    let RunContext { models, inversion_schedule, trajectories, .. } = *run;
    // A block that is not full is filled up with its first entry.
    let full = (0..references.block()).map(|k| block.get(k).unwrap_or(&block[0]));
    let (ids, timestep_indices): (Vec<&str>, Vec<usize>) = full.copied().unzip();
    let [latent, _, output] = trajectories.at_timesteps(&ids, &timestep_indices)?.map(|t| t.to_device(models.device));
    let embed = || embeddings(models, inversion_schedule, &timestep_indices, &latent, &output);
    let made = collective::autocast(models.device, models.kind, embed).to_device(Device::Cpu);
    block.iter().enumerate().try_for_each(|(k, &place)| references.keep(place, &made.get(k as i64)))
}

/// P_t of the inversion's own output, decoded and embedded, not normalised, (b, p).
fn embeddings(
    models: &Models, inversion_schedule: &InversionSchedule, timestep_indices: &[usize], latent: &Tensor,
    output: &Tensor,
) -> Tensor {
    let timesteps: Vec<i64> = timestep_indices.iter().map(|&k| inversion_schedule.timesteps()[k]).collect();
    models.embed_preview(&models.pipeline.schedule.clean_from_output(output, latent, &timesteps))
}
