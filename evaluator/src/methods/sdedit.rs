//! SDEdit: Meng et al. 2022, algorithm 1, in latent space. The source's latent is noised to the strength's timestep
//! and denoised from there under a prompt, by DDIM, with classifier-free guidance (Ho and Salimans 2021, eq. 6).
//!
//! Timesteps and arithmetic are those of diffusers' StableDiffusionImg2ImgPipeline with its DDIMScheduler.
//!
//! Shapes: b batch, (c, h, w) a latent, l tokens, d text features.

use std::rc::Rc;

use diffusion::detail::Detail;
use diffusion::edit::target_prompt;
use diffusion::noise;
use diffusion::pipeline::Pipeline;
use diffusion::process::ddim::{alpha_bars, predict, step};
use diffusion::run::Run;
use diffusion::tokens::Prompt;
use emotions::{template, Emotion};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{decoded, no_detail, About, Method};
use crate::config::sweep::Sweep;
use crate::error::{Error, Result};
use crate::evaluation::batch::Batch;

/// The headline strength unless the recipe names another: the middle of the range that the paper recommends.
pub const HEADLINE: f64 = 0.5;

/// `{method: sdedit_word}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WordSettings {
    /// Between 0 (the VAE round trip) and 1 (nothing of the source is left).
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// The prompt; `{emotion}` is replaced by the word.
    #[serde(default = "prompt")]
    pub prompt: String,
    /// How it is denoised.
    #[serde(default)]
    pub sampler: Sampler,
    /// What is added after decoding.
    #[serde(default = "no_detail")]
    pub detail: Detail,
}

/// `{method: sdedit_token}`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Between 0 (the VAE round trip) and 1 (nothing of the source is left).
    #[serde(default = "strengths")]
    pub strengths: Vec<f64>,
    /// The run whose tokens and target prompt are used. A path with `{emotion}` is one folder for each emotion.
    pub run: String,
    /// How it is denoised.
    #[serde(default)]
    pub sampler: Sampler,
    /// What is added after decoding.
    #[serde(default = "no_detail")]
    pub detail: Detail,
}

/// How a noised latent is denoised.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampler {
    /// Steps at strength 1; strength s takes ⌊s·steps⌋ of them.
    pub num_inference_steps: i64,
    /// 1 is no guidance and takes half the time.
    pub guidance_scale: f64,
    /// Seed of the noise, which depends on the source's index only: strengths, emotions and both prompts share it.
    pub seed: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { num_inference_steps: 50, guidance_scale: 7.5, seed: 0 }
    }
}

impl Sampler {
    /// Refuses invalid strengths and numbers of steps; `key` is the entry in the recipe.
    pub fn check(&self, key: &str, sweep: &Sweep) -> Result<()> {
        let refused = |name: &str, message: &str| Err(Error::config(format!("{key}.{name}"), message));
        if sweep.strengths.iter().any(|s| !(0.0..=1.0).contains(s)) {
            return refused("strengths", "must lie between 0 and 1, as the headline's: 1 is noise all over");
        }
        if !(1..=1000).contains(&self.num_inference_steps) {
            return refused("sampler.num_inference_steps", "must lie between 1 and 1000");
        }
        if !(self.guidance_scale.is_finite() && self.guidance_scale >= 1.0) {
            return refused("sampler.guidance_scale", "must be a number of at least 1, which is no guidance");
        }
        Ok(())
    }
}

/// Noises and denoises.
#[derive(Debug)]
pub struct Sdedit {
    about: About,
    pipeline: Rc<Pipeline>,
    conditions: Conditions,
    sampler: Sampler,
    detail: Detail,
    sweep: Sweep,
}

/// The prompt's context, and the context that guidance leads away from.
#[derive(Debug)]
pub struct Conditions {
    /// c, (1, l, d).
    pub context: Tensor,
    /// The empty prompt's, (1, l, d).
    pub unconditional: Tensor,
}

impl Sdedit {
    /// The row under the plain word.
    pub const ABOUT_WORD: About = About {
        key: "sdedit_word",
        name: "SDEdit, word",
        definition:
            "The source's latent noised to the strength's timestep and denoised by DDIM under a prompt with the \
                     plain emotion word (Meng et al. 2022); 0 is the VAE round trip, 1 starts from noise.",
        control: false,
    };
    /// The row under the learned tokens.
    pub const ABOUT_TOKEN: About = About {
        key: "sdedit_token",
        name: "SDEdit, token",
        definition: "As SDEdit with the word, from the same noise, under the target prompt with the learned emotion \
                     token of a trained run.",
        control: false,
    };

    /// With the emotion's word as prompt.
    pub fn with_word(pipeline: Rc<Pipeline>, settings: &WordSettings, emotion: Emotion, sweep: Sweep) -> Self {
        let prompt = template::fill(&settings.prompt, emotion, None).expect("checked with the recipe");
        let context = pipeline.context(&Prompt::plain(&pipeline.tokenizer, &prompt), None);
        let conditions = Conditions::new(&pipeline, context);
        let (sampler, detail) = (settings.sampler, settings.detail);
        Self { about: Self::ABOUT_WORD, pipeline, conditions, sampler, detail, sweep }
    }

    /// With `run`'s tokens for the emotion.
    pub fn with_token(
        pipeline: Rc<Pipeline>, settings: &TokenSettings, run: &Run, emotion: Emotion, sweep: Sweep,
    ) -> Result<Self> {
        let tokens = run.load(&pipeline, pipeline.unet.device())?.tokens;
        let prompt = target_prompt(&pipeline, &run.config, tokens.as_ref(), emotion.name())?;
        let conditions = Conditions::new(&pipeline, pipeline.context(&prompt, tokens.as_ref()).detach());
        let (sampler, detail) = (settings.sampler, settings.detail);
        Ok(Self { about: Self::ABOUT_TOKEN, pipeline, conditions, sampler, detail, sweep })
    }
}

impl Conditions {
    /// `context` (1, l, d) against the empty prompt.
    pub fn new(pipeline: &Pipeline, context: Tensor) -> Self {
        Self { context, unconditional: pipeline.context(&Prompt::plain(&pipeline.tokenizer, ""), None) }
    }
}

impl Method for Sdedit {
    fn about(&self) -> About {
        self.about
    }

    fn sweep(&self) -> Option<&Sweep> {
        Some(&self.sweep)
    }

    fn edits(&self, batch: &Batch) -> Result<Vec<Tensor>> {
        let _no_grad = tch::no_grad_guard();
        let encoded = batch.encoded(&self.pipeline);
        let noise = noise_of(&encoded.latents, self.sampler.seed, batch.first);
        let edit = |&strength: &f64| {
            let latents = sdedit(&self.pipeline, &encoded.latents, &noise, &self.conditions, &self.sampler, strength)?;
            Ok(decoded(&self.pipeline, encoded, &latents, self.detail))
        };
        self.sweep.strengths.iter().map(edit).collect()
    }
}

/// Noise for every latent by its source's index among all, whatever the batches: (b, c, h, w)
fn noise_of(latents: &Tensor, seed: u64, first: usize) -> Tensor {
    let shape = [&[1], &latents.size()[1..]].concat();
    let draw = |row: i64| noise::normal(seed, "sdedit", first as u64 + row as u64, &shape);
    Tensor::cat(&(0..latents.size()[0]).map(draw).collect::<Vec<_>>(), 0).to_device(latents.device())
}

/// Scaled `latents` (b, c, h, w), noised by `noise` to the strength's timestep and denoised; for a strength of no
/// step, the latents as they are.
pub fn sdedit(
    pipeline: &Pipeline, latents: &Tensor, noise: &Tensor, conditions: &Conditions, sampler: &Sampler, strength: f64,
) -> Result<Tensor> {
    let schedule = &pipeline.schedule;
    let timesteps = schedule.inference_timesteps(sampler.num_inference_steps)?;
    let taken = (sampler.num_inference_steps as f64 * strength) as usize;
    let taken = &timesteps[timesteps.len().saturating_sub(taken)..];
    // Where nothing of the source is left, the output of a network that predicts ε says nothing of x₀.
    let timesteps: Vec<i64> = taken.iter().copied().filter(|&t| t <= schedule.last_timestep()).collect();
    let Some(&start) = timesteps.first() else { return Ok(latents.shallow_clone()) };
    let stride = schedule.num_train_timesteps() / sampler.num_inference_steps;
    let alpha_bar = |t: i64| alpha_bars(schedule, &[t], latents.device()); // (1, 1, 1, 1)
    let mut z = alpha_bar(start).sqrt() * latents + (1f64 - alpha_bar(start)).sqrt() * noise;
    for t in timesteps {
        let output = guided_output(pipeline, &z, t, conditions, sampler.guidance_scale);
        let (clean, noise) =
            (schedule.clean_from_output(&output, &z, &[t]), schedule.noise_from_output(&output, &z, &[t]));
        z = step(&clean, &noise, &alpha_bar(t - stride));
    }
    Ok(z)
}

/// o_∅ + g·(o_c − o_∅) of the network's outputs, (b, c, h, w).
fn guided_output(pipeline: &Pipeline, z: &Tensor, t: i64, conditions: &Conditions, guidance_scale: f64) -> Tensor {
    let under = |context: &Tensor| {
        let context = context.expand([z.size()[0], -1, -1], false);
        predict(&pipeline.unet, z, t, &context)
    };
    let conditional = under(&conditions.context);
    if guidance_scale == 1.0 {
        return conditional;
    }
    let unconditional = under(&conditions.unconditional);
    &unconditional + guidance_scale * (conditional - &unconditional)
}

fn strengths() -> Vec<f64> {
    vec![0.3, 0.5, 0.7]
}

fn prompt() -> String {
    "a photo evoking {emotion}".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_belongs_to_the_source_and_not_to_its_batch() {
        let latents = |b: i64| Tensor::zeros([b, 4, 8, 8], (tch::Kind::Float, tch::Device::Cpu));
        let whole = noise_of(&latents(3), 1, 5);
        assert_eq!(whole.narrow(0, 2, 1), noise_of(&latents(1), 1, 7));
        assert_ne!(whole.narrow(0, 0, 1), whole.narrow(0, 1, 1));
    }
}
