//! Prompts to token ids.

pub mod cleaning;
pub mod tokenizer;
