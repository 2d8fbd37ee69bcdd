//! Held-out sources, edited with the run as it stands: samples/step-N/ and TensorBoard, in columns source, round trip,
//! edit.
//!
//! Every rank edits its share of the same few images; their inversions come from the cache.
//!
//! Shapes: b images, (h, w) pixels.

use std::sync::Arc;

use anyhow::Context;
use dataloader::{RowRef, Stream};
use diffusion::images;
use diffusion::networks::lpips::{Backbone, Lpips};
use diffusion::process::asyrp::{reverse, Branch, Shift};
use diffusion::process::ddim::{Ladder, Trajectory};
use diffusion::run::{pooled_token, RunConfig};
use diffusion::tokens::Prompt;
use image::RgbImage;
use tch::{Kind, Tensor};

use crate::export::run_config;
use crate::failure::{input, refuse};
use crate::ground::Ground;
use crate::models::Models;
use crate::recorder::Recorder;
use crate::resolved::Resolved;
use crate::state::State;
use crate::world::World;

/// The images that validation edits, this rank's share loaded.
pub struct Samples {
    stream: Arc<Stream>,
    /// Positions in the stream's order: the same images at any number of ranks.
    count: usize,
    mine: Vec<u64>,
    resolution: u32,
    lpips: Option<Lpips>,
    loaded: Option<Loaded>,
}

struct Loaded {
    sources: Tensor,    // (b, 3, h, w)
    round_trip: Tensor, // (b, 3, h, w)
    trajectory: Trajectory,
}

impl Samples {
    /// Chooses the images, the same at every seed of the draw; none where validation is off.
    pub fn choose(ground: &Ground<'_>) -> anyhow::Result<Option<Self>> {
        let Ground { recipe, models, data, world, .. } = *ground;
        let validation = &recipe.config.validation;
        if validation.validation_steps == 0 {
            return Ok(None);
        }
        let stream = Arc::new(data.held_out(recipe, 0)?);
        let count = validation.num_validation_images.min(stream.rows().len());
        let each = count.div_ceil(world.size);
        // A rank without an image of its own edits one that another has, and it is left out again.
        let mine = (0..each).map(|i| ((i * world.size + world.rank) % count) as u64).collect();
        let lpips = validation
            .lpips
            .as_ref()
            .map(|path| input(Lpips::load(path, Backbone::Alex, models.device)))
            .transpose()?;
        Ok(Some(Self { stream, count, mine, resolution: data.resolution(), lpips, loaded: None }))
    }

    /// The rows whose inversions are needed, on every rank.
    pub fn rows(&self) -> Vec<(&Stream, &RowRef)> {
        (0..self.count as u64).map(|p| (self.stream.as_ref(), self.stream.at(p))).collect()
    }

    /// Loads this rank's images and their inversions.
    pub fn with_inversions(mut self, ground: &Ground<'_>) -> anyhow::Result<Self> {
        let Ground { trajectories, models, .. } = *ground;
        let _no_grad = tch::no_grad_guard();
        let rows = self.stream.fetch(&self.mine)?;
        let pictures =
            rows.iter().map(|row| Ok(images::to_tensor(&row.image()?))).collect::<anyhow::Result<Vec<_>>>()?;
        let ids: Vec<&str> = rows.iter().map(|row| row.image_id.as_str()).collect();
        let trajectory = trajectories.whole(&ids, models.device)?;
        self.loaded = Some(Loaded {
            sources: Tensor::cat(&pictures, 0).to_device(models.device),
            round_trip: models.pipeline.images_from_latents(&trajectory.latent(0)),
            trajectory,
        });
        Ok(self)
    }

    /// Edits towards every emotion of the run; rank 0 writes the pictures and the mean LPIPS.
    pub fn show(&self, ground: &Ground<'_>, state: &State, recorder: &mut Recorder) -> anyhow::Result<()> {
        let Ground { recipe, models, ladder, world, .. } = *ground;
        let _no_grad = tch::no_grad_guard();
        let config = run_config(recipe, models, state, self.resolution);
        let loaded = self.loaded.as_ref().context("validation images are loaded before the first step")?;
        let (mut pictures, mut distances) = (Vec::new(), Vec::new());
        for emotion in &recipe.names {
            let work = || edit(&config, models, ladder, state, loaded, emotion);
            let edited = collective::autocast(models.device, models.kind, work)?;
            let columns = [&loaded.sources, &loaded.round_trip, &edited].map(|t| self.gathered(t, world));
            let [sources, round_trip, edited] = columns;
            let (sources, edited) = (sources?, edited?);
            if let Some(lpips) = &self.lpips {
                distances.push(lpips.distance(&edited, &sources).mean(Kind::Double).double_value(&[]));
            }
            pictures.push((format!("samples/{emotion}"), grid(&[sources, round_trip?, edited])?));
        }
        if !world.is_first() {
            return Ok(());
        }
        let step = state.counters.step;
        write(recipe, step, &pictures)?;
        let mean = distances.iter().sum::<f64>() / distances.len().max(1) as f64;
        let scalars = if distances.is_empty() { Vec::new() } else { vec![("validation/lpips".to_string(), mean)] };
        recorder.validation(step, &scalars, &pictures)
    }

    /// Every rank's images in the order of their positions.
    fn gathered(&self, mine: &Tensor, world: &World) -> anyhow::Result<Tensor> {
        let all = world.gather_rows(mine)?;
        let each = self.mine.len();
        let order: Vec<i64> = (0..self.count).map(|p| (p % world.size * each + p / world.size) as i64).collect();
        Ok(all.index_select(0, &Tensor::from_slice(&order).to_device(all.device())))
    }
}

fn edit(
    config: &RunConfig, models: &Models, ladder: &Ladder, state: &State, loaded: &Loaded, emotion: &str,
) -> anyhow::Result<Tensor> {
    let (pipeline, learned) = (&models.pipeline, &state.learned);
    let prompt = diffusion::edit::target_prompt(pipeline, config, learned.tokens.as_ref(), emotion)?;
    let source_context = pipeline.context(&Prompt::plain(&pipeline.tokenizer, &config.prompts.source), None);
    let edited_context = pipeline.context(&prompt, learned.tokens.as_ref());
    let token = pooled_token(&edited_context, prompt.eos);
    let mut shifts = Vec::new();
    if let Some(deltas) = &learned.deltas {
        shifts.push(Shift { delta: deltas.of(emotion)?, token: deltas.conditioned().then_some(&token), scale: 1.0 });
    }
    let batch = loaded.sources.size()[0];
    let branch = Branch {
        unet: &pipeline.unet,
        schedule: &pipeline.schedule,
        source_context: &source_context.expand([batch, -1, -1], false),
        edited_context: &edited_context.expand([batch, -1, -1], false),
        shifts,
        condition: config.edit.condition,
    };
    let (process, interval) = (config.edit.process, config.edit.interval());
    let latent = reverse(&branch, ladder, &loaded.trajectory, process, interval, 1.0, config.seed);
    let decoded = pipeline.images_from_latents(&latent);
    Ok(config.edit.detail.restore(&loaded.sources, &loaded.round_trip, &decoded, Tensor::shallow_clone))
}

/// One row an image, one column a stage.
fn grid(columns: &[Tensor]) -> anyhow::Result<RgbImage> {
    let column = |c: &Tensor| Tensor::cat(&c.unbind(0), 1); // (3, b·h, w)
    let columns: Vec<Tensor> = columns.iter().map(column).collect();
    Ok(images::from_tensor(&Tensor::cat(&columns, 2).to_device(tch::Device::Cpu))?)
}

fn write(recipe: &Resolved, step: u64, pictures: &[(String, RgbImage)]) -> anyhow::Result<()> {
    for (tag, picture) in pictures {
        let (folder, name) = tag.split_once('/').ok_or_else(|| refuse(format!("tag {tag}")))?;
        let folder = recipe.config.output_dir.join(folder).join(format!("step-{step}"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        images::write(&folder.join(format!("{name}.png")), picture)?;
    }
    Ok(())
}
