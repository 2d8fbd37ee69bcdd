//! The frozen networks, each read from its diffusers or transformers folder.

pub mod clip;
pub mod clip_text;
mod config;
pub mod cost;
pub mod decoder;
pub mod layers;
pub mod lpips;
pub mod tiny_vae;
pub mod unet;
pub mod vae;
