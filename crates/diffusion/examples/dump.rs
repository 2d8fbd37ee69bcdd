//! Writes the weights of a model as they are read: one safetensors file, f32, under the names that the network asks for.
//! Two folders, or a folder and a single file, hold the same model where what is written is the same.
//!
//! ```text
//! cargo run --release -p diffusion --example dump -- --part unet --model sd15/unet --output unet.safetensors
//! ```
//!
//! Exit codes: 0 done; 1 the output cannot be written; 2 bad arguments or model.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use diffusion::networks::clip::Clip;
use diffusion::networks::clip_text::TextEncoder;
use diffusion::networks::tiny_vae::AutoencoderTiny;
use diffusion::networks::unet::UNet;
use diffusion::networks::vae::AutoencoderKl;
use diffusion::pipeline::{Part, DIFFUSERS_STEM, TRANSFORMERS_STEM};
use diffusion::weights::{write_file, Placement, Weights};
use diffusion::Result;
use tch::{Device, Kind, Tensor};

/// Write every tensor of a network as it is read.
#[derive(Parser)]
struct Args {
    /// Which network it is
    #[arg(long, value_enum)]
    part: Network,
    /// The network's own folder, or a single file with a whole Stable Diffusion
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Network {
    Unet,
    Vae,
    TinyVae,
    TextEncoder,
    Clip,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let weights = match weights(args.part, &args.model) {
        Ok(weights) => weights,
        Err(error) => return fail(&error, 2),
    };
    let named: Vec<(String, Tensor)> =
        weights.tensors().map(|(name, tensor)| (name.to_string(), tensor.shallow_clone())).collect();
    match write_file(&args.output, &named, None) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &diffusion::Error, code: u8) -> ExitCode {
    eprintln!("dump: {error}");
    ExitCode::from(code)
}

/// The weights, after the network has accepted them.
fn weights(part: Network, model: &Path) -> Result<Weights> {
    let (device, kind) = (Device::Cpu, Kind::Float);
    let placement = Placement::new(device, kind);
    match part {
        Network::Unet => UNet::load(model, device, kind).and_then(|_| Part::Unet.weights(model, placement)),
        Network::Vae => AutoencoderKl::load(model, device, kind).and_then(|_| Part::Vae.weights(model, placement)),
        Network::TextEncoder => {
            TextEncoder::load(model, device, kind).and_then(|_| Part::TextEncoder.weights(model, placement))
        }
        Network::TinyVae => AutoencoderTiny::load(model, device, kind)
            .and_then(|_| Weights::from_folder(model, DIFFUSERS_STEM, placement)),
        Network::Clip => {
            Clip::load(model, device, kind).and_then(|_| Weights::from_folder(model, TRANSFORMERS_STEM, placement))
        }
    }
}
