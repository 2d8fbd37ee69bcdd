//! The tokeniser.

pub mod tokenizer;
