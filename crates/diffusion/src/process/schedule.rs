//! The noise schedule ᾱ_t, the timesteps of DDIM (Song et al. 2021), and what the network's output means.
//!
//! Read from a diffusers scheduler_config.json (`file.rs`). Every sampler of Stable Diffusion is read for its betas and
//! stepped as DDIM: the sampler is ours, the noise process is the model's.
//!
//! z_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε
//!
//! Both x₀ and ε are computed from the network's own output, in forms that are defined wherever the output determines
//! them. A schedule of zero terminal SNR (Lin et al. 2024) has ᾱ = 0 at its last timestep: there ε says nothing of
//! x₀, and a division by √ᾱ would give NaN.

mod file;

use std::path::Path;

use serde::Deserialize;
use tch::{Device, Tensor};

pub(crate) use self::file::from_json;
use crate::error::{Error, Result};
use crate::json;

/// What the UNet was trained to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// The noise ε.
    Epsilon,
    /// The velocity v = √ᾱ_t·ε − √(1−ᾱ_t)·x₀ (Salimans and Ho 2022, appendix D).
    VPrediction,
    /// The clean latent x₀.
    Sample,
}

impl Prediction {
    /// What the network is trained to output if x₀ `clean` and ε `noise` make z at ᾱ (b, 1, 1, 1); all (b, c, h, w).
    pub fn target(self, clean: &Tensor, noise: &Tensor, alpha_bar: &Tensor) -> Tensor {
        match self {
            Prediction::Epsilon => noise.shallow_clone(),
            Prediction::VPrediction => alpha_bar.sqrt() * noise - (1f64 - alpha_bar).sqrt() * clean,
            Prediction::Sample => clean.shallow_clone(),
        }
    }
}

/// How inference timesteps lie in the training timesteps (Lin et al. 2024, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// Multiples of an integer step from 0, plus the offset.
    Leading,
    /// Steps back from the last timestep.
    Trailing,
    /// Evenly from the first timestep to the last.
    Linspace,
}

/// `P_t(ε) = (z_t − √(1−ᾱ_t)·ε) / √ᾱ_t`: the clean latent that ε implies, where ᾱ_t is above 0.
/// [`Schedule::clean_from_output`] computes it from a network's output.
pub fn predicted_clean(z: &Tensor, noise: &Tensor, alpha_bar: &Tensor) -> Tensor {
    (z - (1f64 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
}

/// ᾱ_t of a trained model, the timesteps of inference, and the meaning of the model's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    alphas_cumprod: Vec<f64>,
    final_alpha: f64,
    prediction: Prediction,
    spacing: Spacing,
    steps_offset: i64,
}

impl Schedule {
    /// Reads a folder's scheduler_config.json; also the names of keys that were ignored.
    pub(crate) fn from_folder(folder: &Path) -> Result<(Self, Vec<String>)> {
        let path = folder.join("scheduler_config.json");
        from_json(&path, json::read(&path)?)
    }

    /// ᾱ_t; before the first timestep (t < 0) that of the last step: 1 with set_alpha_to_one, else ᾱ_0.
    ///
    /// # Panics
    /// If t is not below [`Schedule::num_train_timesteps`].
    pub fn alpha_bar(&self, t: i64) -> f64 {
        usize::try_from(t).map_or(self.final_alpha, |t| self.alphas_cumprod[t])
    }

    /// ᾱ_0, ᾱ_1, …
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// Timesteps of training: 1000 in Stable Diffusion.
    pub fn num_train_timesteps(&self) -> i64 {
        self.alphas_cumprod.len() as i64
    }

    /// What the network's output means.
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The `n` timesteps of inference, descending, as diffusers' `DDIMScheduler.set_timesteps`.
    ///
    /// Fails where n is 0, more than the training timesteps, or where steps_offset leads past the last of them.
    pub fn inference_timesteps(&self, n: i64) -> Result<Vec<i64>> {
        let train = self.num_train_timesteps();
        if !(1..=train).contains(&n) {
            return Err(Error::invalid("number of steps", format!("is {n}, must lie between 1 and {train}")));
        }
        let mut timesteps = match self.spacing {
            Spacing::Leading => leading(n, train, self.steps_offset),
            Spacing::Trailing => trailing(n, train),
            Spacing::Linspace => linspace(n, train),
        };
        timesteps.reverse();
        match timesteps.first() {
            Some(&first) if first >= train => Err(Error::invalid(
                "number of steps",
                format!(
                    "{n} with steps_offset {} leads past the last timestep {}; take fewer",
                    self.steps_offset,
                    train - 1
                ),
            )),
            _ => Ok(timesteps),
        }
    }

    /// The last timestep at which the network's output says something of x₀: T − 1, but if ε is predicted, the last
    /// one with ᾱ above 0.
    pub fn last_timestep(&self) -> i64 {
        let last = self.num_train_timesteps() - 1;
        match self.prediction {
            Prediction::Epsilon => (0..=last).rev().find(|&t| self.alpha_bar(t) > 0.0).unwrap_or(0),
            _ => last,
        }
    }

    /// P_t, the clean latent x₀ that the network's `output` at z_t implies, (b, c, h, w): `(z − √(1−ᾱ)·ε) / √ᾱ`,
    /// `√ᾱ·z − √(1−ᾱ)·v`, or the output itself. One t for all rows or one for each.
    ///
    /// Computed in at least f32; the result has the output's kind.
    pub fn clean_from_output(&self, output: &Tensor, z: &Tensor, timesteps: &[i64]) -> Tensor {
        let alpha_bar = || self.per_row(timesteps, z.device(), |alpha| alpha); // (b, 1, 1, 1)
        let clean = match self.prediction {
            Prediction::Epsilon => predicted_clean(z, output, &alpha_bar()),
            Prediction::VPrediction => {
                let alpha_bar = alpha_bar();
                alpha_bar.sqrt() * z - (1f64 - &alpha_bar).sqrt() * output
            }
            Prediction::Sample => return output.shallow_clone(),
        };
        clean.to_kind(output.kind())
    }

    /// ε that the network's `output` at z_t implies, (b, c, h, w); one t for all rows or one for each.
    ///
    /// Computed in at least f32; the result has the output's kind.
    pub fn noise_from_output(&self, output: &Tensor, z: &Tensor, timesteps: &[i64]) -> Tensor {
        if self.prediction == Prediction::Epsilon {
            return output.shallow_clone();
        }
        let signal = self.per_row(timesteps, z.device(), f64::sqrt); // (b, 1, 1, 1)
        let noise = self.per_row(timesteps, z.device(), |alpha| (1.0 - alpha).sqrt());
        let epsilon = match self.prediction {
            Prediction::VPrediction => output * signal + z * noise,
            _ => (z - output * signal) / noise,
        };
        epsilon.to_kind(output.kind())
    }

    fn per_row(&self, timesteps: &[i64], device: Device, of_alpha: impl Fn(f64) -> f64) -> Tensor {
        let values: Vec<f32> = timesteps.iter().map(|&t| of_alpha(self.alpha_bar(t)) as f32).collect();
        Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_device(device)
    }
}

/// Ascending multiples of ⌊train/n⌋, shifted.
fn leading(n: i64, train: i64, offset: i64) -> Vec<i64> {
    (0..n).map(|i| i * (train / n) + offset).collect()
}

/// Ascending; the last is train − 1. Rounds to even, as NumPy does. Where rounding makes NumPy's arange one longer
/// (n = 61), diffusers has a further timestep of −1, which is left out.
fn trailing(n: i64, train: i64) -> Vec<i64> {
    let ratio = train as f64 / n as f64;
    // NumPy's arange steps by the difference of its first two rounded values, not by the ratio itself.
    let step = (train as f64 - ratio) - train as f64;
    let at = |i: i64| (train as f64 + i as f64 * step).round_ties_even() as i64 - 1;
    (0..n).rev().map(at).collect()
}

/// Ascending from 0 to train − 1. Rounds to even, as NumPy does.
fn linspace(n: i64, train: i64) -> Vec<i64> {
    if n == 1 {
        return vec![0];
    }
    let step = (train - 1) as f64 / (n - 1) as f64;
    (0..n).map(|i| (i as f64 * step).round_ties_even() as i64).collect()
}
