//! Invariants of the edit on the pocket family: strength 0, the two processes, a published delta.

use std::collections::BTreeMap;

use diffusion::delta::{Delta, DeltaSet, Dimensions};
use diffusion::detail::Detail;
use diffusion::edit::Editor;
use diffusion::noise;
use diffusion::pipeline::Pipeline;
use diffusion::process::asyrp::{Condition, Process};
use diffusion::run::{
    dimensions, Base, DeltaConfig, EditSettings, Learned, Prompts, RunConfig, TokenConfig, FORMAT_VERSION,
};
use diffusion::tokens::{TokenSettings, Tokens};
use diffusion::weights::Weights;
use tch::{Device, Kind, Tensor};

use crate::fixtures::{pocket, shared_reference};

const PLACEHOLDER: &str = "<{emotion}>";

fn config(pipeline: &Pipeline, process: Process, condition: Condition, detail: Detail) -> RunConfig {
    RunConfig {
        format_version: FORMAT_VERSION,
        base: Base { name: "assets/pocket".into(), hashes: pipeline.hashes.clone() },
        loss_clip: None,
        emotions: vec!["awe".into(), "sadness".into()],
        tokens: Some(TokenConfig { placeholder_token: PLACEHOLDER.into(), num_vectors: 2 }),
        delta: Some(DeltaConfig { condition_on_token: true }),
        prompts: Prompts { source: String::new(), target: "an emoji evoking {token}".into() },
        edit: EditSettings { process, condition, num_inversion_steps: 6, t_edit: 350, t_boost: 0, detail },
        resolution: 64,
        seed: 0,
    }
}

/// An editor whose delta is not zero, as after training.
fn editor(process: Process, condition: Condition, detail: Detail) -> Editor {
    let pipeline = Pipeline::load(&pocket(""), Device::Cpu, Kind::Float).expect("the pocket family loads");
    let config = config(&pipeline, process, condition, detail);
    let settings =
        TokenSettings { placeholder_token: PLACEHOLDER.into(), initializer_token: "{emotion}".into(), num_vectors: 2 };
    let (tokens, _) =
        Tokens::new(&pipeline.tokenizer, &pipeline.text_encoder, &config.emotions, &settings, Device::Cpu)
            .expect("the words have tokens");
    let deltas = DeltaSet::new(dimensions(&pipeline, true), &config.emotions, 0, Device::Cpu);
    for (name, parameter) in deltas.named_parameters() {
        let noise = noise::normal(1, &name, 0, &parameter.size()) * 0.05;
        let _updated = tch::no_grad(|| parameter.shallow_clone().g_add_(&noise));
    }
    Editor::from_parts(pipeline, config, Learned { tokens: Some(tokens), deltas: Some(deltas) }, Device::Cpu)
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
    let weights = Weights::from_file(&path, Device::Cpu, Kind::Float).expect("the file is readable");
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
