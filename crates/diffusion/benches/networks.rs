//! Times the networks on the embedded model family and prints one JSON row each: `{"name": …, "ms": …}`.
//!
//! cargo bench --workspace --bench networks -- THREADS REPEATS
//! tests/benches/networks.py runs this and PyTorch with diffusers in one go and prints the ratios.

use std::path::Path;
use std::time::Instant;

use diffusion::networks::decoder::LatentDecoder;
use diffusion::noise::normal;
use diffusion::pipeline::Pipeline;
use tch::{Device, Kind, Tensor};

const BATCH: i64 = 8;

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let (threads, repeats) = (numbers.first().copied().unwrap_or(1), numbers.get(1).copied().unwrap_or(10));
    tch::set_num_threads(threads as i32);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/pocket");
    let pipeline = Pipeline::load(&folder, Device::Cpu, Kind::Float)?;
    let latents = normal(0, "latents", 0, &[BATCH, 4, 24, 24]);
    let images = normal(0, "images", 0, &[BATCH, 3, 96, 96]).clamp(-1.0, 1.0);
    let timesteps = Tensor::full([BATCH], 500, (Kind::Int64, Device::Cpu));
    let ids = Tensor::full([BATCH, pipeline.tokenizer.max_length() as i64], 7, (Kind::Int64, Device::Cpu));
    let context = pipeline.text_encoder.forward(&ids);

    let _no_grad = tch::no_grad_guard();
    row("unet forward", repeats, || pipeline.unet.forward(&latents, &timesteps, &context));
    row("vae encode", repeats, || pipeline.vae.encode(&images).mean);
    row("vae decode", repeats, || pipeline.vae.decode_scaled(&latents));
    row("text encoder", repeats, || pipeline.text_encoder.forward(&ids));
    drop(_no_grad);
    row("unet decoder pass and its backward", repeats, || decoder_step(&pipeline, &latents, &timesteps, &context));
    Ok(())
}

/// What one edited pass of the joint step costs: the encoder without a graph, the decoder with one, and back to Δh.
fn decoder_step(pipeline: &Pipeline, latents: &Tensor, timesteps: &Tensor, context: &Tensor) -> Tensor {
    let bottleneck = tch::no_grad(|| pipeline.unet.encode(latents, timesteps, context));
    let delta = bottleneck.h.zeros_like().set_requires_grad(true);
    let output = pipeline.unet.decode(&bottleneck.shifted(&delta), context);
    Tensor::run_backward(&[output.square().mean(Kind::Float)], &[&delta], false, false).remove(0)
}

fn row(name: &str, repeats: usize, run: impl Fn() -> Tensor) {
    let time = || {
        let started = Instant::now();
        let _ = run();
        started.elapsed().as_secs_f64() * 1e3
    };
    let mut times: Vec<f64> = (0..repeats + 2).map(|_| time()).skip(2).collect();
    times.sort_by(f64::total_cmp);
    println!("{{\"name\": \"{name}\", \"ms\": {:.3}}}", times[times.len() / 2]);
}
