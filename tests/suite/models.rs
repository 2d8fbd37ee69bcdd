//! Models as they lie on disk: every layout of diffusers and transformers is read to the same weights, from headers as from
//! values, and parts that do not fit each other are refused by name.
//!
//! dpm_multistep.json was saved by diffusers 0.42.1 (`DPMSolverMultistepScheduler.from_config(…).save_pretrained`),
//! padded.json by tokenizers 0.23.3 with padding and truncation on; `tests/peers/model_layouts.py` has the folders that three
//! versions of diffusers really write.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use diffusion::pipeline::{Part, Pipeline};
use diffusion::process::schedule::Schedule;
use diffusion::text::cleaning::Cleaning;
use diffusion::text::tokenizer::Tokenizer;
use diffusion::weights::{write_file, Placement, Weights};
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};

use crate::fixtures::{fixture, pocket};

const VALUES: fn() -> Placement = || Placement::new(Device::Cpu, Kind::Float);

/// A copy of the pocket pipeline that a test may change.
fn pipeline() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for part in ["unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        let to = folder.path().join(part);
        fs::create_dir(&to).expect("a folder");
        for entry in fs::read_dir(pocket(part)).expect("a part") {
            let from = entry.expect("an entry").path();
            fs::copy(&from, to.join(from.file_name().expect("a name"))).expect("copied");
        }
    }
    folder
}

fn named(folder: &Path, part: Part) -> BTreeMap<String, Tensor> {
    let weights = part.weights(folder, VALUES()).expect("readable");
    weights.tensors().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).collect()
}

fn rewrite(folder: &Path, part: Part, change: impl FnOnce(Vec<(String, Tensor)>) -> Vec<(String, Tensor)>) {
    let file = folder.join(format!("{}.safetensors", part.stem()));
    let tensors = change(named(folder, part).into_iter().collect());
    write_file(&file, &tensors, None).expect("written");
}

fn set(path: &Path, key: &str, value: Value) {
    let mut config: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    config[key] = value;
    fs::write(path, config.to_string()).expect("written");
}

/// What the pipeline says, from headers and, where those pass, from values.
fn refusal(folder: &Path) -> String {
    let headers = Pipeline::load_with(folder, Placement::headers(Kind::Float)).expect_err("headers do").to_string();
    let values = Pipeline::load_with(folder, VALUES()).expect_err("values do").to_string();
    assert_eq!(headers, values, "the check says what the run would");
    headers
}

#[test]
fn what_loads_from_headers_loads_and_both_have_the_same_shapes() {
    let (folder, headers) = (pocket(""), Placement::headers(Kind::Float));
    Pipeline::load_with(&folder, headers).expect("the headers fit");
    for part in [Part::Unet, Part::Vae, Part::TextEncoder] {
        let weights = part.weights(&folder.join(part.name()), headers).expect("headers");
        let values = named(&folder.join(part.name()), part);
        let shapes: BTreeMap<String, Vec<i64>> = weights.tensors().map(|(n, t)| (n.to_string(), t.size())).collect();
        assert_eq!(shapes, values.iter().map(|(n, t)| (n.clone(), t.size())).collect());
    }
}

#[test]
fn compiled_names_and_harmless_tensors_are_read_and_unknown_ones_are_not() {
    let base = pipeline();
    let unet = base.path().join("unet");
    let before = named(&unet, Part::Unet);
    rewrite(&unet, Part::Unet, |all| all.into_iter().map(|(name, t)| (format!("_orig_mod.{name}"), t)).collect());
    let after = named(&unet, Part::Unet);
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    assert!(before.iter().all(|(name, tensor)| after[name].equal(tensor)));
    let text = base.path().join("text_encoder");
    rewrite(&text, Part::TextEncoder, |mut all| {
        all.push(("text_projection.weight".into(), Tensor::zeros([64, 64], (Kind::Float, Device::Cpu))));
        all.push(("text_model.embeddings.position_ids".into(), Tensor::arange(77, (Kind::Int64, Device::Cpu))));
        all
    });
    narrow_position_ids(&text.join("model.safetensors"));
    Pipeline::load_with(base.path(), VALUES()).expect("all of it is known");
    rewrite(&unet, Part::Unet, |mut all| {
        all.push(("mid_block.adapter.weight".into(), Tensor::zeros([1], (Kind::Float, Device::Cpu))));
        all
    });
    assert!(refusal(base.path()).contains("mid_block.adapter.weight"));
}

/// Makes the 64-bit position ids of a file 32-bit ones of half as many places: only dtype and shape are looked at.
fn narrow_position_ids(path: &Path) {
    let bytes = fs::read(path).expect("read");
    let text = String::from_utf8_lossy(&bytes[8..8 + bytes[0] as usize + 256 * bytes[1] as usize]).into_owned();
    let changed = text.replace(r#""dtype":"I64","shape":[77]"#, r#""dtype":"I32","shape":[154]"#);
    assert_ne!(text, changed);
    let padded = format!("{changed:<width$}", width = text.len() + 8);
    let header = (padded.len() as u64).to_le_bytes();
    let whole = [header.as_slice(), padded.as_bytes(), &bytes[8 + text.len()..]].concat();
    fs::write(path, whole).expect("written");
}

#[test]
fn a_variant_is_read_where_there_is_nothing_else() {
    let base = pipeline();
    let vae = base.path().join("vae");
    let before = named(&vae, Part::Vae);
    let from = vae.join("diffusion_pytorch_model.safetensors");
    fs::rename(from, vae.join("diffusion_pytorch_model.bf16.safetensors")).expect("renamed");
    let after = named(&vae, Part::Vae);
    assert!(before.iter().all(|(name, tensor)| after[name].equal(tensor)));
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused_by_name() {
    for (part, key, value, says) in [
        ("unet", "in_channels", json!(9), "inpainting"),
        ("unet", "in_channels", json!(8), "InstructPix2Pix"),
        ("unet", "out_channels", json!(8), "latents of vae have 4"),
        ("unet", "cross_attention_dim", json!(1024), "text_encoder gives"),
        ("unet", "class_embed_type", json!("projection"), "class_embed_type"),
        ("unet", "addition_embed_type", json!("text_time"), "addition_embed_type"),
        ("vae", "in_channels", json!(4), "photos have 3"),
        ("vae", "latent_channels", json!(16), "in_channels"),
        ("text_encoder", "vocab_size", json!(100), "vocabulary"),
        ("text_encoder", "max_position_embeddings", json!(8), "model_max_length"),
    ] {
        let base = pipeline();
        set(&base.path().join(part).join("config.json"), key, value.clone());
        let message = refusal(base.path());
        assert!(message.contains(says), "{part} {key} {value}: {message}");
    }
}

#[test]
fn a_samplers_own_keys_are_passed_by_and_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("scheduler_config.json");
    fs::copy(fixture("models/dpm_multistep.json"), &path).expect("copied");
    let (schedule, passed_by) = Schedule::read_noting(folder.path()).expect("as diffusers saved it");
    let pocket = Schedule::read(&pocket("scheduler")).expect("the embedded one");
    assert_eq!(schedule.alphas_cumprod(), pocket.alphas_cumprod());
    assert!(["lambda_min_clipped", "use_karras_sigmas", "solver_order"]
        .iter()
        .all(|key| passed_by.contains(&key.to_string())));
    for (key, value) in [
        ("use_flow_sigmas", json!(true)),
        ("variance_type", json!("learned_range")),
        ("predict_epsilon", json!(false)),
        ("timestep_type", json!("continuous")),
        ("_class_name", json!("FlowMatchEulerDiscreteScheduler")),
        ("beta_end", json!(1.5)),
    ] {
        fs::copy(fixture("models/dpm_multistep.json"), &path).expect("copied");
        let text = fs::read_to_string(&path).expect("read").replace("-Infinity", "null");
        fs::write(&path, text).expect("written");
        set(&path, key, value);
        let message = Schedule::read(folder.path()).expect_err(key).to_string();
        assert!(message.contains(key), "{message}");
    }
    fs::write(&path, "\u{feff}{\"clip_sample\": false, \"flow_shift\": 1.0, \"beta_end\": NaN}").expect("written");
    assert!(Schedule::read(folder.path()).expect_err("no number").to_string().contains("NaN"));
}

#[test]
fn padding_and_truncation_of_a_tokenizer_json_are_cleared() {
    let folder = tempfile::tempdir().expect("a folder");
    let from = pocket("tokenizer");
    fs::copy(from.join("tokenizer_config.json"), folder.path().join("tokenizer_config.json")).expect("copied");
    let padded = fs::read_to_string(fixture("models/padded.json")).expect("read");
    for text in [padded.clone(), format!("\u{feff}{padded}")] {
        fs::write(folder.path().join("tokenizer.json"), text).expect("written");
        let found = Tokenizer::load(folder.path()).expect("readable").with_cleaning(Cleaning::None);
        let expected = Tokenizer::load(&from).expect("readable").with_cleaning(Cleaning::None);
        let long = "a photo evoking awe, ".repeat(20);
        for prompt in ["", "a photo evoking sadness", "naïve Ångström 12", &long] {
            assert_eq!(found.words(prompt), expected.words(prompt), "{prompt}");
            assert_eq!(found.encode(prompt), expected.encode(prompt), "{prompt}");
        }
    }
    let other = padded.replace(r#""type": "Lowercase""#, r#""type": "NFC""#);
    assert_ne!(other, padded);
    fs::write(folder.path().join("tokenizer.json"), other).expect("written");
    let message = Tokenizer::load(folder.path()).expect_err("case is kept there").to_string();
    assert!(message.contains("otherwise than CLIP"), "{message}");
}

#[test]
fn what_is_no_whole_stable_diffusion_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("model.safetensors");
    let zeros = |name: &str| (name.to_string(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    for (names, says) in [
        (vec!["lora_unet.down.weight"], "text encoder"),
        (vec!["conditioner.embedders.0.transformer.weight"], "Stable Diffusion XL"),
        (vec!["cond_stage_model.transformer.text_model.x"], "model.diffusion_model"),
    ] {
        write_file(&file, &names.iter().map(|n| zeros(n)).collect::<Vec<_>>(), None).expect("written");
        let message = Pipeline::load_with(&file, Placement::headers(Kind::Float)).expect_err(says).to_string();
        assert!(message.contains(says) || message.contains("token_embedding"), "{names:?}: {message}");
    }
    assert!(Weights::from_file(&file, VALUES()).is_ok());
}
