//! Filling the pool of inversions before the first step.

use std::collections::BTreeMap;

use dataloader::inversions::job::Inverter;
use dataloader::{RowRef, Stream};

use crate::precompute::workers::{Task, Workers};
use crate::run::context::RunContext;

/// Makes the inversions of `sources` that are missing.
pub fn fill(run: &RunContext<'_>, sources: &[(&Stream, &RowRef)]) -> anyhow::Result<()> {
    let trajectories = run.trajectories;
    let unique: BTreeMap<&str, (&Stream, &RowRef)> = sources.iter().map(|&s| (s.1.image_id.as_str(), s)).collect();
    let unique: Vec<(&Stream, &RowRef)> = unique.into_values().collect();
    let block = run.recipe.config.data.sources.inversion_batch_size;
    let is_there = |(_, row): (&Stream, &RowRef)| trajectories.has(&row.image_id);
    let workers = Workers::of(run.world, trajectories.folder())?;
    let task = Task { name: "inverting", pool: trajectories.pool(), items: &unique, block };
    workers.fill(run, task, is_there, |block| invert(run, block))
}

fn invert(run: &RunContext<'_>, sources: &[(&Stream, &RowRef)]) -> anyhow::Result<()> {
    let (models, config) = (run.models, &run.recipe.config);
    let image = |(stream, row): &(&Stream, &RowRef)| {
        Ok((row.image_id.clone(), row.split.clone(), stream.encoding(row)?.latent_mean))
    };
    let images = sources.iter().map(image).collect::<anyhow::Result<Vec<_>>>()?;
    let inverter = Inverter {
        pipeline: &models.pipeline,
        inversion_schedule: run.inversion_schedule,
        prompt: &config.prompts.source,
        precision: config.train.mixed_precision,
        batch_size: config.data.sources.inversion_batch_size,
        device: models.device,
    };
    run.trajectories.keep(&inverter.invert(images, &run.data.source_set.manifest().latent))
}
