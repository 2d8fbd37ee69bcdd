//! Parity of AutoencoderKl and AutoencoderTiny with diffusers' AutoencoderKL and AutoencoderTiny.
//!
//! Fixture: python tests/fixtures/vae/make.py (torch 2.11.0, diffusers 0.42.1)

use diffusion::networks::decoder::LatentDecoder;
use diffusion::networks::tiny_vae::AutoencoderTiny;
use diffusion::networks::vae::AutoencoderKl;
use diffusion::Error;
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::fixtures::{assert_close, fixture, pocket, tensors};

const KL: [&str; 3] = ["old_names", "one_layer", "bare"];
const TINY: [&str; 2] = ["tiny", "tiny_taesd"];

fn kl(case: &str) -> AutoencoderKl {
    AutoencoderKl::load(&fixture(&format!("vae/{case}")), Device::Cpu, Kind::Float).expect("the case is supported")
}

fn tiny(case: &str) -> AutoencoderTiny {
    AutoencoderTiny::load(&fixture(&format!("vae/{case}")), Device::Cpu, Kind::Float).expect("the case is supported")
}

fn assert_same(case: &str, vae: &AutoencoderKl, data: &std::collections::BTreeMap<String, Tensor>) {
    let posterior = vae.encode(&data["images"]);
    assert_close(&format!("{case}: mean"), &posterior.mean, &data["mean"], 1e-4);
    // Deviations span many magnitudes, so their logarithms are compared.
    assert_close(&format!("{case}: log of std"), &posterior.std.log(), &data["std"].log(), 1e-4);
    assert_close(&format!("{case}: images"), &vae.decode(&data["latents"]), &data["decoded"], 1e-4);
}

#[test]
fn posterior_and_images_equal_diffusers() {
    for case in KL {
        assert_same(case, &kl(case), &tensors(&format!("vae/{case}/expected.safetensors")));
    }
}

#[test]
fn log_variances_stop_at_both_bounds() {
    let std = kl("bare").encode(&tensors("vae/bare/expected.safetensors")["images"]).std;
    assert_eq!(std.max().double_value(&[]) as f32, 10f32.exp());
    assert_eq!(std.min().double_value(&[]) as f32, (-15f32).exp());
}

#[test]
fn the_embedded_vae_equals_diffusers() {
    let vae = AutoencoderKl::load(&pocket("vae"), Device::Cpu, Kind::Float).expect("the embedded VAE is there");
    assert_same("pocket", &vae, &tensors("vae/pocket.safetensors"));
    assert_eq!((vae.downscale(), vae.latent_channels()), (4, 4));
    assert_eq!(vae.scaling_factor(), 0.3976384227014795);
}

#[test]
fn tiny_latents_and_images_equal_diffusers() {
    for case in TINY {
        let (vae, data) = (tiny(case), tensors(&format!("vae/{case}/expected.safetensors")));
        assert_close(&format!("{case}: latents"), &vae.encode(&data["images"]), &data["encoded"], 1e-4);
        assert_close(&format!("{case}: images"), &vae.decode(&data["latents"]), &data["decoded"], 1e-4);
    }
    assert_eq!((tiny("tiny").downscale(), tiny("tiny_taesd").downscale()), (4, 8));
}

#[test]
fn a_latent_decoder_takes_scaled_latents() {
    let data = tensors("vae/bare/expected.safetensors");
    let vae = kl("bare");
    let decoder: &dyn LatentDecoder = &vae;
    assert_close("full", &decoder.decode_scaled(&(&data["latents"] * 0.3611)), &data["decoded"], 1e-4);
    let data = tensors("vae/tiny/expected.safetensors");
    let vae = tiny("tiny");
    let decoder: &dyn LatentDecoder = &vae;
    assert_close("tiny", &decoder.decode_scaled(&(&data["latents"] * 0.5)), &data["decoded"], 1e-4);
}

#[test]
fn images_carry_a_gradient_to_the_latents() {
    let decoders: [(&str, Box<dyn LatentDecoder>); 2] =
        [("one_layer", Box::new(kl("one_layer"))), ("tiny", Box::new(tiny("tiny")))];
    for (case, decoder) in decoders {
        let data = tensors(&format!("vae/{case}/expected.safetensors"));
        let latents = data["latents"].to_kind(Kind::Float).set_requires_grad(true);
        let loss = decoder.decode_scaled(&latents).square().sum(Kind::Float);
        loss.backward();
        let slope = latents.grad();
        let step = &slope * (1e-3 / slope.square().sum(Kind::Float).sqrt());
        let moved = |sign: f64| {
            decoder.decode_scaled(&(latents.detach() + &step * sign)).square().sum(Kind::Double).double_value(&[])
        };
        let expected = (&slope * &step).sum(Kind::Double).double_value(&[]);
        let found = (moved(1.0) - moved(-1.0)) / 2.0;
        assert!((found / expected - 1.0).abs() < 0.02, "{case}: gradient {expected:.4e}, difference {found:.4e}");
    }
}

/// A copy of a case's folder with its config.json changed.
fn changed(case: &str, key: &str, value: Value) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for file in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let from = fixture(&format!("vae/{case}/{file}"));
        std::fs::copy(from, folder.path().join(file)).expect("the folder is writable");
    }
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(&path).expect("the fixture is there");
    let mut config: Value = serde_json::from_str(&text).expect("the fixture parses");
    config[key] = value;
    std::fs::write(path, config.to_string()).expect("the folder is writable");
    folder
}

fn kl_error(key: &str, value: Value) -> Error {
    let folder = changed("one_layer", key, value);
    AutoencoderKl::load(folder.path(), Device::Cpu, Kind::Float).expect_err("the folder is refused")
}

#[test]
fn weights_and_configuration_must_belong_together() {
    assert!(matches!(kl_error("mid_block_add_attention", json!(false)), Error::UnusedTensors { .. }));
    assert!(matches!(kl_error("layers_per_block", json!(2)), Error::MissingTensor { .. }));
    assert!(matches!(kl_error("latent_channels", json!(4)), Error::Shape { .. }));
    let folder = changed("tiny", "num_decoder_blocks", json!([2, 1, 2]));
    assert!(AutoencoderTiny::load(folder.path(), Device::Cpu, Kind::Float).is_err());
}

#[test]
fn unsupported_keys_are_named() {
    let error = kl_error("up_block_types", json!(["AttnUpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]));
    assert!(matches!(&error, Error::Unsupported { key, .. } if key == "up_block_types"), "{error}");
    let error = kl_error("tiled", json!(true)).to_string();
    assert!(error.contains("config.json: tiled: unknown key"), "{error}");
}
