//! The asymmetric reverse process: only P_t takes the edited noise. Kwon et al. 2023 (Asyrp), eq. 5–7.
//!
//! Both processes here are written as differences from the recorded source, in the manner of direct inversion (Ju et
//! al. 2023): at strength 0 nothing is added, so the source's own latent comes back bit for bit.
//!
//! Shapes: b batch, (c, h, w) a latent, l tokens, d text features.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::delta::Delta;
use crate::networks::unet::{Bottleneck, DecoderPass, Keep, UNet};
use crate::noise;
use crate::process::ddim::{alpha_bars, predicted_clean, sigma, timestep_tensor, Ladder, Trajectory};
use crate::process::schedule::Schedule;

/// What the edit leaves to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// P from the edited noise, D from the edited latent's own noise: Asyrp.
    Asymmetric,
    /// Everything but P from the recorded source: no second decoder pass, no drift.
    Anchored,
}

/// Which half of the UNet sees the edited prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Encoder and decoder: two encoder passes.
    Both,
    /// The decoder alone: one encoder pass serves source and edit.
    Decoder,
}

/// Where on the schedule the edit acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    /// t ≥ t_edit: edit.
    pub t_edit: i64,
    /// t < t_boost: quality boosting (η = 1); 0 switches it off.
    pub t_boost: i64,
}

/// Δh for one emotion, with the token that conditions it where it is conditioned.
#[derive(Clone, Copy, Debug)]
pub struct Shift<'a> {
    /// The network `f(h, t)`.
    pub delta: &'a Delta,
    /// The pooled token embedding, (1 or b, d).
    pub token: Option<&'a Tensor>,
    /// What Δh is multiplied by, beside the strength.
    pub scale: f64,
}

/// The two branches of one edit: the source's prompt, and the edited prompt with Δh.
#[derive(Debug)]
pub struct Branch<'a> {
    /// The frozen network.
    pub unet: &'a UNet,
    /// Its schedule.
    pub schedule: &'a Schedule,
    /// c_src, (b, l, d).
    pub source_context: &'a Tensor,
    /// c_edit at strength 1, (b, l, d).
    pub edited_context: &'a Tensor,
    /// Every Δh that is added; empty for textual inversion alone.
    pub shifts: Vec<Shift<'a>>,
    /// Which half sees c_edit.
    pub condition: Condition,
}

impl Branch<'_> {
    /// The encoder pass of the source, which both branches share where the decoder alone is conditioned.
    pub fn encode(&self, z: &Tensor, timesteps: &[i64]) -> Bottleneck {
        let z = z.to_kind(self.unet.kind());
        self.unet.encode(&z, &timestep_tensor(timesteps, z.device()), self.source_context)
    }

    /// ε of the source branch from its bottleneck, (b, c, h, w).
    pub fn source_noise(&self, z: &Tensor, timesteps: &[i64], bottleneck: &Bottleneck) -> Tensor {
        self.noise(z, timesteps, &self.unet.decode(bottleneck, self.source_context))
    }

    /// ε̃ at `strength`, which scales Δh and interpolates the condition, (b, c, h, w).
    pub fn edited_noise(&self, z: &Tensor, timesteps: &[i64], bottleneck: &Bottleneck, strength: f64) -> Tensor {
        let pass = self.edited_pass(z, timesteps, bottleneck, strength, Keep::All);
        self.noise(z, timesteps, pass.output())
    }

    /// The edited decoder pass, whose output [`Branch::noise`] reads as ε̃; `keep` is what its backward pass finds in memory.
    pub fn edited_pass(
        &self, z: &Tensor, timesteps: &[i64], bottleneck: &Bottleneck, strength: f64, keep: Keep,
    ) -> DecoderPass<'_> {
        let context = self.source_context + strength * (self.edited_context - self.source_context);
        let encoded = match self.condition {
            Condition::Decoder => None,
            Condition::Both => {
                let kind = self.unet.kind();
                Some(self.unet.encode(&z.to_kind(kind), &timestep_tensor(timesteps, z.device()), &context))
            }
        };
        let input = self.shift(encoded.as_ref().unwrap_or(bottleneck), strength);
        DecoderPass::run(self.unet, input, context, keep)
    }

    /// `bottleneck` with every Δh added.
    fn shift(&self, bottleneck: &Bottleneck, strength: f64) -> Bottleneck {
        let deltas = self
            .shifts
            .iter()
            .map(|shift| shift.delta.forward(&bottleneck.h, &bottleneck.temb, shift.token) * (shift.scale * strength));
        deltas.reduce(|sum, delta| sum + delta).map_or_else(|| bottleneck.share(), |delta| bottleneck.shifted(&delta))
    }

    /// The model's `output` for `z` read as noise, f32, (b, c, h, w).
    pub fn noise(&self, z: &Tensor, timesteps: &[i64], output: &Tensor) -> Tensor {
        self.schedule.noise_from_output(&output.to_kind(Kind::Float), z, timesteps)
    }
}

/// One rung's values on both branches.
#[derive(Debug)]
pub struct Rung<'a> {
    /// The source's recorded latent on this rung and on the one below, (b, c, h, w).
    pub source: (&'a Tensor, &'a Tensor),
    /// The source's recorded ε.
    pub source_noise: &'a Tensor,
    /// ᾱ on this rung and on the one below, (b, 1, 1, 1).
    pub alpha_bar: (&'a Tensor, &'a Tensor),
}

impl Process {
    /// The edited latent one rung down.
    ///
    /// `z` is the edited latent here; `edited` its ε̃ (for P); `own` its ε under the source prompt (for D), which the
    /// anchored process does not need. Where z, ε̃ and ε are the source's, the source's latent below is returned
    /// exactly: what is added to it is then 0.
    pub fn descend(self, rung: &Rung<'_>, z: &Tensor, edited: &Tensor, own: &Tensor) -> Tensor {
        let (here, below) = rung.alpha_bar;
        let moved = predicted_clean(z, edited, here) - predicted_clean(rung.source.0, rung.source_noise, here);
        let mut change = below.sqrt() * moved;
        if self == Process::Asymmetric {
            change += (1f64 - below).sqrt() * (own - rung.source_noise);
        }
        rung.source.1 + change
    }
}

/// Runs the edit down the whole ladder and returns the edited latent (b, c, h, w).
///
/// Above t_edit each rung costs one encoder and one or two decoder passes; below it the plain step; while nothing has
/// been edited, nothing is computed. `boost_seed` draws the noise of quality boosting.
pub fn reverse(
    branch: &Branch<'_>, ladder: &Ladder, source: &Trajectory, process: Process, interval: Interval, strength: f64,
    boost_seed: u64,
) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let rungs = ladder.timesteps();
    let mut edited: Option<Tensor> = None;
    for k in (1..rungs.len()).rev() {
        let (t, active) = (rungs[k], rungs[k] >= interval.t_edit && strength != 0.0);
        if edited.is_none() && !active {
            continue;
        }
        let latent = source.latent(k);
        let z = edited.unwrap_or_else(|| latent.shallow_clone());
        let timesteps = vec![t; z.size()[0] as usize];
        let (source_noise, below) = (source.noise(k), source.latent(k - 1));
        let alpha_bar = alpha_bars(branch.schedule, &[t], z.device());
        let alpha_bar_below = alpha_bars(branch.schedule, &[rungs[k - 1]], z.device());
        let rung =
            Rung { source: (&latent, &below), source_noise: &source_noise, alpha_bar: (&alpha_bar, &alpha_bar_below) };
        let bottleneck = branch.encode(&z, &timesteps);
        let needs_own = !active || process == Process::Asymmetric;
        let own = needs_own.then(|| branch.source_noise(&z, &timesteps, &bottleneck));
        let clean = match (&own, active) {
            (Some(own), false) => own.shallow_clone(),
            _ => branch.edited_noise(&z, &timesteps, &bottleneck, strength),
        };
        let own = own.unwrap_or_else(|| source_noise.shallow_clone());
        edited = Some(if t < interval.t_boost {
            boosted(&rung, &z, &own, noise_like(&z, boost_seed, k))
        } else {
            process.descend(&rung, &z, &clean, &own)
        });
    }
    edited.unwrap_or_else(|| source.latent(0))
}

/// Quality boosting: a stochastic step (η = 1). Asyrp, sec. 4.3; it is applied to the edited latent alone.
fn boosted(rung: &Rung<'_>, z: &Tensor, own: &Tensor, fresh: Tensor) -> Tensor {
    let (here, below) = rung.alpha_bar;
    let sigma = sigma(here, below, 1.0);
    let direction = (1f64 - below - sigma.square()).clamp_min(0.0).sqrt() * own;
    below.sqrt() * predicted_clean(z, own, here) + direction + sigma * fresh
}

fn noise_like(z: &Tensor, seed: u64, k: usize) -> Tensor {
    noise::normal(seed, "boost", k as u64, &z.size()).to_device(z.device())
}
