//! The method as a tensor library: networks read from diffusers and transformers folders, the DDIM and Asyrp
//! processes, emotion tokens, the h-space delta, the losses and the edit.
//!
//! It knows no recipes, environment, clock, network protocol or other process.
//!
//! From a photo to an edit, with a trained run (`make demo` trains this one):
//!
//! ```no_run
//! use std::path::Path;
//!
//! use diffusion::edit::Editor;
//! use diffusion::images::{write_photo, Photo};
//! use diffusion::pipeline::Pipeline;
//! use diffusion::run::Run;
//! use tch::{Device, Kind};
//!
//! let run = Run::open(Path::new("runs/pocket/excitement"))?;
//! let pipeline = Pipeline::load(Path::new("assets/pocket"), Device::Cpu, Kind::Float)?;
//! let editor = Editor::new(pipeline, &run, Device::Cpu)?;
//! let photo = Photo::read(Path::new("photo.jpg"))?;
//! let source = editor.source_of_photo(&photo, 96)?; // inverted once, for all emotions and strengths
//! let edited = editor.edit_photo(&photo, &source, &[("excitement".into(), 1.0)], 1.0)?;
//! write_photo(Path::new("edited.png"), &edited)?;
//! # Ok::<(), diffusion::Error>(())
//! ```
//!
//! What an edit stands on needs no run: a picture becomes a latent, goes up to noise, and is decoded.
//!
//! ```
//! use std::path::Path;
//!
//! use diffusion::images;
//! use diffusion::pipeline::Pipeline;
//! use diffusion::process::ddim::{invert, InversionSchedule};
//! use diffusion::tokens::Prompt;
//! use tch::{Device, Kind};
//!
//! let pipeline = Pipeline::load(Path::new("../../assets/pocket"), Device::Cpu, Kind::Float)?;
//! let photo = images::read_photo(Path::new("../../tests/fixtures/images/portrait.png"))?;
//! let pixels = images::to_tensor(&images::resize(&photo, 96, 96)?); // (1, 3, 96, 96)
//! let latents = pipeline.latents_from_images(&pixels);
//! let context = pipeline.context(&Prompt::plain(&pipeline.tokenizer, "a person"), None);
//! let steps = InversionSchedule::new(&pipeline.schedule, 3);
//! let trajectory = invert(&pipeline.unet, &pipeline.schedule, &steps, &latents, &context);
//! assert_eq!(trajectory.latent(0), latents, "it begins at the photo's own latent");
//! let round_trip = pipeline.images_from_latents(&trajectory.latent(0));
//! assert_eq!(round_trip.size(), [1, 3, 96, 96]);
//! # Ok::<(), diffusion::Error>(())
//! ```

pub mod delta;
pub mod detail;
pub mod edit;
pub mod error;
pub mod images;
pub mod json;
pub mod losses;
mod model_files;
pub mod networks;
pub mod noise;
mod part;
pub mod pipeline;
pub mod process;
pub mod run;
mod single_file;
pub mod text;
pub mod tokens;
pub mod weights;

pub use error::{Error, Result};
