//! Frozen networks that judge pictures, for the evaluator's reports and the trainer's validation.
//!
//! [`classifier`] finds Mikels' eight emotions, from pixels or through a CLIP ([`embedder`]). [`networks`] are the
//! image networks in torchvision's layout that classifiers and the metrics over sets use. None of them may take part
//! in a loss.

pub mod classifier;
pub mod embedder;
pub mod error;
pub mod networks;

pub use classifier::Classifier;
pub use embedder::Embedder;
pub use error::{Error, Result};
