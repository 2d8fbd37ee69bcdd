//! The asymmetric reverse process: only P_t takes the edited noise. Kwon et al. 2023 (Asyrp), eq. 5–7.
//!
//! Both processes here are written as differences from the recorded source, in the manner of direct inversion (Ju et
//! al. 2023): at strength 0 nothing is added, so the source's own latent comes back bit for bit.
//!
//! Shapes: b batch, (c, h, w) a latent, l tokens, d text features.

use std::cell::OnceCell;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::delta::Delta;
use crate::networks::unet::{Bottleneck, Checkpointing, DecoderPass, UNet};
use crate::noise;
use crate::process::ddim::{alpha_bars, sigma, timestep_tensor, InversionSchedule, Trajectory};
use crate::process::mask::MaskSettings;
use crate::process::schedule::Schedule;

/// What the edit leaves to the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Process {
    /// P from the edited noise, D from the edited latent's own noise: Asyrp.
    Asymmetric,
    /// Everything but P from the recorded source: no second decoder pass, and no drift away from the source.
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
    /// t < t_boost: quality boosting (η = 1); 0 switches it off. An edited timestep is never boosted: a t_boost above
    /// t_edit counts as t_edit.
    pub t_boost: i64,
}

/// Δh for one emotion, with the token that conditions it, if it is conditioned.
#[derive(Clone, Copy, Debug)]
pub struct Shift<'a> {
    /// The network `f(h, t)`.
    pub delta: &'a Delta,
    /// The pooled token embedding, (1 or b, d).
    pub token: Option<&'a Tensor>,
    /// A factor of Δh, beside the strength.
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
    /// g, by which the edit's P_t is moved away from the source's: [`guided`]. 1 leaves it as it is.
    pub guidance_scale: f64,
    /// Where the edit acts; everywhere without it.
    pub mask: Option<MaskSettings>,
}

impl Branch<'_> {
    /// The passes under the source's prompt at `z` (b, c, h, w); none of them has run yet.
    pub fn source_pass<'b>(&'b self, z: &Tensor, timesteps: &[i64]) -> SourcePass<'b> {
        SourcePass { branch: self, z: z.shallow_clone(), timesteps: timesteps.to_vec(), bottleneck: OnceCell::new() }
    }

    /// The decoder pass of the edit at `strength`, which scales Δh and interpolates the condition. `checkpointing` says what
    /// stays in memory for its backward pass. If only the decoder sees the edited prompt, the encoder pass of
    /// `source` is used again.
    pub fn edited_pass(&self, source: &SourcePass<'_>, strength: f64, checkpointing: Checkpointing) -> DecoderPass<'_> {
        let context = self.source_context + strength * (self.edited_context - self.source_context);
        let input = match self.condition {
            Condition::Decoder => self.shift(source.bottleneck(), strength),
            Condition::Both => self.shift(&self.encode(&source.z, &source.timesteps, &context), strength),
        };
        DecoderPass::run(self.unet, input, context, checkpointing)
    }

    fn encode(&self, z: &Tensor, timesteps: &[i64], context: &Tensor) -> Bottleneck {
        let z = z.to_kind(self.unet.kind());
        self.unet.encode(&z, &timestep_tensor(timesteps, z.device()), context)
    }

    /// `bottleneck` with every Δh added.
    fn shift(&self, bottleneck: &Bottleneck, strength: f64) -> Bottleneck {
        let deltas = self
            .shifts
            .iter()
            .map(|shift| shift.delta.forward(&bottleneck.h, &bottleneck.temb, shift.token) * (shift.scale * strength));
        deltas.reduce(|sum, delta| sum + delta).map_or_else(|| bottleneck.share(), |delta| bottleneck.shifted(&delta))
    }

    /// Whether an edited step needs the network's output under the source's prompt at the edited latent.
    pub fn needs_own(&self, process: Process) -> bool {
        process == Process::Asymmetric || self.guidance_scale != 1.0
    }

    /// P_t of an `output` of the network for `z`, f32, (b, c, h, w).
    pub fn clean(&self, z: &Tensor, timesteps: &[i64], output: &Tensor) -> Tensor {
        self.schedule.clean_from_output(&output.to_kind(Kind::Float), z, timesteps)
    }
}

/// `P_t(ε) + g·(P_t(ε̃) − P_t(ε))`: classifier-free guidance (Ho and Salimans 2022, eq. 6) with the source's prompt in
/// the empty prompt's place; as linear in P_t as in ε. `edited` and `own` are P_t at one latent, (b, c, h, w). A
/// `scale` of 1 returns `edited` bit for bit.
pub fn guided(edited: &Tensor, own: &Tensor, scale: f64) -> Tensor {
    match scale == 1.0 {
        true => edited.shallow_clone(),
        false => own + scale * (edited - own),
    }
}

/// The network under the source's prompt at one latent: each half runs when it is first needed, without a graph.
#[derive(Debug)]
pub struct SourcePass<'a> {
    branch: &'a Branch<'a>,
    z: Tensor,
    timesteps: Vec<i64>,
    bottleneck: OnceCell<Bottleneck>,
}

impl SourcePass<'_> {
    /// The decoder's output, f32, (b, c, h, w).
    pub fn output(&self) -> Tensor {
        let Branch { unet, source_context, .. } = self.branch;
        tch::no_grad(|| unet.decode(self.bottleneck(), source_context)).to_kind(Kind::Float)
    }

    /// Whether the encoder has run.
    pub fn has_encoded(&self) -> bool {
        self.bottleneck.get().is_some()
    }

    fn bottleneck(&self) -> &Bottleneck {
        let encode = || self.branch.encode(&self.z, &self.timesteps, self.branch.source_context);
        self.bottleneck.get_or_init(|| tch::no_grad(encode))
    }
}

/// The recorded source at both ends of one step down.
#[derive(Debug)]
pub struct SourceStep<'a> {
    /// Its latent at the next lower timestep, (b, c, h, w).
    pub below: &'a Tensor,
    /// P_t of its output at this timestep.
    pub clean: &'a Tensor,
    /// ε of its output at this timestep.
    pub noise: &'a Tensor,
    /// ᾱ at the next lower timestep, (b, 1, 1, 1).
    pub alpha_bar_below: &'a Tensor,
    /// How much of the change is kept at each place, (b, 1, h, w); all of it without a mask.
    pub mask: Option<&'a Tensor>,
}

impl SourceStep<'_> {
    /// The source's latent below with `change` added where the mask lets it.
    fn moved(&self, change: Tensor) -> Tensor {
        self.below + self.mask.map_or_else(|| change.shallow_clone(), |mask| &change * mask)
    }
}

impl Process {
    /// The edited latent one step down, from the edit's P_t and, for D, ε under the source's prompt, which the
    /// anchored process does not use.
    ///
    /// Where both equal the source's, the source's latent is returned exactly: the difference added to it is then 0.
    pub fn descend(self, source_step: &SourceStep<'_>, clean: &Tensor, noise: &Tensor) -> Tensor {
        let below = source_step.alpha_bar_below;
        let mut change = below.sqrt() * (clean - source_step.clean);
        if self == Process::Asymmetric {
            change += (1f64 - below).sqrt() * (noise - source_step.noise);
        }
        source_step.moved(change)
    }
}

/// Runs the edit down all timesteps and returns the edited latent (b, c, h, w).
///
/// Above t_edit each step costs one encoder pass and one or two decoder passes, below it a plain step. As long as
/// nothing has been edited, nothing is computed. `boost_seed` draws the noise of quality boosting.
pub fn reverse(
    branch: &Branch<'_>, inversion_schedule: &InversionSchedule, source: &Trajectory, process: Process,
    interval: Interval, strength: f64, boost_seed: u64,
) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let (timesteps, schedule) = (inversion_schedule.timesteps(), branch.schedule);
    let mask = branch.mask.filter(|_| strength != 0.0).map(|mask| mask.measure(branch, inversion_schedule, source));
    let mut edited: Option<Tensor> = None;
    for k in (1..timesteps.len()).rev() {
        let (t, active) = (timesteps[k], timesteps[k] >= interval.t_edit && strength != 0.0);
        if edited.is_none() && !active {
            continue;
        }
        let (latent, recorded) = (source.latent(k), source.output(k));
        let z = edited.unwrap_or_else(|| latent.shallow_clone());
        let source_step = SourceStep {
            below: &source.latent(k - 1),
            clean: &schedule.clean_from_output(&recorded, &latent, &[t]),
            noise: &schedule.noise_from_output(&recorded, &latent, &[t]),
            alpha_bar_below: &alpha_bars(schedule, &[timesteps[k - 1]], z.device()),
            mask: mask.as_ref(),
        };
        let timesteps = vec![t; z.size()[0] as usize];
        let pass = branch.source_pass(&z, &timesteps);
        let own = (!active || branch.needs_own(process)).then(|| pass.output());
        let noise = own.as_ref().map(|own| schedule.noise_from_output(own, &z, &timesteps));
        let noise = noise.unwrap_or_else(|| source_step.noise.shallow_clone());
        let own = own.map(|own| branch.clean(&z, &timesteps, &own));
        let clean = match active {
            false => own.expect("invariant: a plain step has the source's output"),
            true => {
                let pass = branch.edited_pass(&pass, strength, Checkpointing::Off);
                let edited = branch.clean(&z, &timesteps, pass.output());
                own.map_or(edited.shallow_clone(), |own| guided(&edited, &own, branch.guidance_scale))
            }
        };
        edited = Some(if !active && t < interval.t_boost {
            let fresh = noise_like(&z, boost_seed, k);
            boosted(&source_step, &alpha_bars(schedule, &[t], z.device()), (&clean, &noise), strength, &fresh)
        } else {
            process.descend(&source_step, &clean, &noise)
        });
    }
    edited.unwrap_or_else(|| source.latent(0))
}

/// Quality boosting: a stochastic step, applied to the edited latent alone. Asyrp, sec. 4.3.
///
/// As in [`Process::descend`], it is a difference from the recorded source. Its η is the strength, but at most 1; the
/// noise shrinks with it, so that an edit of a strength near 0 stays near the source.
fn boosted(
    source_step: &SourceStep<'_>, here: &Tensor, (clean, noise): (&Tensor, &Tensor), strength: f64, fresh: &Tensor,
) -> Tensor {
    let below = source_step.alpha_bar_below;
    let sigma = sigma(here, below, strength.abs().min(1.0));
    let direction = (1f64 - below - sigma.square()).clamp_min(0.0).sqrt() * noise;
    let recorded = (1f64 - below).sqrt() * source_step.noise;
    source_step.moved(below.sqrt() * (clean - source_step.clean) + (direction - recorded) + sigma * fresh)
}

/// The same for every image: an edit does not depend on what else is in its batch.
fn noise_like(z: &Tensor, seed: u64, k: usize) -> Tensor {
    let size = z.size();
    let one = noise::normal(seed, "boost", k as u64, &[&[1], &size[1..]].concat());
    one.to_device(z.device()).expand(size.as_slice(), false)
}
