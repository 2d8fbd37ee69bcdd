//! The emotions, whose they are, and how a prompt names them.

mod emotion;
mod namespace;
pub mod template;

pub use emotion::{Emotion, UnknownEmotion};
pub use namespace::Namespace;
