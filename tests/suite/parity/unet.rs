//! Parity of the UNet with diffusers' UNet2DConditionModel: output, h, and gradients through the seam.
//!
//! Fixture: python tests/fixtures/unet/make.py (torch 2.11.0, diffusers 0.42.1)

use std::collections::BTreeMap;
use std::path::Path;

use diffusion::networks::unet::{Config, UNet};
use diffusion::weights::{MemoryFormat, Placement};
use diffusion::Error;
use serde::Deserialize;
use serde_json::{json, Value};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::fixtures::{assert_close, fixture, pocket, tensors};

const CASES: [&str; 4] = ["sd1", "sd2", "odd", "odd_padded"];

#[derive(Deserialize)]
struct Model {
    config: Value,
    shapes: BTreeMap<String, Vec<i64>>,
}

/// The generator of the fixture's script: FNV-1a of the name seeds SplitMix64, a value sums four 16-bit quarters.
pub(crate) fn draw(name: &str, shape: &[i64]) -> Tensor {
    let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |v, b| (v ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    let value = |i: i64| {
        let mut z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let quarters: i64 = [0, 16, 32, 48].iter().map(|s| ((z >> s) & 0xFFFF) as i64).sum();
        ((quarters - 131_070) as f64 / (f64::from(u32::MAX) / 3.0).sqrt()) as f32
    };
    Tensor::from_slice(&(0..shape.iter().product()).map(value).collect::<Vec<f32>>()).view(shape)
}

/// Scaled so that activations stay near 1; norms near 1, every bias away from 0.
fn parameter(name: &str, shape: &[i64]) -> Tensor {
    let values = draw(name, shape);
    if name.ends_with("bias") {
        values * 0.25
    } else if shape.len() == 1 {
        values * 0.25 + 1.0
    } else {
        let fan_in: i64 = shape[1..].iter().product();
        values * (1.0 / (fan_in as f64).sqrt())
    }
}

/// A diffusers `unet` folder that a test may spoil before it is loaded.
struct Folder {
    directory: TempDir,
    config: Value,
    weights: BTreeMap<String, Tensor>,
}

impl Folder {
    fn of_case(case: &str) -> Self {
        let text = std::fs::read_to_string(fixture(&format!("unet/{case}.json"))).expect("the fixture is there");
        let model: Model = serde_json::from_str(&text).expect("the fixture parses");
        let weights = model.shapes.iter().map(|(name, shape)| (name.clone(), parameter(name, shape))).collect();
        Self { directory: tempfile::tempdir().expect("a temporary folder"), config: model.config, weights }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn load(&self) -> Result<UNet, Error> {
        std::fs::write(self.path().join("config.json"), self.config.to_string()).expect("the folder is writable");
        let named: Vec<(&String, &Tensor)> = self.weights.iter().collect();
        let file = self.path().join("diffusion_pytorch_model.safetensors");
        Tensor::write_safetensors(&named, file).expect("the folder is writable");
        UNet::load(self.path(), Device::Cpu, Kind::Float)
    }

    fn error(&self) -> String {
        self.load().expect_err("the folder is refused").to_string()
    }
}

fn config_error(key: &str, value: Value) -> String {
    let mut folder = Folder::of_case("sd1");
    folder.config[key] = value;
    folder.error()
}

fn read_config(config: Value) -> Result<Config, Error> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("the folder is writable");
    Config::read(folder.path())
}

#[test]
fn output_and_h_equal_diffusers() {
    for case in CASES {
        let unet = Folder::of_case(case).load().expect("the case is supported");
        let data = tensors(&format!("unet/{case}.safetensors"));
        let context = &data["encoder_hidden_states"];
        let bottleneck = unet.encode(&data["sample"], &data["timestep"], context);
        assert_close(&format!("{case}: h"), &bottleneck.h, &data["h"], 1e-4);
        let output = unet.decode(&bottleneck, context);
        assert_close(&format!("{case}: output"), &output, &data["output"], 1e-4);
        assert_eq!(output, unet.forward(&data["sample"], &data["timestep"], context), "{case}: forward composes");
        let shifted = unet.decode(&bottleneck.shifted(&data["delta"]), context);
        assert_close(&format!("{case}: output at h + delta"), &shifted, &data["shifted_output"], 1e-4);
        assert_eq!(unet.bottleneck_channels(), bottleneck.h.size()[1]);
        assert_eq!(unet.temb_channels(), bottleneck.temb.size()[1]);
    }
}

#[test]
fn gradients_equal_autograd() {
    for case in CASES {
        let unet = Folder::of_case(case).load().expect("the case is supported");
        let data = tensors(&format!("unet/{case}.safetensors"));
        let context = data["encoder_hidden_states"].set_requires_grad(true);
        let delta = data["delta"].set_requires_grad(true);
        let bottleneck = unet.encode(&data["sample"], &data["timestep"], &context);
        let output = unet.decode(&bottleneck.shifted(&delta), &context);
        let scalar = (output * &data["direction"]).sum(Kind::Float);
        let gradients = Tensor::run_backward(&[scalar], &[&context, &delta], false, false);
        let name = format!("{case}: gradient of encoder_hidden_states");
        assert_close(&name, &gradients[0], &data["grad_encoder_hidden_states"], 1e-3);
        assert_close(&format!("{case}: gradient of h"), &gradients[1], &data["grad_h"], 1e-3);
    }
}

#[test]
fn timesteps_of_any_kind_give_one_embedding() {
    let unet = Folder::of_case("odd_padded").load().expect("the case is supported");
    let data = tensors("unet/odd_padded.safetensors");
    let temb = |t: &Tensor| unet.encode(&data["sample"], t, &data["encoder_hidden_states"]).temb;
    let expected = temb(&data["timestep"]);
    for kind in [Kind::Float, Kind::Double, Kind::Int] {
        assert_eq!(temb(&data["timestep"].to_kind(kind)), expected, "{kind:?}");
    }
}

#[test]
fn half_weights_compute_near_the_full_ones() {
    let folder = Folder::of_case("sd2");
    folder.load().expect("the case is supported");
    let data = tensors("unet/sd2.safetensors");
    for kind in [Kind::BFloat16, Kind::Half] {
        let unet = UNet::load(folder.path(), Device::Cpu, kind).expect("the case is supported");
        let context = data["encoder_hidden_states"].to_kind(kind);
        let output = unet.forward(&data["sample"].to_kind(kind), &data["timestep"], &context);
        assert_eq!(output.kind(), kind);
        assert_close(&format!("{kind:?}"), &output, &data["output"], 0.25);
    }
}

#[test]
fn the_embedded_unet_loads() {
    let unet = UNet::load(&pocket("unet"), Device::Cpu, Kind::Float).expect("the embedded UNet is supported");
    let cpu = (Kind::Float, Device::Cpu);
    let context = Tensor::zeros([1, 3, unet.config().cross_attention_dim], cpu);
    let output = unet.forward(&Tensor::zeros([1, 4, 16, 16], cpu), &Tensor::from_slice(&[500_i64]), &context);
    assert_eq!(output.size(), [1, 4, 16, 16]);
    assert_eq!(output.isfinite().all().int64_value(&[]), 1);
}

#[test]
fn kernels_laid_channels_last_say_the_same_and_carry_their_layout_through() {
    let cpu = (Kind::Float, Device::Cpu);
    let latents = diffusion::noise::normal(0, "z", 0, &[2, 4, 16, 16]);
    let said = [MemoryFormat::Contiguous, MemoryFormat::ChannelsLast].map(|memory_format| {
        let unet =
            UNet::load_with(&pocket("unet"), Placement { memory_format, ..Placement::new(Device::Cpu, Kind::Float) })
                .expect("supported");
        let context = Tensor::zeros([2, 3, unet.config().cross_attention_dim], cpu);
        unet.forward(&latents, &Tensor::from_slice(&[500_i64, 20]), &context)
    });
    assert_close("the noise", &said[1], &said[0], 1e-4);
    assert_eq!((said[0].stride(), said[1].stride()), (vec![1024, 256, 16, 1], vec![1024, 1, 64, 4]));
}

fn sd15_config() -> Value {
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "attention_head_dim": 8, "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false,
        "cross_attention_dim": 768,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
    })
}

fn sd21_config() -> Value {
    json!({
        "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.10.0.dev0", "act_fn": "silu",
        "attention_head_dim": [5, 10, 20, 20], "block_out_channels": [320, 640, 1280, 1280],
        "center_input_sample": false, "cross_attention_dim": 1024,
        "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        "downsample_padding": 1, "dual_cross_attention": false, "flip_sin_to_cos": true, "freq_shift": 0,
        "in_channels": 4, "layers_per_block": 2, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
        "norm_num_groups": 32, "num_class_embeds": null, "only_cross_attention": false, "out_channels": 4,
        "sample_size": 96,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        "use_linear_projection": true, "upcast_attention": true
    })
}

#[test]
fn published_configurations_equal_the_named_ones() {
    assert_eq!(read_config(sd15_config()).expect("SD 1.5 is supported"), Config::sd15());
    assert_eq!(read_config(sd21_config()).expect("SD 2.1 is supported"), Config::sd21());
    assert_eq!(Config::sd15().deepest().channels, 1280);
    assert_eq!(Config::sd15().temb_channels(), 1280);
}

#[test]
fn absent_keys_have_diffusers_defaults() {
    let defaults = read_config(json!({})).expect("every key has a default");
    let expected = Config { cross_attention_dim: 1280, sample_size: None, ..Config::sd15() };
    assert_eq!(defaults, expected);
}

#[test]
fn num_attention_heads_wins_over_the_misnamed_key() {
    let mut config = sd15_config();
    config["num_attention_heads"] = json!(16);
    assert!(read_config(config).expect("supported").levels.iter().all(|level| level.heads == 16));
}

#[test]
fn unsupported_configurations_are_refused_by_key_and_value() {
    for (key, value, says) in [
        (
            "down_block_types",
            json!(["AttnDownBlock2D", "DownBlock2D"]),
            "AttnDownBlock2D is not supported; supported are",
        ),
        ("up_block_types", json!(["UpBlock2D", "SkipUpBlock2D"]), "SkipUpBlock2D is not supported; supported are"),
        ("up_block_types", json!(["UpBlock2D"]), "has 1 blocks for 2 block_out_channels"),
        ("mid_block_type", json!("UNetMidBlock2D"), "is \"UNetMidBlock2D\", supported is \"UNetMidBlock2DCrossAttn\""),
        ("addition_embed_type", json!("text_time"), "is \"text_time\", supported is null"),
        ("class_embed_type", json!("timestep"), "is \"timestep\", supported is null"),
        ("num_class_embeds", json!(1000), "is 1000, supported is null"),
        ("encoder_hid_dim_type", json!("text_proj"), "supported is null"),
        ("resnet_time_scale_shift", json!("scale_shift"), "supported is \"default\""),
        ("act_fn", json!("gelu"), "supported is \"silu\" or \"swish\""),
        ("mid_block_scale_factor", json!(2), "is 2, supported is 1"),
        ("attention_head_dim", json!(7), "7 heads do not divide 32 channels"),
        ("attention_head_dim", json!([2, 4, 8]), "has 3 entries for 2 levels"),
        ("block_out_channels", json!([32, 66]), "66 is not an even multiple of 32 groups"),
        ("downsample_padding", json!(2), "is 2, supported are 0 and 1"),
        ("conv_in_kernel", json!(4), "is 4, supported are odd sides"),
        ("a_key_of_tomorrow", json!(1), "is not a key of UNet2DConditionModel"),
    ] {
        let message = config_error(key, value);
        assert!(message.contains(says), "{message:?} does not say {says:?}");
        assert!(message.contains(&format!("config.json: {key}: ")), "{message:?} does not name file and key");
    }
    assert!(config_error("_class_name", json!("AutoencoderKL")).contains("is AutoencoderKL, supported is UNet2D"));
    assert!(config_error("layers_per_block", json!("two")).contains("not a valid configuration"));
}

#[test]
fn weights_of_another_model_are_refused_by_tensor() {
    let spoilt = |spoil: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut folder = Folder::of_case("sd1");
        spoil(&mut folder.weights);
        folder.error()
    };
    let some = || Tensor::zeros([3], (Kind::Float, Device::Cpu));
    let (conv, extra) = ("mid_block.resnets.1.conv2.weight", "mid_block.resnets.2.conv2.weight");
    let wrong_shape = spoilt(&|w| drop(w.insert(conv.into(), some())));
    assert!(wrong_shape.contains(&format!("tensor {conv} has shape [3], expected [64, 64, 3, 3]")), "{wrong_shape}");
    let missing = spoilt(&|w| drop(w.remove(conv)));
    assert!(missing.contains(&format!("tensor {conv} is missing")), "{missing}");
    let unused = spoilt(&|w| drop(w.insert(extra.into(), some())));
    assert!(unused.contains("1 tensors are not used") && unused.contains(extra), "{unused}");
    let integers = spoilt(&|w| drop(w.insert(conv.into(), some().to_kind(Kind::Int))));
    assert!(integers.contains(conv), "{integers}");
}

#[test]
fn pickle_and_absent_weights_are_refused() {
    let folder = Folder::of_case("sd1");
    std::fs::write(folder.path().join("config.json"), folder.config.to_string()).expect("the folder is writable");
    let load = || UNet::load(folder.path(), Device::Cpu, Kind::Float).expect_err("nothing to load").to_string();
    assert!(load().contains("diffusion_pytorch_model.safetensors"));
    let pickle = folder.path().join("diffusion_pytorch_model.bin");
    std::fs::write(pickle, b"\x80\x02}q\x00.").expect("the folder is writable");
    let message = load();
    assert!(message.contains("diffusion_pytorch_model.bin: pickle weights are refused"), "{message}");
    assert!(message.contains("save_file"), "{message} does not say how to convert");
    let damaged = folder.path().join("diffusion_pytorch_model.safetensors");
    std::fs::write(damaged, b"not safetensors").expect("the folder is writable");
    assert!(load().contains("not a readable safetensors file"));
}
