//! The noise schedule of a single file, which has to be inferred.
//!
//! Every Stable Diffusion 1.x and 2.x was trained with the same betas. What the UNet predicts is looked up in this
//! order: a file NAME.scheduler_config.json beside NAME.safetensors; the marks `v_pred` and `ztsnr`; the header's
//! `modelspec.prediction_type`; the family. As in diffusers, 1.x predicts ε and 2.x the velocity, except for the 512
//! px base of 2.0, which is recognised by its `global_step`.

use std::path::{Path, PathBuf};

use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};

use super::Family;
use crate::error::{Error, Result};
use crate::json;
use crate::process::schedule::{self, Schedule};
use crate::weights::{self, Placement, Weights};

/// The training steps of Stable Diffusion 2.0's base; diffusers recognises it by them.
const STEPS_OF_2_0_BASE: i64 = 875_000;
/// How far an ᾱ stored in half precision may be from Stable Diffusion's own.
const TOLERANCE: f64 = 2e-3;

/// The schedule of `path`, and the ignored keys of a scheduler_config.json beside it.
pub(crate) fn read(path: &Path) -> Result<(Schedule, Vec<String>)> {
    let (mut config, mut of) = (stable_diffusion(), path.to_path_buf());
    let beside = beside(path);
    if beside.is_file() {
        let Value::Object(keys) = json::read(&beside)? else {
            return Err(Error::invalid(beside.display().to_string(), "expected an object of a scheduler's keys"));
        };
        keys.into_iter().for_each(|(key, value)| config[key] = value);
        of = beside;
    } else {
        let marks = Weights::from_part(path, Placement::new(Device::Cpu, Kind::Double), is_mark)?;
        check_alphas(path, &marks)?;
        config["prediction_type"] = prediction(path, &marks)?.into();
        config["rescale_betas_zero_snr"] = has(&marks, "ztsnr").into();
    }
    schedule::from_json(&of, config)
}

/// The settings that every Stable Diffusion 1.x and 2.x shares, as in diffusers' own files for them.
fn stable_diffusion() -> Value {
    json!({
        "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "num_train_timesteps": 1000, "clip_sample": false, "set_alpha_to_one": false, "steps_offset": 1,
    })
}

fn beside(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!("{stem}.scheduler_config.json"))
}

fn is_mark(name: &str) -> bool {
    ["v_pred", "ztsnr", "alphas_cumprod", "global_step"].contains(&name)
}

fn has(marks: &Weights, mark: &str) -> bool {
    marks.names().any(|name| name == mark)
}

fn prediction(path: &Path, marks: &Weights) -> Result<&'static str> {
    if has(marks, "v_pred") {
        return Ok("v_prediction");
    }
    match marks.metadata().get("modelspec.prediction_type").map(String::as_str) {
        Some("v" | "v_prediction") => return Ok("v_prediction"),
        Some("epsilon" | "eps") => return Ok("epsilon"),
        Some(other) => return Err(advise(path, "modelspec.prediction_type", format!("is {other}"))),
        None => {}
    }
    if super::family(path)? == Family::One {
        return Ok("epsilon");
    }
    if weights::integer(path, "global_step")? == Some(STEPS_OF_2_0_BASE) {
        return Ok("epsilon");
    }
    tracing::warn!(
        "{}: does not say what its UNet predicts; taken for v_prediction, as diffusers does; if it is a 512 px base model, \
         write {} with {{\"prediction_type\": \"epsilon\"}}",
        path.display(),
        beside(path).display()
    );
    Ok("v_prediction")
}

/// Fails if the file stores an ᾱ that is not Stable Diffusion's.
fn check_alphas(path: &Path, marks: &Weights) -> Result<()> {
    if !has(marks, "alphas_cumprod") || has(marks, "ztsnr") {
        return Ok(());
    }
    let found = marks.root().tensor_of_any_shape("alphas_cumprod")?;
    let (usual, _) = schedule::from_json(path, stable_diffusion())?;
    let usual = Tensor::from_slice(usual.alphas_cumprod());
    let fits = found.size() == usual.size() && (found - usual).abs().max().double_value(&[]) <= TOLERANCE;
    match fits {
        true => Ok(()),
        false => Err(advise(path, "alphas_cumprod", "is not that of Stable Diffusion".into())),
    }
}

fn advise(path: &Path, key: &str, found: String) -> Error {
    let beside = beside(path);
    let message = format!("{found}; say the schedule in {} (diffusers' keys)", beside.display());
    Error::Unsupported { path: path.to_path_buf(), key: key.into(), message }
}
