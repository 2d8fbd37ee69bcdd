//! The files of a finished run that others read: edit_config.json, learned_embeds.safetensors, h_delta.safetensors.

use diffusion::run::{Base, DeltaConfig, EditSettings, Named, Prompts, Run, RunConfig, TokenConfig, FORMAT_VERSION};

use crate::config::resolved::Resolved;
use crate::run::models::Models;
use crate::step::state::State;

/// Writes the three files into the output folder.
pub fn write(recipe: &Resolved, models: &Models, state: &State, resolution: u32) -> anyhow::Result<()> {
    let config = run_config(recipe, models, state, resolution);
    Ok(Run::save(&recipe.config.output_dir, &config, &state.learned)?)
}

/// The settings that an edit with this run's tensors needs; `resolution` is the side of the training images.
pub fn run_config(recipe: &Resolved, models: &Models, state: &State, resolution: u32) -> RunConfig {
    let config = &recipe.config;
    let edit = &config.edit;
    let loss_clip = config.model.clip.as_ref().zip(models.clip.as_ref());
    RunConfig {
        format_version: FORMAT_VERSION,
        base: Base { name: config.model.base.clone(), hashes: models.pipeline.hashes.clone() },
        loss_clip: loss_clip.map(|(name, clip)| Named { name: name.clone(), hash: clip.hash.clone() }),
        emotions: recipe.names.clone(),
        tokens: config.tokens.on().map(|tokens| TokenConfig {
            placeholder_token: tokens.placeholder_token.clone(),
            num_vectors: tokens.num_vectors,
        }),
        delta: config.delta.on().map(|delta| DeltaConfig { condition_on_token: delta.condition_on_token }),
        prompts: Prompts { source: config.prompts.source.clone(), target: config.prompts.target.clone() },
        edit: EditSettings {
            process: edit.process,
            condition: edit.condition,
            num_inversion_steps: edit.num_inversion_steps,
            t_edit: state.counters.t_edit,
            t_boost: state.counters.t_boost,
            detail: edit.detail,
            guidance_scale: edit.guidance_scale,
            mask: edit.mask.on().copied(),
        },
        resolution: resolution.into(),
        seed: config.train.seed,
    }
}
