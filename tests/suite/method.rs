//! Invariants of the edit on the pocket family: strength 0, the two processes, a published delta.

use std::collections::BTreeMap;

use diffusion::delta::{Delta, DeltaSet, Dimensions};
use diffusion::detail::Detail;
use diffusion::edit::Editor;
use diffusion::networks::unet::Checkpointing;
use diffusion::noise;
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{reverse, Branch, Condition, Interval, Process};
use diffusion::process::ddim::{invert, InversionSchedule};
use diffusion::process::mask::MaskSettings;
use diffusion::process::schedule::Schedule;
use diffusion::run::{
    dimensions, Base, DeltaConfig, EditSettings, Learned, Prompts, RunConfig, TokenConfig, FORMAT_VERSION,
};
use diffusion::tokens::{Prompt, TokenSettings, Tokens};
use diffusion::weights::{Placement, Weights};
use tch::{Device, Kind, Tensor};

use crate::fixtures::{fixture, pocket, shared_reference};

const PLACEHOLDER: &str = "<{emotion}>";

fn config(pipeline: &Pipeline, process: Process, condition: Condition, detail: Detail) -> RunConfig {
    RunConfig {
        format_version: FORMAT_VERSION,
        base: Base { name: "assets/pocket".into(), hashes: pipeline.hashes.clone() },
        loss_clip: None,
        emotions: vec!["awe".into(), "sadness".into()],
        tokens: Some(TokenConfig { placeholder_token: PLACEHOLDER.into(), num_vectors: 2 }),
        delta: Some(DeltaConfig { condition_on_token: true }),
        prompts: Prompts { source: String::new(), target: "a person showing {token}".into() },
        edit: EditSettings {
            process,
            condition,
            num_inversion_steps: 6,
            t_edit: 350,
            t_boost: 0,
            detail,
            guidance_scale: 1.0,
            mask: None,
        },
        resolution: 64,
        seed: 0,
    }
}

/// An editor whose delta is not zero, as after training.
fn editor(process: Process, condition: Condition, detail: Detail) -> Editor {
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
    editor_on(pipeline, process, condition, detail)
}

fn editor_on(pipeline: Pipeline, process: Process, condition: Condition, detail: Detail) -> Editor {
    let config = config(&pipeline, process, condition, detail);
    let learned = learned(&pipeline, &config);
    Editor::from_parts(pipeline, config, learned, Device::Cpu)
}

/// The same with other settings of the edit.
fn with_edit(editor: Editor, change: impl Fn(&mut EditSettings)) -> Editor {
    let mut config = editor.config().clone();
    change(&mut config.edit);
    let pipeline = editor.into_pipeline();
    let learned = learned(&pipeline, &config);
    Editor::from_parts(pipeline, config, learned, Device::Cpu)
}

fn learned(pipeline: &Pipeline, config: &RunConfig) -> Learned {
    let settings =
        TokenSettings { placeholder_token: PLACEHOLDER.into(), initializer_token: "{emotion}".into(), num_vectors: 2 };
    let (tokens, _) =
        Tokens::new(&pipeline.tokenizer, &pipeline.text_encoder, &config.emotions, &settings, Device::Cpu)
            .expect("the words have tokens");
    let deltas = DeltaSet::new(dimensions(pipeline, true), &config.emotions, 0, Device::Cpu);
    for (name, parameter) in deltas.named_parameters() {
        let noise = noise::normal(1, &name, 0, &parameter.size()) * 0.05;
        let _updated = tch::no_grad(|| parameter.shallow_clone().g_add_(&noise));
    }
    Learned { tokens: Some(tokens), deltas: Some(deltas) }
}

fn images() -> Tensor {
    noise::normal(0, "images", 0, &[2, 3, 64, 64]).clamp(-1.0, 1.0)
}

#[test]
fn strength_zero_returns_the_photo_bit_for_bit() {
    for process in [Process::Asymmetric, Process::Anchored] {
        let editor = editor(process, Condition::Decoder, Detail::Residual);
        let source = editor.source(&images());
        let edited = editor.edit(&source, "awe", 0.0).expect("awe is known");
        assert_eq!(edited, source.images, "{process:?}");
    }
}

#[test]
fn strength_zero_without_the_residual_returns_the_round_trip_bit_for_bit() {
    let editor = editor(Process::Asymmetric, Condition::Both, Detail::None);
    let source = editor.source(&images());
    assert_eq!(editor.edit(&source, "awe", 0.0).expect("awe is known"), source.round_trip);
}

#[test]
fn strength_is_continuous_at_zero_and_grows() {
    let editor = editor(Process::Asymmetric, Condition::Decoder, Detail::Residual);
    let source = editor.source(&images());
    let moved = |strength: f64| {
        let edited = editor.edit(&source, "awe", strength).expect("awe is known");
        (edited - &source.images).abs().mean(Kind::Double).double_value(&[])
    };
    let (tiny, half, one) = (moved(1e-3), moved(0.5), moved(1.0));
    assert!(tiny < 0.02 * one, "strength 0.001 moves the photo by {tiny}, strength 1 by {one}");
    assert!(0.0 < half && half < one, "strength 0.5 moves by {half}, strength 1 by {one}");
}

/// Strength 0 is the photo and guidance of 1 is none; a larger one moves the photo further.
#[test]
fn guidance_moves_the_edit_away_from_the_source() {
    for process in [Process::Asymmetric, Process::Anchored] {
        let moved = |scale: f64, strength: f64| {
            let editor = editor(process, Condition::Decoder, Detail::Residual);
            let editor = with_edit(editor, |edit| edit.guidance_scale = scale);
            let source = editor.source(&images());
            let edited = editor.edit(&source, "awe", strength).expect("awe is known");
            (edited - &source.images).abs().mean(Kind::Double).double_value(&[])
        };
        let (one, three) = (moved(1.0, 1.0), moved(3.0, 1.0));
        assert!(three > 1.2 * one, "{process:?}: guidance 3 moves the photo by {three}, none by {one}");
        assert_eq!(moved(3.0, 0.0), 0.0, "{process:?}");
    }
}

/// Where the mask is 0 the edited latent is the source's, bit for bit, and somewhere it is not.
#[test]
fn an_edit_stays_inside_its_mask() {
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
    let context =
        |text: &str| pipeline.context(&Prompt::plain(&pipeline.tokenizer, text), None).expand([2, -1, -1], false);
    let (source_context, edited_context) = (context("a person"), context("a person with a wide open mouth"));
    let latents = noise::normal(0, "z", 0, &[2, 4, 24, 24]);
    let schedule = InversionSchedule::new(&pipeline.schedule, 6);
    let trajectory = tch::no_grad(|| {
        invert(&pipeline.unet, &pipeline.schedule, &schedule, &latents, &source_context.narrow(0, 0, 1))
    });
    let mask = MaskSettings { threshold: 0.6 };
    for (process, t_boost) in [(Process::Asymmetric, 0), (Process::Anchored, 350)] {
        let branch = Branch {
            unet: &pipeline.unet,
            schedule: &pipeline.schedule,
            source_context: &source_context,
            edited_context: &edited_context,
            shifts: Vec::new(),
            condition: Condition::Both,
            guidance_scale: 2.0,
            mask: Some(mask),
        };
        let kept = mask.measure(&branch, &schedule, &trajectory).expand([2, 4, 24, 24], false);
        let edited = reverse(&branch, &schedule, &trajectory, process, Interval { t_edit: 350, t_boost }, 1.0, 0);
        let (outside, same) = (kept.eq(0.0), edited.eq_tensor(&trajectory.latent(0)));
        let share = |truth: &Tensor| truth.to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
        assert!(share(&outside) > 0.05 && share(&outside) < 0.95, "{process:?}: {}", share(&outside));
        assert!(share(&outside.logical_and(&same)) == share(&outside), "{process:?}");
        assert!(share(&same) < 0.99, "{process:?}");
    }
}

/// A stochastic step ends the edit: its noise goes with the strength.
#[test]
fn boosting_is_continuous_at_zero() {
    let editor = editor(Process::Asymmetric, Condition::Decoder, Detail::Residual);
    let editor = with_edit(editor, |edit| edit.t_boost = 350);
    let source = editor.source(&images());
    let moved = |strength: f64| {
        let edited = editor.edit(&source, "awe", strength).expect("awe is known");
        (edited - &source.images).abs().mean(Kind::Double).double_value(&[])
    };
    let (tiny, one) = (moved(1e-3), moved(1.0));
    assert!(tiny < 0.02 * one, "strength 0.001 moves the photo by {tiny}, strength 1 by {one}");
    assert_eq!(moved(0.0), 0.0);
}

/// A boost above t_edit would be a step from the source's own noise, and the edit made there gone.
#[test]
fn what_is_edited_is_never_boosted() {
    let edited = |t_boost: i64| {
        let editor = editor(Process::Asymmetric, Condition::Decoder, Detail::Residual);
        let editor = with_edit(editor, |edit| edit.t_boost = t_boost);
        let source = editor.source(&images());
        (editor.config().edit.warning(), editor.edit(&source, "awe", 1.0).expect("awe is known"))
    };
    let (none, at_the_edit) = edited(350);
    let (warning, above) = edited(999);
    assert_eq!(at_the_edit, above);
    assert_eq!(none, None);
    assert!(warning.is_some_and(|warning| warning.contains("edit.t_boost 999 is above edit.t_edit 350")));
}

/// Lin et al. 2024: nothing of the photo is left at the last timestep, where ᾱ is 0.
#[test]
fn a_schedule_of_zero_terminal_snr_edits_in_numbers() {
    for (prediction, last) in [("v_prediction", 999), ("epsilon", 998), ("sample", 999)] {
        for process in [Process::Asymmetric, Process::Anchored] {
            let mut pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
            pipeline.schedule = zero_terminal_snr(prediction);
            let editor = editor_on(pipeline, process, Condition::Decoder, Detail::Residual);
            let source = editor.source(&images());
            assert!(bool::try_from(source.trajectory.latents.isfinite().all()).expect("a truth"), "{prediction}");
            assert_eq!(InversionSchedule::new(&editor.pipeline().schedule, 6).timesteps().last(), Some(&last));
            assert_eq!(
                editor.edit(&source, "awe", 0.0).expect("awe is known"),
                source.images,
                "{prediction}, {process:?}"
            );
            let edited = editor.edit(&source, "awe", 1.0).expect("numbers");
            assert_ne!(edited, source.images, "{prediction}, {process:?}");
        }
    }
}

fn zero_terminal_snr(prediction: &str) -> Schedule {
    let folder = tempfile::tempdir().expect("a folder");
    let config = serde_json::json!({
        "clip_sample": false, "rescale_betas_zero_snr": true, "prediction_type": prediction,
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    });
    std::fs::write(folder.path().join("scheduler_config.json"), config.to_string()).expect("written");
    Schedule::read(folder.path()).expect("supported")
}

#[test]
fn an_edit_that_is_no_number_is_an_error() {
    let editor = editor(Process::Anchored, Condition::Decoder, Detail::Residual);
    let photo = diffusion::images::Photo::read(&fixture("images/landscape.png")).expect("a photo");
    let source = editor.source_of_photo(&photo, 64).expect("of any size");
    let emotions = [("awe".to_string(), 1.0)];
    let error = editor.edit_photo(&photo, &source, &emotions, f64::INFINITY).err().expect("no numbers");
    assert!(error.is_failure() && error.to_string().contains("not finite"), "{error}");
}

/// Whose encoder pass is computed: the source's where the decoder alone sees the prompt, or where D is to be had.
#[test]
fn the_sources_encoder_runs_only_where_it_is_asked_for() {
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
    let context = pipeline.context(&Prompt::plain(&pipeline.tokenizer, ""), None);
    let z = noise::normal(0, "z", 0, &[1, 4, 8, 8]);
    for (condition, encodes) in [(Condition::Both, false), (Condition::Decoder, true)] {
        let branch = Branch {
            unet: &pipeline.unet,
            schedule: &pipeline.schedule,
            source_context: &context,
            edited_context: &context,
            shifts: Vec::new(),
            condition,
            guidance_scale: 1.0,
            mask: None,
        };
        let pass = branch.source_pass(&z, &[500]);
        let edited = branch.edited_pass(&pass, 1.0, Checkpointing::Off).output().shallow_clone();
        assert_eq!(pass.has_encoded(), encodes, "{condition:?}");
        // The same prompt on both sides, and no delta: the same output.
        assert_eq!(edited, pass.output(), "{condition:?}");
        assert!(pass.has_encoded());
    }
}

#[test]
fn emotions_differ_and_mix() {
    let editor = editor(Process::Anchored, Condition::Decoder, Detail::Residual);
    let source = editor.source(&images());
    let awe = editor.edit(&source, "awe", 1.0).expect("awe is known");
    let sadness = editor.edit(&source, "sadness", 1.0).expect("sadness is known");
    let both = [("awe".to_string(), 1.0), ("sadness".to_string(), 0.5)];
    let mixed = editor.edit_mixed(&source, &both, 1.0).expect("both are known");
    assert_ne!(awe, sadness);
    assert!(mixed != awe && mixed != sadness);
    let error = editor.edit(&source, "joy", 1.0).expect_err("joy was not trained").to_string();
    assert!(error.contains("awe, sadness"), "{error}");
}

#[test]
fn a_published_asyrp_delta_loads_and_runs() {
    let Some(path) = shared_reference("asyrp/delta_h_sad_celebahq.safetensors") else { return };
    let weights = Weights::from_file(&path, Placement::new(Device::Cpu, Kind::Float)).expect("the file is readable");
    let dimensions = Dimensions { channels: 512, temb_channels: 512, token_features: None };
    let delta = Delta::load(&weights.root(), dimensions, Device::Cpu).expect("Asyrp's names are ours");
    weights.finish(|_| false).expect("every tensor of the file is used");
    let h = noise::normal(0, "h", 0, &[1, 512, 8, 8]);
    let temb = noise::normal(0, "temb", 0, &[1, 512]);
    let out = delta.forward(&h, &temb, None);
    let expected = reference_delta(&delta.named_parameters().into_iter().collect(), &h, &temb);
    assert!((out - expected).abs().max().double_value(&[]) < 1e-4);
}

/// Asyrp's `DeltaBlock` written out by hand in double precision.
fn reference_delta(p: &BTreeMap<String, Tensor>, h: &Tensor, temb: &Tensor) -> Tensor {
    let p = |name: &str| p[name].to_kind(Kind::Double);
    let conv = |x: &Tensor, name: &str| {
        let weight = p(&format!("{name}.weight")).squeeze_dim(-1).squeeze_dim(-1);
        Tensor::einsum("oc,bchw->bohw", &[weight, x.shallow_clone()], None::<i64>)
            + p(&format!("{name}.bias")).view([1, -1, 1, 1])
    };
    let (h, temb) = (h.to_kind(Kind::Double), temb.to_kind(Kind::Double));
    let time = (&temb * temb.sigmoid()).matmul(&p("temb_proj.weight").tr()) + p("temb_proj.bias");
    let x = conv(&h, "conv1") + time.unsqueeze(-1).unsqueeze(-1);
    let grouped = x.view([1, 32, -1]);
    let mean = grouped.mean_dim([-1].as_slice(), true, Kind::Double);
    let variance = grouped.var_dim([-1].as_slice(), false, true);
    let normal = ((grouped - mean) / (variance + 1e-6).sqrt()).view_as(&x);
    let x = normal * p("norm2.weight").view([1, -1, 1, 1]) + p("norm2.bias").view([1, -1, 1, 1]);
    conv(&(&x * x.sigmoid()), "conv2").to_kind(Kind::Float)
}
