//! `trainer estimate`: what a recipe costs, from the models' folders alone.

pub mod cost;
pub mod plan;
pub mod units;

use diffusion::networks::{unet, vae};
use diffusion::pipeline::part;
use hub::Hub;

use crate::config::resolved::Resolved;
use crate::estimate::cost::Cost;
use crate::estimate::units::{bytes, flop};
use crate::failure::{input, refuse};
use crate::run::models::Folders;

/// Batch sizes whose memory is shown beside the recipe's own.
const BATCHES: [usize; 5] = [1, 2, 4, 8, 16];

/// The lines of the estimate. Images have `resolution` pixels a side, by default the size that the UNet was trained
/// at.
pub fn lines(recipe: &Resolved, hub: &Hub, resolution: Option<u32>) -> anyhow::Result<Vec<String>> {
    let folders = Folders::find(recipe, hub)?;
    let resolution = match resolution {
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
            bytes(cost.trained * 8)
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

fn native_resolution(folders: &Folders) -> anyhow::Result<u32> {
    let unet = input(part(&folders.base, "unet").and_then(|folder| unet::Config::read(&folder)))?;
    let vae = input(part(&folders.base, "vae").and_then(|folder| vae::Config::of(&folder)))?;
    let side =
        unet.sample_size.ok_or_else(|| refuse("the UNet's config.json has no sample_size; give --resolution"))?;
    Ok((side[0] * vae.downscale()) as u32)
}
