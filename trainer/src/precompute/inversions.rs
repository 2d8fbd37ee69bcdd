//! Filling the cache of inversions before the first step; the processes of each machine share the work.

use std::collections::BTreeMap;

use dataloader::inversions::job::Inverter;
use dataloader::{RowRef, Stream};
use program::Progress;

use crate::precompute::in_blocks;
use crate::run::context::RunContext;

/// Files checked between two synchronisations of the ranks, so that none waits long for another.
const CHECKED_AT_ONCE: usize = 64;

/// Makes the inversions of `sources` that are missing or damaged.
pub fn fill(run: &RunContext<'_>, sources: &[(&Stream, &RowRef)]) -> anyhow::Result<()> {
    let trajectories = run.trajectories;
    trajectories.open_cache()?;
    let unique: BTreeMap<&str, &(&Stream, &RowRef)> = sources.iter().map(|s| (s.1.image_id.as_str(), s)).collect();
    drop_damaged(run, &unique.keys().copied().collect::<Vec<_>>())?;
    let missing: Vec<_> = unique.iter().filter(|(id, _)| !trajectories.has(id)).map(|(_, &source)| source).collect();
    let block = run.recipe.config.data.sources.inversion_batch_size;
    in_blocks(run, "inverting", &missing, block, |sources| invert_block(run, sources, block))
}

fn drop_damaged(run: &RunContext<'_>, ids: &[&str]) -> anyhow::Result<()> {
    let RunContext { trajectories, world, .. } = *run;
    let mine: Vec<&&str> = ids.iter().skip(world.local_rank).step_by(world.local_size).collect();
    let rounds = world.max(mine.len().div_ceil(CHECKED_AT_ONCE) as u64)? as usize;
    let progress = Progress::new("checking inversions", "files", mine.len() as u64, world.is_first());
    for round in 0..rounds {
        progress.set((round * CHECKED_AT_ONCE) as u64);
        let mut few = mine.iter().skip(round * CHECKED_AT_ONCE).take(CHECKED_AT_ONCE);
        few.try_for_each(|id| trajectories.drop_damaged(id))?;
        world.barrier()?;
    }
    Ok(())
}

fn invert_block(run: &RunContext<'_>, sources: &[&(&Stream, &RowRef)], size: usize) -> anyhow::Result<()> {
    let (models, config) = (run.models, &run.recipe.config);
    let latents = sources.iter().map(|(stream, row)| Ok(stream.encoding(row)?.latent_mean));
    let latents = latents.collect::<anyhow::Result<Vec<_>>>()?;
    let inverter = Inverter {
        pipeline: &models.pipeline,
        inversion_schedule: run.inversion_schedule,
        prompt: &config.prompts.source,
        precision: config.train.mixed_precision,
        batch_size: size,
        device: models.device,
    };
    let batch = inverter.invert(&latents, &run.data.source_set.manifest().latent);
    sources.iter().enumerate().try_for_each(|(k, (_, row))| run.trajectories.keep(&row.image_id, &batch, k))
}
