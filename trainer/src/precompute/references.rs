//! Filling the pool of CLIP references before the first step.
//!
//! Shapes: b batch, p CLIP's projection, (c, h, w) a latent.

use diffusion::process::ddim::InversionSchedule;
use tch::Tensor;

use crate::data::references::{Place, References};
use crate::precompute::workers::{Task, Workers};
use crate::run::context::RunContext;
use crate::run::models::Models;

/// Images embedded at once. Always as many, because a network's rounding may depend on it, and few, because a VAE's
/// decoder takes a gigabyte for each at 512 px.
const AT_ONCE: usize = 4;

/// Embeddings stored as one file, until it is merged with others.
const PLACES_A_FILE: usize = 64;

/// Makes the embeddings of `places` that are missing.
pub fn fill(run: &RunContext<'_>, references: &References, places: &[Place<'_>]) -> anyhow::Result<()> {
    let mut places = places.to_vec();
    places.sort_unstable();
    places.dedup();
    let workers = Workers::of(run.world, references.pool().folder())?;
    let is_there = |place: Place<'_>| references.has(place);
    let work = |places: &[Place<'_>]| embed(run, references, places);
    let task = Task { name: "embedding sources", pool: references.pool(), items: &places, block: PLACES_A_FILE };
    workers.fill(run, task, is_there, work)
}

/// Embeds `places`, some at a time, and stores them together.
fn embed(run: &RunContext<'_>, references: &References, places: &[Place<'_>]) -> anyhow::Result<()> {
    let made: Vec<Tensor> = places.chunks(AT_ONCE).map(|few| make(run, few)).collect::<anyhow::Result<_>>()?;
    references.keep(places, &Tensor::cat(&made, 0))
}

/// The embeddings of at most [`AT_ONCE`] places, (b, p).
fn make(run: &RunContext<'_>, places: &[Place<'_>]) -> anyhow::Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let RunContext { models, inversion_schedule, trajectories, .. } = *run;
    // A batch that is not full is filled up with its first entry.
    let full = (0..AT_ONCE).map(|k| places.get(k).unwrap_or(&places[0]));
    let (ids, timestep_indices): (Vec<&str>, Vec<usize>) = full.copied().unzip();
    let [latent, _, output] = trajectories.at_timesteps(&ids, &timestep_indices)?.map(|t| t.to_device(models.device));
    let embed = || embeddings(models, inversion_schedule, &timestep_indices, &latent, &output);
    Ok(collective::autocast(models.device, models.kind, embed).narrow(0, 0, places.len() as i64))
}

/// P_t of the inversion's own output, decoded and embedded, not normalised, (b, p).
fn embeddings(
    models: &Models, inversion_schedule: &InversionSchedule, timestep_indices: &[usize], latent: &Tensor,
    output: &Tensor,
) -> Tensor {
    let timesteps: Vec<i64> = timestep_indices.iter().map(|&k| inversion_schedule.timesteps()[k]).collect();
    models.embed_preview(&models.pipeline.schedule.clean_from_output(output, latent, &timesteps))
}
