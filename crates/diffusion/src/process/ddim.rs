//! DDIM: the predicted clean latent, the deterministic step and its inversion. Song et al. 2021, eq. 12 and sec. 4.3.
//!
//! Shapes: b batch, (c, h, w) a latent, n timesteps of the inversion. ᾱ comes as a (b, 1, 1, 1) tensor, so that one
//! batch may mix timesteps.

use tch::{Device, IndexOp, Kind, Tensor};

use crate::networks::unet::UNet;
use crate::process::schedule::{Prediction, Schedule};

/// `P_t(ε) = (z_t − √(1−ᾱ_t)·ε) / √ᾱ_t`: the clean latent that ε implies, where ᾱ_t is above 0.
/// [`Schedule::clean_from_output`] computes it from a network's output.
pub fn predicted_clean(z: &Tensor, noise: &Tensor, alpha_bar: &Tensor) -> Tensor {
    (z - (1f64 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
}

/// `√ᾱ_to·P_t + √(1−ᾱ_to)·ε`: one step with η = 0, up or down, from what a network says of z_t.
pub fn step(clean: &Tensor, noise: &Tensor, alpha_bar_to: &Tensor) -> Tensor {
    alpha_bar_to.sqrt() * clean + (1f64 - alpha_bar_to).sqrt() * noise
}

/// `σ_t` of DDIM at the given η, eq. 16: 0 is deterministic, 1 is DDPM.
pub fn sigma(alpha_bar: &Tensor, alpha_bar_to: &Tensor, eta: f64) -> Tensor {
    let variance = (1f64 - alpha_bar / alpha_bar_to) * (1f64 - alpha_bar_to) / (1f64 - alpha_bar);
    variance.clamp_min(0.0).sqrt() * eta
}

/// ᾱ at each of `timesteps`, shaped (b, 1, 1, 1).
pub fn alpha_bars(schedule: &Schedule, timesteps: &[i64], device: Device) -> Tensor {
    let values: Vec<f32> = timesteps.iter().map(|&t| schedule.alpha_bar(t) as f32).collect();
    Tensor::from_slice(&values).to_device(device).view([-1, 1, 1, 1])
}

/// The timesteps that inversion goes up and the edit goes down, ascending: evenly spaced from 0 to the last timestep
/// at which the output says something of x₀ ([`Schedule::last_timestep`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InversionSchedule {
    timesteps: Vec<i64>,
}

impl InversionSchedule {
    /// `num_steps` timesteps (at least 2) over the schedule's training timesteps.
    pub fn new(schedule: &Schedule, num_steps: usize) -> Self {
        let last = schedule.last_timestep();
        let intervals = num_steps.max(2) as i64 - 1;
        Self { timesteps: (0..=intervals).map(|k| k * last / intervals).collect() }
    }

    /// Ascending; the first is 0, where a photo's own latent lies.
    pub fn timesteps(&self) -> &[i64] {
        &self.timesteps
    }
}

/// The inversion of a photo: its latent and the UNet's output at every timestep. The source branch of every edit.
///
/// The output is recorded as the network gives it. P_t and ε follow from it at every timestep, while ε alone does not
/// determine P_t where ᾱ is 0.
#[derive(Debug)]
pub struct Trajectory {
    /// z_k, (n, b, c, h, w); z_0 is the photo's own latent.
    pub latents: Tensor,
    /// The UNet's output for (z_k, t_k, source prompt), (n, b, c, h, w): ε, v or x₀, as the schedule says.
    pub outputs: Tensor,
}

impl Trajectory {
    /// z_k, (b, c, h, w).
    pub fn latent(&self, k: usize) -> Tensor {
        self.latents.i(k as i64)
    }

    /// The UNet's output at t_k, (b, c, h, w).
    pub fn output(&self, k: usize) -> Tensor {
        self.outputs.i(k as i64)
    }
}

/// DDIM inversion at guidance 1: goes up from `latent` (b, c, h, w); each step uses the output at its lower timestep.
///
/// `context` is the source prompt's (1 or b, tokens, d). No gradient is recorded.
pub fn invert(
    unet: &UNet, schedule: &Schedule, inversion_schedule: &InversionSchedule, latent: &Tensor, context: &Tensor,
) -> Trajectory {
    let _no_grad = tch::no_grad_guard();
    let timesteps = inversion_schedule.timesteps();
    let batch = latent.size()[0];
    let context = context.expand([batch, -1, -1], false);
    let mut z = latent.to_kind(Kind::Float);
    let (mut latents, mut outputs) = (Vec::with_capacity(timesteps.len()), Vec::with_capacity(timesteps.len()));
    for (k, &t) in timesteps.iter().enumerate() {
        let output = predict(unet, &z, t, &context);
        latents.push(z.shallow_clone());
        if let Some(&up) = timesteps.get(k + 1) {
            let (clean, noise) =
                (schedule.clean_from_output(&output, &z, &[t]), schedule.noise_from_output(&output, &z, &[t]));
            z = step(&clean, &noise, &alpha_bars(schedule, &[up], z.device()));
        }
        outputs.push(output);
    }
    Trajectory { latents: Tensor::stack(&latents, 0), outputs: Tensor::stack(&outputs, 0) }
}

/// The factors `[a, b]` of a step of DDIM from timestep `from` to `to`: `z_to = a·z_from + b·output`. P_t and ε are linear in
/// z and the network's output, whatever it predicts, so the whole step is.
pub fn step_factors(schedule: &Schedule, from: i64, to: i64) -> [f32; 2] {
    let (here, there) = (schedule.alpha_bar(from), schedule.alpha_bar(to));
    let (signal, noise) = (here.sqrt(), (1.0 - here).sqrt());
    let (signal_to, noise_to) = (there.sqrt(), (1.0 - there).sqrt());
    let [latent, output] = match schedule.prediction() {
        Prediction::Epsilon => [signal_to / signal, noise_to - signal_to * noise / signal],
        Prediction::VPrediction => [signal * signal_to + noise * noise_to, signal * noise_to - noise * signal_to],
        Prediction::Sample => [noise_to / noise, signal_to - noise_to * signal / noise],
    };
    [latent as f32, output as f32]
}

/// The factors of every step up `inversion_schedule`, one fewer than it has timesteps.
pub fn all_step_factors(schedule: &Schedule, inversion_schedule: &InversionSchedule) -> Vec<[f32; 2]> {
    inversion_schedule.timesteps().windows(2).map(|pair| step_factors(schedule, pair[0], pair[1])).collect()
}

/// As [`invert`], for an inversion that is stored: the UNet's output at every timestep in half precision, (n, b, c, h, w).
///
/// Each output is rounded before the step that it makes. So the latents of which the network saw the outputs are
/// `z_{k+1} = a·z_k + b·output_k` exactly ([`step_factors`], computed in f32 in this order), and need not be stored.
pub fn invert_recorded(
    unet: &UNet, schedule: &Schedule, inversion_schedule: &InversionSchedule, latent: &Tensor, context: &Tensor,
) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let context = context.expand([latent.size()[0], -1, -1], false);
    let factors = all_step_factors(schedule, inversion_schedule);
    let mut z = latent.to_kind(Kind::Float);
    let mut outputs = Vec::with_capacity(inversion_schedule.timesteps().len());
    for (k, &t) in inversion_schedule.timesteps().iter().enumerate() {
        // Autocast to bf16 knows no f16 on a CPU.
        let output = predict(unet, &z, t, &context).to_kind(Kind::Half).to_kind(Kind::Float);
        if let Some(&[a, b]) = factors.get(k) {
            z = &z * f64::from(a) + &output * f64::from(b);
        }
        outputs.push(output);
    }
    Tensor::stack(&outputs, 0).to_kind(Kind::Half)
}

/// The whole UNet's output for a batch at one timestep `t`; f32 whatever the network's kind.
pub fn predict(unet: &UNet, z: &Tensor, t: i64, context: &Tensor) -> Tensor {
    let timesteps = vec![t; z.size()[0] as usize];
    let output = unet.forward(&z.to_kind(unet.kind()), &timestep_tensor(&timesteps, z.device()), context);
    output.to_kind(Kind::Float)
}

/// Timesteps as the UNet takes them, (b).
pub fn timestep_tensor(timesteps: &[i64], device: Device) -> Tensor {
    Tensor::from_slice(timesteps).to_device(device)
}
