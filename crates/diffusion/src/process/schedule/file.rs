//! scheduler_config.json, as every sampler of Stable Diffusion in diffusers writes it.
//!
//! Keys about the betas, or about what the network predicts, are honoured or refused. Keys that only steer the
//! sampler that wrote the file are ignored, and named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};

use super::{Prediction, Schedule, Spacing};
use crate::error::{Error, Result};

/// diffusers' schedulers over betas in discrete time. The others are for other processes: flow matching, EDM, shifted
/// SNR.
const CLASSES: [&str; 22] = [
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "RePaintScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
];

/// Keys that steer other samplers, or parts of DDIM that are off; they say nothing about the noise process.
const SAMPLER_KEYS: [&str; 32] = [
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
    "interpolation_type",
    "lambda_min_clipped",
    "predict_x0",
    "disable_corrector",
    "predictor_order",
    "corrector_order",
    "tau_func",
    "noise_sampler_seed",
    "eta",
    "clip_sample_range",
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "original_inference_steps",
    "timestep_scaling",
    // These four shape the sigmas of flow matching alone, which use_flow_sigmas switches on.
    "flow_shift",
    "time_shift_type",
    "shift_terminal",
    "use_dynamic_shifting",
];

/// Keys that change the network's input or the meaning of its output: only values that change nothing are accepted.
fn neutral_values() -> Vec<(&'static str, Vec<Value>)> {
    vec![
        ("use_flow_sigmas", vec![json!(false)]),
        ("timestep_type", vec![json!("discrete")]),
        ("predict_epsilon", vec![json!(true)]),
        (
            "variance_type",
            vec![
                Value::Null,
                json!("fixed_small"),
                json!("fixed_small_log"),
                json!("fixed_large"),
                json!("fixed_large_log"),
            ],
        ),
    ]
}

/// More training timesteps than any model has.
const MAX_TIMESTEPS: i64 = 100_000;

/// What [`Schedule`] needs, with DDIMScheduler's defaults.
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

/// The schedule of a scheduler_config.json's value, and the sampler's keys that were ignored; errors name `path`.
pub(crate) fn from_json(path: &Path, json: Value) -> Result<(Schedule, Vec<String>)> {
    check_choices(path, &json)?;
    let raw: Raw = serde_json::from_value(json).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
    let is_set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    let own = raw.others.iter().filter(|(key, value)| SAMPLER_KEYS.contains(&key.as_str()) && is_set(value));
    let passed_by = own.map(|(key, _)| key.clone()).collect();
    Ok((raw.resolve(path)?, passed_by))
}

impl Raw {
    fn resolve(self, path: &Path) -> Result<Schedule> {
        self.check(path)?;
        let betas = self.betas(path)?;
        if !Vec::<f64>::try_from(&betas)?.iter().all(|beta| (0.0..=1.0).contains(beta)) {
            let message = "a step of the noise process has a beta between 0 and 1";
            return Err(unsupported(path, "beta_start, beta_end, trained_betas", message));
        }
        let betas = if self.rescale_betas_zero_snr { rescale_zero_terminal_snr(&betas) } else { betas };
        let alphas_cumprod = (1f64 - betas).cumprod(0, Kind::Float).to_kind(Kind::Double);
        let alphas_cumprod = Vec::<f64>::try_from(&alphas_cumprod)?;
        if !alphas_cumprod.iter().all(|alpha| (0.0..=1.0).contains(alpha)) {
            let message = "lead out of 0 to 1: no noise process has such betas";
            return Err(unsupported(path, "beta_start, beta_end, trained_betas", message));
        }
        Ok(Schedule {
            final_alpha: if self.set_alpha_to_one { 1.0 } else { alphas_cumprod[0] },
            alphas_cumprod,
            prediction: self.prediction_type,
            spacing: self.timestep_spacing,
            steps_offset: self.steps_offset,
        })
    }

    fn check(&self, path: &Path) -> Result<()> {
        if !CLASSES.contains(&self.class_name.as_str()) {
            let message = format!(
                "is {}, whose noise process is not Stable Diffusion's; supported are the schedulers over betas, such as \
                 DDIMScheduler",
                self.class_name
            );
            return Err(unsupported(path, "_class_name", message));
        }
        // For these classes an absent key means true; the others do not have it.
        let clips_by_default = self.class_name.starts_with("DDIM") || self.class_name.starts_with("DDPM");
        if self.clip_sample.unwrap_or(clips_by_default) {
            let message = "is true (the default of this class), supported is false: latents are not bounded by 1";
            return Err(unsupported(path, "clip_sample", message));
        }
        if self.thresholding {
            return Err(unsupported(path, "thresholding", "is true, supported is false: latents are not bounded"));
        }
        if !(1..=MAX_TIMESTEPS).contains(&self.num_train_timesteps) || self.steps_offset < 0 {
            let message = format!("must be 1 to {MAX_TIMESTEPS}, and at least 0");
            return Err(unsupported(path, "num_train_timesteps, steps_offset", message));
        }
        self.check_others(path)
    }

    fn check_others(&self, path: &Path) -> Result<()> {
        let neutral = neutral_values();
        for (key, value) in self.others.iter().filter(|(key, _)| !key.starts_with('_')) {
            match neutral.iter().find(|(name, _)| name == key) {
                Some((_, accepted)) if accepted.contains(value) => {}
                Some((_, accepted)) => {
                    let accepted: Vec<String> = accepted.iter().map(Value::to_string).collect();
                    let message = format!(
                        "is {value}, supported is {}: the network is of another process",
                        accepted.join(" or ")
                    );
                    return Err(unsupported(path, key, message));
                }
                None if SAMPLER_KEYS.contains(&key.as_str()) => {}
                None => {
                    let message = "is not a key known here; remove it if the betas do not depend on it";
                    return Err(unsupported(path, key, message));
                }
            }
        }
        Ok(())
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

/// Names the choices; serde alone would only say that a variant is unknown.
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
