//! The method as a tensor library: networks read from diffusers and transformers folders, the DDIM and Asyrp
//! processes, emotion tokens, the h-space delta, the losses and the edit.
//!
//! It knows no recipes, environment, clock, network protocol or other process.

pub mod delta;
pub mod detail;
pub mod edit;
pub mod error;
pub mod images;
pub mod json;
pub mod losses;
pub mod networks;
pub mod noise;
pub mod pipeline;
pub mod process;
pub mod run;
mod single_file;
pub mod text;
pub mod tokens;
pub mod weights;

pub use error::{Error, Result};
