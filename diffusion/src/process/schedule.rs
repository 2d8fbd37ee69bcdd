//! The noise schedule ᾱ_t, the timesteps of DDIM (Song et al. 2021), and what the network's output means.
//!
//! Read from a diffusers scheduler_config.json. Any class is read for its betas and stepped as DDIM: the sampler is
//! ours, the noise process is the model's.
//!
//! z_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε
//!
//! Both halves are read from the network's own output, each in the form that is defined wherever the output means
//! something: a schedule of zero terminal SNR (Lin et al. 2024) has ᾱ = 0 at its last timestep, where ε says nothing of
//! x₀ and division by √ᾱ gives no number.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::process::ddim::predicted_clean;
use crate::weights::read_json;

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
    /// What the network is trained to say where `clean` x₀ and `noise` ε make z at ᾱ (b, 1, 1, 1), (b, c, h, w).
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
    /// Reads a diffusers `scheduler` folder's scheduler_config.json; absent keys have DDIMScheduler's defaults.
    ///
    /// Fails with [`Error::Unsupported`] on unknown keys, prediction types and beta schedules, and on clipping or
    /// thresholding of x₀, which are for pixel models.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("scheduler_config.json");
        let json = read_json(&path)?;
        check_choices(&path, &json)?;
        let raw: Raw = serde_json::from_value(json).map_err(|source| Error::Json { path: path.clone(), source })?;
        raw.resolve(&path)
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

    /// The last timestep that the network's output says something of x₀ at: T − 1, but where ε is predicted the last
    /// one with ᾱ above 0.
    pub fn last_timestep(&self) -> i64 {
        let last = self.num_train_timesteps() - 1;
        match self.prediction {
            Prediction::Epsilon => (0..=last).rev().find(|&t| self.alpha_bar(t) > 0.0).unwrap_or(0),
            _ => last,
        }
    }

    /// P_t, the clean latent x₀ as the network's `output` at z_t implies it, (b, c, h, w), one t for all rows or one for
    /// each: `(z − √(1−ᾱ)·ε) / √ᾱ`, `√ᾱ·z − √(1−ᾱ)·v`, or the output itself.
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

    /// ε as the network's `output` at z_t implies it, (b, c, h, w), one t for all rows or one for each.
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

/// scheduler_config.json with DDIMScheduler's defaults.
#[derive(Deserialize)]
#[serde(default)]
struct Raw {
    #[serde(rename = "_class_name")]
    class_name: String,
    num_train_timesteps: i64,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: String,
    trained_betas: Option<Vec<f32>>,
    rescale_betas_zero_snr: bool,
    set_alpha_to_one: bool,
    steps_offset: i64,
    prediction_type: Prediction,
    timestep_spacing: Spacing,
    clip_sample: Option<bool>,
    thresholding: bool,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            class_name: "DDIMScheduler".into(),
            num_train_timesteps: 1000,
            beta_start: 1e-4,
            beta_end: 0.02,
            beta_schedule: "linear".into(),
            trained_betas: None,
            rescale_betas_zero_snr: false,
            set_alpha_to_one: true,
            steps_offset: 0,
            prediction_type: Prediction::Epsilon,
            timestep_spacing: Spacing::Leading,
            clip_sample: None,
            thresholding: false,
            others: BTreeMap::new(),
        }
    }
}

/// Keys that steer other samplers, or parts of DDIM that are off; they say nothing about the noise process.
const SAMPLER_KEYS: [&str; 26] = [
    "skip_prk_steps",
    "solver_order",
    "solver_type",
    "solver_p",
    "algorithm_type",
    "lower_order_final",
    "euler_at_final",
    "final_sigmas_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_lu_lambdas",
    "sigma_min",
    "sigma_max",
    "timestep_type",
    "interpolation_type",
    "lambda_min_clipped",
    "variance_type",
    "predict_x0",
    "predict_epsilon",
    "disable_corrector",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "original_inference_steps",
    "timestep_scaling",
];

impl Raw {
    fn resolve(self, path: &Path) -> Result<Schedule> {
        self.check(path)?;
        let betas = self.betas(path)?;
        let betas = if self.rescale_betas_zero_snr { rescale_zero_terminal_snr(&betas) } else { betas };
        let alphas_cumprod = (1f64 - betas).cumprod(0, Kind::Float).to_kind(Kind::Double);
        let alphas_cumprod = Vec::<f64>::try_from(&alphas_cumprod)?;
        Ok(Schedule {
            final_alpha: if self.set_alpha_to_one { 1.0 } else { alphas_cumprod[0] },
            alphas_cumprod,
            prediction: self.prediction_type,
            spacing: self.timestep_spacing,
            steps_offset: self.steps_offset,
        })
    }

    fn check(&self, path: &Path) -> Result<()> {
        // Absent means true for these two classes and does not exist for the others.
        let clips_by_default = ["DDIMScheduler", "DDPMScheduler"].contains(&self.class_name.as_str());
        if self.clip_sample.unwrap_or(clips_by_default) {
            let message = "is true (the default of this class), supported is false: latents are not bounded by 1";
            return Err(unsupported(path, "clip_sample", message));
        }
        if self.thresholding {
            return Err(unsupported(path, "thresholding", "is true, supported is false: latents are not bounded"));
        }
        if self.num_train_timesteps < 1 || self.steps_offset < 0 {
            return Err(unsupported(path, "num_train_timesteps, steps_offset", "must be at least 1 and 0"));
        }
        let unknown = |key: &&String| !key.starts_with('_') && !SAMPLER_KEYS.contains(&key.as_str());
        match self.others.keys().find(unknown) {
            Some(key) => {
                Err(unsupported(path, key, "is not a key known here; remove it if the betas do not depend on it"))
            }
            None => Ok(()),
        }
    }

    /// β in f32, computed as PyTorch computes it so that ᾱ is equal to the last bit.
    fn betas(&self, path: &Path) -> Result<Tensor> {
        let n = self.num_train_timesteps;
        if let Some(betas) = &self.trained_betas {
            if betas.len() as i64 != n {
                let message = format!("has {} values for num_train_timesteps {n}", betas.len());
                return Err(unsupported(path, "trained_betas", message));
            }
            return Ok(Tensor::from_slice(betas));
        }
        let line = |start: f64, end: f64| Tensor::f_linspace(start, end, n, (Kind::Float, Device::Cpu));
        match self.beta_schedule.as_str() {
            "linear" => Ok(line(self.beta_start, self.beta_end)?),
            "scaled_linear" => Ok(line(self.beta_start.sqrt(), self.beta_end.sqrt())?.square()),
            "squaredcos_cap_v2" => Ok(squaredcos_cap_v2(n)),
            other => {
                let message = format!("is {other}, supported are linear, scaled_linear and squaredcos_cap_v2");
                Err(unsupported(path, "beta_schedule", message))
            }
        }
    }
}

/// The cosine schedule (Nichol and Dhariwal 2021, eq. 17), each β at most 0.999.
fn squaredcos_cap_v2(n: i64) -> Tensor {
    let alpha_bar = |i: i64| {
        let t = i as f64 / n as f64;
        ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
    };
    let betas: Vec<f32> = (0..n).map(|i| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).min(0.999) as f32).collect();
    Tensor::from_slice(&betas)
}

/// Shifts and scales √ᾱ so that the last timestep is pure noise (Lin et al. 2024, algorithm 1).
fn rescale_zero_terminal_snr(betas: &Tensor) -> Tensor {
    let root = (1f64 - betas).cumprod(0, Kind::Float).sqrt();
    let (first, last) = (root.get(0), root.get(-1));
    let root = (root - &last) * (&first / (&first - &last));
    let alphas_cumprod = root.square();
    let n = alphas_cumprod.size()[0];
    let ratios = alphas_cumprod.narrow(0, 1, n - 1) / alphas_cumprod.narrow(0, 0, n - 1);
    1f64 - Tensor::cat(&[alphas_cumprod.narrow(0, 0, 1), ratios], 0)
}

/// Names the choices where serde would only say that a variant is unknown.
fn check_choices(path: &Path, json: &Value) -> Result<()> {
    let choices: [(&str, &[&str]); 2] = [
        ("prediction_type", &["epsilon", "v_prediction", "sample"]),
        ("timestep_spacing", &["leading", "trailing", "linspace"]),
    ];
    for (key, supported) in choices {
        match json.get(key) {
            Some(Value::String(value)) if !supported.contains(&value.as_str()) => {
                let message = format!("is {value}, supported are {}", supported.join(", "));
                return Err(unsupported(path, key, message));
            }
            _ => {}
        }
    }
    Ok(())
}

fn unsupported(path: &Path, key: &str, message: impl Into<String>) -> Error {
    Error::Unsupported { path: PathBuf::from(path), key: key.into(), message: message.into() }
}
