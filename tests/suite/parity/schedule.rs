//! Parity of the noise schedule with diffusers' DDIMScheduler.
//!
//! Fixture: python tests/fixtures/schedule/make.py (torch 2.11.0, diffusers 0.42.1)

use std::collections::BTreeMap;
use std::path::Path;

use diffusion::losses::denoising::denoising;
use diffusion::process::ddim::InversionSchedule;
use diffusion::process::schedule::{Prediction, Schedule};
use diffusion::Error;
use serde::Deserialize;
use serde_json::{json, Value};
use tch::{Kind, Tensor};

use crate::fixtures::{assert_close, fixture, pocket, tensors};

#[derive(Deserialize)]
struct Case {
    config: Value,
    at: Vec<i64>,
    timesteps: BTreeMap<String, Vec<i64>>,
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read_to_string(fixture("schedule/cases.json")).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture parses")
}

fn read(config: &Value) -> Result<Schedule, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("scheduler_config.json"), config.to_string()).expect("the folder is writable");
    Schedule::read(folder.path())
}

fn error(config: Value) -> String {
    read(&config).expect_err("the configuration is refused").to_string()
}

#[test]
fn alphas_cumprod_equal_diffusers() {
    let expected = tensors("schedule/schedule.safetensors");
    for (name, case) in cases() {
        let schedule = read(&case.config).expect("the case is supported");
        let found = Tensor::from_slice(schedule.alphas_cumprod());
        let difference = (found - &expected[&format!("{name}.alphas_cumprod")]).abs().max().double_value(&[]);
        assert!(difference <= 1e-6, "{name}: ᾱ differs by {difference:.2e}");
        let last = expected[&format!("{name}.final_alpha")].double_value(&[0]);
        assert!((schedule.alpha_bar(-1) - last).abs() <= 1e-6, "{name}: final ᾱ {} not {last}", schedule.alpha_bar(-1));
    }
}

#[test]
fn timesteps_equal_diffusers() {
    for (name, case) in cases() {
        let schedule = read(&case.config).expect("the case is supported");
        for (n, expected) in &case.timesteps {
            let n: i64 = n.parse().expect("a number of steps");
            assert_eq!(&schedule.inference_timesteps(n).expect("a valid number"), expected, "{name}, {n} steps");
        }
    }
}

#[test]
fn implied_noise_equals_diffusers() {
    let expected = tensors("schedule/schedule.safetensors");
    for (name, case) in cases() {
        let schedule = read(&case.config).expect("the case is supported");
        let noise = schedule.noise_from_output(&expected["output"], &expected["z"], &case.at);
        assert_close(&name, &noise, &expected[&format!("{name}.noise")], 1e-5);
        for (row, &t) in case.at.iter().enumerate() {
            let pick = |x: &Tensor| x.narrow(0, row as i64, 1);
            let alone = schedule.noise_from_output(&pick(&expected["output"]), &pick(&expected["z"]), &[t]);
            assert_eq!(alone, pick(&noise), "{name}: a row alone differs from the same row in a batch");
        }
    }
}

/// At the last timestep of a schedule of zero terminal SNR too, where ᾱ is 0.
#[test]
fn implied_clean_latents_equal_diffusers() {
    let expected = tensors("schedule/schedule.safetensors");
    for (name, case) in cases() {
        let schedule = read(&case.config).expect("the case is supported");
        let clean = schedule.clean_from_output(&expected["output"], &expected["z"], &case.at);
        assert_close(&name, &clean, &expected[&format!("{name}.clean")], 1e-5);
    }
    assert_eq!(read(&cases()["zero_snr"].config).expect("supported").alpha_bar(999), 0.0);
}

#[test]
fn min_snr_weights_are_those_of_diffusers_and_finite_where_nothing_is_left() {
    let expected = tensors("schedule/schedule.safetensors");
    let (zeros, ones) =
        (Tensor::zeros([1, 1, 1, 1], tch::kind::FLOAT_CPU), Tensor::ones([1, 1, 1, 1], tch::kind::FLOAT_CPU));
    for (name, case) in cases() {
        let schedule = read(&case.config).expect("the case is supported");
        // An error of 1 everywhere: the loss is the weight.
        let weight = |prediction: Prediction, alpha: f64| {
            denoising(prediction, &ones, &zeros, &(&ones * alpha), Some(5.0)).double_value(&[])
        };
        for (k, &t) in case.at.iter().enumerate() {
            let found = weight(schedule.prediction(), schedule.alpha_bar(t));
            let Some(expected) = expected.get(&format!("{name}.min_snr")) else { continue };
            let expected = expected.double_value(&[k as i64]);
            assert!(
                (found - expected).abs() <= 1e-5 * expected.max(1.0),
                "{name}, t {t}: {found}, diffusers has {expected}"
            );
        }
        for prediction in [Prediction::Epsilon, Prediction::VPrediction, Prediction::Sample] {
            assert!(weight(prediction, 0.0).is_finite(), "{prediction:?}");
        }
    }
}

/// ε says nothing of the latent where nothing of it is left; v does.
#[test]
fn the_inversion_ends_where_the_output_means_something() {
    let zero_snr = |prediction: &str| {
        read(&json!({"clip_sample": false, "rescale_betas_zero_snr": true, "prediction_type": prediction}))
            .expect("supported")
    };
    assert_eq!(InversionSchedule::new(&zero_snr("epsilon"), 3).timesteps(), [0, 499, 998]);
    assert_eq!(InversionSchedule::new(&zero_snr("v_prediction"), 3).timesteps(), [0, 499, 999]);
    assert_eq!(Schedule::read(&pocket("scheduler")).expect("the embedded one").last_timestep(), 999);
}

#[test]
fn implied_noise_keeps_the_outputs_kind() {
    let schedule = read(&json!({"clip_sample": false, "prediction_type": "v_prediction"})).expect("supported");
    let z = Tensor::zeros([1, 4, 2, 2], (Kind::BFloat16, tch::Device::Cpu));
    assert_eq!(schedule.noise_from_output(&z, &z, &[5]).kind(), Kind::BFloat16);
}

#[test]
fn published_scheduler_files_are_read_as_ddim() {
    // stable-diffusion-v1-5/stable-diffusion-v1-5, scheduler/scheduler_config.json
    let sd15 = read(&json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
        "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
        "clip_sample": false
    }))
    .expect("SD 1.5's scheduler is supported");
    assert_eq!(sd15.prediction(), Prediction::Epsilon);
    assert_eq!(sd15.alpha_bar(-1), sd15.alpha_bar(0));
    assert_eq!(sd15.inference_timesteps(4).expect("four steps"), [751, 501, 251, 1]);
    // stabilityai/stable-diffusion-2-1, scheduler/scheduler_config.json
    let sd21 = read(&json!({
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false, "num_train_timesteps": 1000,
        "prediction_type": "v_prediction", "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1,
        "trained_betas": null
    }))
    .expect("SD 2.1's scheduler is supported");
    assert_eq!(sd21.prediction(), Prediction::VPrediction);
    assert_eq!(sd21.alphas_cumprod(), sd15.alphas_cumprod());
    assert_eq!(Schedule::read(&pocket("scheduler")).expect("the embedded one").alphas_cumprod(), sd15.alphas_cumprod());
}

#[test]
fn unsupported_schedules_are_refused_by_name() {
    let with = |key: &str, value: Value| error(json!({"clip_sample": false, key: value}));
    for (message, says) in [
        (
            with("prediction_type", json!("flow_prediction")),
            "prediction_type: is flow_prediction, supported are epsilon",
        ),
        (with("timestep_spacing", json!("karras")), "timestep_spacing: is karras, supported are leading"),
        (with("beta_schedule", json!("sigmoid")), "beta_schedule: is sigmoid, supported are linear"),
        (with("thresholding", json!(true)), "thresholding: is true, supported is false"),
        (with("shift", json!(3.0)), "shift: is not a key known here"),
        (with("trained_betas", json!([0.1, 0.2])), "trained_betas: has 2 values for num_train_timesteps 1000"),
        (with("steps_offset", json!("one")), "invalid type"),
        (error(json!({"clip_sample": true})), "clip_sample: is true"),
        (error(json!({"_class_name": "DDPMScheduler"})), "clip_sample: is true"),
    ] {
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert!(message.contains("scheduler_config.json"), "{message:?} does not name the file");
    }
    let missing = Schedule::read(Path::new("/no/such/folder")).expect_err("there is none").to_string();
    assert!(missing.contains("/no/such/folder/scheduler_config.json"), "{missing}");
}

#[test]
fn step_counts_beyond_the_schedule_are_refused() {
    let schedule = read(&json!({"clip_sample": false, "steps_offset": 1})).expect("supported");
    for n in [0, -3, 1001] {
        assert!(schedule.inference_timesteps(n).is_err(), "{n} steps were accepted");
    }
    let past = schedule.inference_timesteps(1000).expect_err("1000 is past the end").to_string();
    assert!(past.contains("steps_offset 1 leads past the last timestep 999"), "{past}");
}
