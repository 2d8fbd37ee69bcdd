//! The method as a tensor library: networks read from diffusers and transformers folders, the DDIM and Asyrp
//! processes, emotion tokens, the h-space delta, the losses and the edit.
//!
//! It knows no configuration files, environment, clock, network protocol or other process.

pub mod error;
pub mod hub;
pub mod images;
pub mod networks;
pub mod process;
pub mod text;
pub mod weights;

pub use error::{Error, Result};
