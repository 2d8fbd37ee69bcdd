//! Parity with diffusers, transformers and lpips on committed fixtures.

mod clip;
mod cost;
mod images;
mod lpips;
mod photos;
mod schedule;
mod tokenizer;
pub(crate) mod unet;
mod vae;
