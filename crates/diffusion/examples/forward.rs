//! Runs one network of a diffusers or transformers folder on tensors from a file: the way to check a checkpoint
//! against the library that it came from.
//!
//! ```text
//! cargo run --release -p diffusion --example forward -- --network unet --model sd15/unet --inputs in.safetensors --outputs out.safetensors
//! ```
//!
//! Computes in f32 on the CPU. Exit codes: 0 done; 1 the outputs cannot be written; 2 bad arguments, model or inputs.
//!
//! Shapes: b batch, c channels, h height, w width, n tokens, d features.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail, ensure, Context, Result};
use clap::{Parser, ValueEnum};
use diffusion::json;
use diffusion::networks::clip::Clip;
use diffusion::networks::clip_text::TextEncoder;
use diffusion::networks::lpips::{Backbone, Lpips};
use diffusion::networks::tiny_vae::AutoencoderTiny;
use diffusion::networks::unet::UNet;
use diffusion::networks::vae::AutoencoderKl;
use diffusion::weights::{Placement, Weights};
use tch::{Device, Kind, Tensor};

const CPU: (Device, Kind) = (Device::Cpu, Kind::Float);

/// Run one network of a diffusers or transformers folder on the tensors of a safetensors file.
#[derive(Parser)]
#[command(after_help = "Inputs → outputs by name:
  unet          sample, timestep (one per row), encoder_hidden_states → sample, h
  vae-encoder   sample → mean, std (of the posterior, unscaled); of an AutoencoderTiny latents
  vae-decoder   latents (unscaled) → sample; of an AutoencoderKL or an AutoencoderTiny
  text-encoder  input_ids → last_hidden_state
  clip-text     input_ids → text_embeds (before normalisation)
  clip-image    pixel_values → image_embeds (before normalisation)
  lpips         a, b in [-1, 1] → distance")]
struct Args {
    /// Which network to run
    #[arg(long, value_enum)]
    network: Network,
    /// The model's own folder (…/unet, …/vae, …); for lpips a safetensors file or the folder that holds it
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Safetensors file with the inputs
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    outputs: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Network {
    Unet,
    VaeEncoder,
    VaeDecoder,
    TextEncoder,
    ClipText,
    ClipImage,
    Lpips,
}

type Outputs = Vec<(&'static str, Tensor)>;

fn main() -> ExitCode {
    let args = Args::parse();
    let outputs = match tch::no_grad(|| compute(&args)) {
        Ok(outputs) => outputs,
        Err(error) => return fail(&error, 2),
    };
    match write(&args.outputs, &outputs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let mut line = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // The library's errors carry their cause in their own message.
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    eprintln!("forward: {}", line.replace('\n', " "));
    ExitCode::from(code)
}

fn compute(args: &Args) -> Result<Outputs> {
    let inputs = Inputs::read(&args.inputs)?;
    let folder = args.outputs.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "{}: no such folder for --outputs; create it first", folder.display());
    let run = match args.network {
        Network::Unet => unet,
        Network::VaeEncoder => vae_encoder,
        Network::VaeDecoder => vae_decoder,
        Network::TextEncoder => text_encoder,
        Network::ClipText => clip_text,
        Network::ClipImage => clip_image,
        Network::Lpips => lpips,
    };
    run(&args.model, &inputs)
}

fn unet(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let unet = UNet::load(model, CPU.0, CPU.1)?;
    let config = unet.config();
    let smallest = if config.downsample_padding == 0 { unet.downscale() } else { 1 };
    let (height, width) = (Dim::AtLeast("h", smallest), Dim::AtLeast("w", smallest));
    let sample = inputs.floats("sample", &[BATCH, Dim::Is(config.in_channels), height, width])?;
    let rows = Dim::Is(sample.size()[0]);
    let timestep = inputs.floats("timestep", &[rows])?;
    let tokens = [rows, Dim::AtLeast("n", 1), Dim::Is(config.cross_attention_dim)];
    let context = inputs.floats("encoder_hidden_states", &tokens)?;
    let bottleneck = unet.encode(&sample, &timestep, &context);
    let output = unet.decode(&bottleneck, &context);
    Ok(vec![("sample", output), ("h", bottleneck.h)])
}

fn vae_encoder(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    if is_tiny(model)? {
        let vae = AutoencoderTiny::load(model, CPU.0, CPU.1)?;
        let (height, width) = (Dim::AtLeast("h", vae.downscale()), Dim::AtLeast("w", vae.downscale()));
        let images = inputs.floats("sample", &[BATCH, Dim::Is(3), height, width])?;
        return Ok(vec![("latents", vae.encode(&images))]);
    }
    let vae = AutoencoderKl::load(model, CPU.0, CPU.1)?;
    let (height, width) = (Dim::AtLeast("h", vae.downscale()), Dim::AtLeast("w", vae.downscale()));
    let images = inputs.floats("sample", &[BATCH, Dim::Is(3), height, width])?;
    let posterior = vae.encode(&images);
    Ok(vec![("mean", posterior.mean), ("std", posterior.std)])
}

/// Whether the model is an AutoencoderTiny rather than an AutoencoderKL; a single file is never one.
fn is_tiny(model: &Path) -> Result<bool> {
    Ok(!model.is_file() && json::read(&model.join("config.json"))?["_class_name"] == "AutoencoderTiny")
}

fn vae_decoder(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let latents = |channels| [BATCH, Dim::Is(channels), Dim::AtLeast("h", 1), Dim::AtLeast("w", 1)];
    if is_tiny(model)? {
        let vae = AutoencoderTiny::load(model, CPU.0, CPU.1)?;
        return Ok(vec![("sample", vae.decode(&inputs.floats("latents", &latents(vae.latent_channels()))?))]);
    }
    let vae = AutoencoderKl::load(model, CPU.0, CPU.1)?;
    let shape = latents(vae.latent_channels());
    Ok(vec![("sample", vae.decode(&inputs.floats("latents", &shape)?))])
}

fn text_encoder(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let encoder = TextEncoder::load(model, CPU.0, CPU.1)?;
    let ids = inputs.ids("input_ids", &encoder)?;
    Ok(vec![("last_hidden_state", encoder.forward(&ids))])
}

fn clip_text(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let clip = Clip::load(model, CPU.0, CPU.1)?;
    let ids = inputs.ids("input_ids", clip.text())?;
    Ok(vec![("text_embeds", clip.text_embeds(&ids))])
}

fn clip_image(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let clip = Clip::load(model, CPU.0, CPU.1)?;
    let side = Dim::Is(clip.image_size());
    let pixels = inputs.floats("pixel_values", &[BATCH, Dim::Is(3), side, side])?;
    Ok(vec![("image_embeds", clip.image_embeds(&pixels))])
}

fn lpips(model: &Path, inputs: &Inputs) -> Result<Outputs> {
    let file = lpips_file(model)?;
    let is_vgg = Weights::from_file(&file, Placement::headers(CPU.1))?.root().has("net.features.28.weight");
    let (backbone, smallest) = if is_vgg { (Backbone::Vgg, 16) } else { (Backbone::Alex, 31) };
    let lpips = Lpips::load(&file, backbone, CPU.0)?;
    let a = inputs.floats("a", &[BATCH, Dim::Is(3), Dim::AtLeast("h", smallest), Dim::AtLeast("w", smallest)])?;
    let shape: Vec<Dim> = a.size().into_iter().map(Dim::Is).collect();
    let b = inputs.floats("b", &shape)?;
    Ok(vec![("distance", lpips.distance(&a, &b))])
}

/// The file itself, or in a folder lpips_alex.safetensors, or the only safetensors file there.
fn lpips_file(model: &Path) -> Result<PathBuf> {
    if !model.is_dir() {
        return Ok(model.to_path_buf());
    }
    let alex = model.join("lpips_alex.safetensors");
    if alex.is_file() {
        return Ok(alex);
    }
    let entries = std::fs::read_dir(model).with_context(|| model.display().to_string())?;
    let paths = entries.filter_map(|entry| entry.ok().map(|e| e.path()));
    let mut files: Vec<PathBuf> = paths.filter(|p| p.extension().is_some_and(|e| e == "safetensors")).collect();
    match (files.pop(), files.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_), false) => bail!("{}: several safetensors files; name one with --model", model.display()),
        (None, _) => bail!("{}: no safetensors file with LPIPS weights", model.display()),
    }
}

/// One side of a tensor as a network expects it.
#[derive(Clone, Copy)]
enum Dim {
    Is(i64),
    AtLeast(&'static str, i64),
    Between(&'static str, i64, i64),
}

const BATCH: Dim = Dim::AtLeast("b", 1);

impl Dim {
    fn accepts(self, size: i64) -> bool {
        match self {
            Dim::Is(expected) => size == expected,
            Dim::AtLeast(_, least) => size >= least,
            Dim::Between(_, least, most) => (least..=most).contains(&size),
        }
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Is(expected) => write!(f, "{expected}"),
            Dim::AtLeast(name, least) => write!(f, "{name} ≥ {least}"),
            Dim::Between(name, least, most) => write!(f, "{least} ≤ {name} ≤ {most}"),
        }
    }
}

/// The tensors of the inputs file, checked as they are taken.
struct Inputs {
    path: PathBuf,
    tensors: BTreeMap<String, Tensor>,
}

impl Inputs {
    fn read(path: &Path) -> Result<Self> {
        ensure!(path.is_file(), "{}: no such file; --inputs takes a safetensors file", path.display());
        let tensors = Tensor::read_safetensors(path)
            .map_err(|error| anyhow!("{}: not a readable safetensors file ({error})", path.display()))?;
        Ok(Self { path: path.to_path_buf(), tensors: tensors.into_iter().collect() })
    }

    /// Any numbers as f32.
    fn floats(&self, name: &str, shape: &[Dim]) -> Result<Tensor> {
        Ok(self.checked(name, shape)?.to_kind(Kind::Float))
    }

    /// Token ids of `encoder`: (b, n), integers within its table.
    fn ids(&self, name: &str, encoder: &TextEncoder) -> Result<Tensor> {
        let ids = self.checked(name, &[BATCH, Dim::Between("n", 1, encoder.max_length())])?;
        let (path, vocabulary) = (self.path.display(), encoder.token_table().size()[0]);
        let is_integer = matches!(ids.kind(), Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8);
        ensure!(is_integer, "{path}: input {name} holds {:?}, expected integers", ids.kind());
        let ids = ids.to_kind(Kind::Int64);
        let (low, high) = (ids.min().int64_value(&[]), ids.max().int64_value(&[]));
        let within = low >= 0 && high < vocabulary;
        ensure!(within, "{path}: input {name} holds ids from {low} to {high}, the table has 0 to {}", vocabulary - 1);
        Ok(ids)
    }

    fn checked(&self, name: &str, shape: &[Dim]) -> Result<&Tensor> {
        let path = self.path.display();
        let tensor = self.tensors.get(name).with_context(|| {
            let found: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
            format!("{path}: input {name} is missing; the file holds: {}", found.join(", "))
        })?;
        let size = tensor.size();
        let fits = size.len() == shape.len() && shape.iter().zip(&size).all(|(dim, &side)| dim.accepts(side));
        let expected: Vec<String> = shape.iter().map(Dim::to_string).collect();
        ensure!(fits, "{path}: input {name} has shape {size:?}, expected ({})", expected.join(", "));
        Ok(tensor)
    }
}

fn write(path: &Path, outputs: &Outputs) -> Result<()> {
    let named: Vec<(&str, Tensor)> = outputs.iter().map(|(name, tensor)| (*name, tensor.contiguous())).collect();
    Tensor::write_safetensors(&named, path).map_err(|error| anyhow!("{}: cannot be written ({error})", path.display()))
}
