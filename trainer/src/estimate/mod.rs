//! `trainer estimate`: what a recipe costs, from the models' folders alone.

pub mod cost;
pub mod link;
pub mod plan;
pub mod units;

use diffusion::networks::{unet, vae};
use diffusion::pipeline::part;
use hub::Hub;

use crate::cli::Estimate;
use crate::config::resolved::Resolved;
use crate::estimate::cost::Cost;
use crate::estimate::link::scaled;
use crate::estimate::units::{bytes, flop};
use crate::failure::{input, refuse};
use crate::run::models::Folders;

/// Bytes of a summed gradient: f64.
pub const SUMMED_BYTES: u64 = 8;

/// Batch sizes whose memory is shown beside the recipe's own.
const BATCHES: [usize; 5] = [1, 2, 4, 8, 16];

/// The lines of the estimate. Images have the resolution that `options` name, by default the size that the UNet was
/// trained at.
pub fn lines(recipe: &Resolved, hub: &Hub, options: &Estimate) -> anyhow::Result<Vec<String>> {
    let folders = Folders::find(recipe, hub)?;
    let resolution = match options.resolution {
        Some(pixels) => pixels,
        None => native_resolution(&folders)?,
    };
    let cost = input(Cost::of(recipe, &folders, resolution))?;
    let train = &recipe.config.train;
    let (size, precision) = (train.mixed_precision.kind().elt_size_in_bytes(), train.mixed_precision.name());
    let mut lines = vec![
        format!("resolution     {resolution} px"),
        format!("frozen         {} parameters, {} in {precision}", cost.frozen, bytes(cost.frozen * size as u64)),
        format!(
            "learned        {} parameters, {} with gradients and moments; {} all-reduced a step",
            cost.trained,
            bytes(cost.trained * 16),
            bytes(cost.trained * SUMMED_BYTES)
        ),
    ];
    let whole: u64 = cost.pieces.iter().map(|piece| piece.macs).sum();
    for piece in &cost.pieces {
        let share = 100.0 * piece.macs as f64 / whole as f64;
        lines.push(format!(
            "work           {:<17} {:>12} an image  {share:>5.1} %",
            piece.name,
            flop(2.0 * piece.macs as f64)
        ));
    }
    let images = recipe.global_batch(1);
    lines.push(format!("work           {} a step and process ({images} images)", flop(cost.flop(images))));
    if let Some(peak) = recipe.config.watch.peak_tflops {
        let seconds = cost.flop(images) / (peak * 1e12);
        lines.push(format!("floor          {:.3} s a step at {peak} TFLOP/s", seconds));
    }
    lines.extend(scaling(recipe, &cost, options)?);
    let own = recipe.micro_batch_size();
    let others = BATCHES.into_iter().filter(|batch| *batch != own).chain([own]);
    let mut batches: Vec<usize> = others.collect();
    batches.sort_unstable();
    for batch in batches {
        let mark = if batch == own { "   <- this recipe" } else { "" };
        lines.push(format!("memory         micro-batch {batch:>3}: about {}{mark}", bytes(cost.memory(size, batch))));
    }
    Ok(lines)
}

/// A line for each number of processes: the step's time and efficiency over the stated link.
fn scaling(recipe: &Resolved, cost: &Cost, options: &Estimate) -> anyhow::Result<Vec<String>> {
    let (Some(link), false) = (options.link, options.gpus.is_empty()) else { return Ok(Vec::new()) };
    let images = recipe.global_batch(1);
    let floor = || recipe.config.watch.peak_tflops.map(|peak| cost.flop(images) / (peak * 1e12));
    let (own, said) = match options.step_secs.or_else(floor) {
        Some(secs) if options.step_secs.is_some() => (secs, "measured"),
        Some(secs) => (secs, "the floor at watch.peak_tflops, so that efficiency is the lowest possible"),
        None => {
            return Err(refuse(
                "--gpus: nothing says how long a process computes; give --step-secs or watch.peak_tflops",
            ))
        }
    };
    let mut lines = vec![format!("scaling        a process alone {own:.4} s a step ({said})")];
    for &processes in &options.gpus {
        let step = scaled(processes, own, cost.trained * SUMMED_BYTES, link);
        lines.push(format!(
            "scaling        {processes:>4} processes: {:.4} s a step, of it {:.3} ms in the link; efficiency {:.1} %, {:.1} images/s",
            step.step_secs,
            step.link_secs * 1e3,
            100.0 * step.efficiency,
            (processes * images) as f64 / step.step_secs
        ));
    }
    Ok(lines)
}

fn native_resolution(folders: &Folders) -> anyhow::Result<u32> {
    let unet = input(part(&folders.base, "unet").and_then(|folder| unet::Config::read(&folder)))?;
    let vae = input(part(&folders.base, "vae").and_then(|folder| vae::Config::of(&folder)))?;
    let side =
        unet.sample_size.ok_or_else(|| refuse("the UNet's config.json has no sample_size; give --resolution"))?;
    Ok((side[0] * vae.downscale()) as u32)
}
